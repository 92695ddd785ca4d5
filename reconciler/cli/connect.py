"""`fivrec connect`: runs the Connect emulator on a port, and sets what it answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from reconciler.cli.collector import collect
from reconciler.cli.signals import outlive_hangup
from reconciler.cli.streams import json_text
from reconciler.model.errors import UsageError

_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".fivrec/connect.json"),
    show_default=True,
    help="The emulator's state file (it holds the keys: mode 0600).",
)
_output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format."
)
_existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="connect")
def command() -> None:
    """Run and drive the Connect emulator: Fi.V Connect's documented API for drills and tests.

    \b
    Example:
      fivrec connect serve --listen 127.0.0.1:8443 --instance client-abc-123 --key-env FIV_APP_API_KEY
      fivrec connect set client-abc-123 --status suspended
    """


@command.command("serve")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="HOST:PORT; port 0 takes a free one.")
@click.option("--tls-cert", type=_existing_file, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_existing_file, help="Its private key, PEM.")
@click.option("--instance", help="Make this instance known first.")
@click.option("--key-env", help="The variable that holds its key (else one is made).")
@_state_option
def serve(listen: str, instance: str | None, key_env: str | None, state: Path, **tls: Path | None) -> None:
    """Answer on a port until SIGINT or SIGTERM. Without TLS on loopback only.

    \b
    Example:
      fivrec connect serve --listen 127.0.0.1:8443 --tls-cert cert.pem --tls-key key.pem
    """
    from reconciler.connect.emulator import drills
    from reconciler.connect.emulator.app import build_app
    from reconciler.connect.emulator.state_file import StateFile
    from reconciler.support.asgi_server import AppServer, bound_socket, listen_from_text

    outlive_hangup()
    place = listen_from_text(listen, tls["tls_cert"], tls["tls_key"])
    file = StateFile(state)
    if key_env and not instance:
        raise UsageError("--key-env needs --instance", hint="name the instance that the key is for")
    if instance:
        drills.set_drill(file, instance, drills.Drill(key=drills.key_from(os.environ, key_env)))
    collect()
    file.read()  # a broken state is reported now, not at the first request
    with bound_socket(place) as bound:
        said = "Fi.V Connect emulator on"
        server = AppServer(build_app(file), place, bound, lambda url: click.echo(f"{said} {url}", err=True))
        number = asyncio.run(server.run_until_signal())
    raise SystemExit(128 + number if number else 0)


@command.command("set", short_help="Set what Connect answers about an instance.")
@click.argument("instance", metavar="ID")
@click.option("--status", help="active, suspended, pending_payment, or any other word, for a drill.")
@click.option("--billing", help="paid, overdue, or any other word, for a drill.")
@click.option("--feature", multiple=True, metavar="NAME=true|false", help="Switch a feature; repeatable.")
@click.option("--key-env", help="The variable that holds the instance's key.")
@click.option("--fail", help="Answer with a status of 400-599, html, list, redirect, other-instance, garbage; or none.")
@click.option("--delay", help="Wait before each answer: 2s, 500ms.")
@click.option("--plans-file", type=_existing_file, help="JSON list of plans, for all instances.")
@click.option("--no-plans", is_flag=True, help="Answer with an empty list of plans.")
@click.option("--reset", is_flag=True, help="Back to active, paid, no fault, the three plans; the key stays.")
@_state_option
def set_(instance: str, state: Path, **given: Any) -> None:
    """Set what Connect answers about an instance; a running `connect serve` follows at once.

    \b
    Example:
      fivrec connect set client-abc-123 --status suspended --billing overdue --feature chatbot=false
      fivrec connect set client-abc-123 --fail 500 --delay 2s
      fivrec connect set client-abc-123 --reset
    """
    from reconciler.connect.emulator import drills
    from reconciler.connect.emulator.state_file import StateFile

    if given["plans_file"] and given["no_plans"]:
        raise UsageError("--plans-file and --no-plans contradict each other")
    plans = drills.plans_from_file(given["plans_file"]) if given["plans_file"] else None
    drill = drills.Drill(
        key=drills.key_from(os.environ, given["key_env"]),
        status=given["status"],
        billing=given["billing"],
        features=tuple(drills.feature_from_text(text) for text in given["feature"]),
        fail=None if given["fail"] is None else drills.fail_from_text(given["fail"]),
        delay_s=None if given["delay"] is None else drills.delay_from_text(given["delay"]),
        plans=() if given["no_plans"] else plans,
        reset=given["reset"],
    )
    click.echo(drills.format_line(instance, drills.set_drill(StateFile(state), instance, drill)))


@command.command("show")
@_output_option
@_state_option
def show(output: str, state: Path) -> None:
    """Show the instances that the emulator knows, without their keys.

    \b
    Example:
      fivrec connect show -o json
    """
    from reconciler.connect.emulator.drills import format_line
    from reconciler.connect.emulator.state import state_to_json
    from reconciler.connect.emulator.state_file import StateFile

    held = StateFile(state).read()
    if output == "json":
        document = state_to_json(held)
        for item in document["instances"].values():
            del item["key"]
        document["plans"] = held.current_plans()
        click.echo(json_text(document))
        return
    for name, instance in sorted(held.instances.items()):
        click.echo(format_line(name, instance))
    click.echo("plans: " + (", ".join(str(plan.get("id")) for plan in held.current_plans()) or "none"))
