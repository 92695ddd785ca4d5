"""`fivrec connect`: runs the Connect emulator on a port, and sets what it answers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.errors import MissingSetting, UsageError

if TYPE_CHECKING:
    from reconciler.core.secret import Secret
    from reconciler.emulator.state import EmulatorState, Instance

_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".fivrec/connect.json"),
    show_default=True,
    help="The emulator's state file (it holds the keys: mode 0600).",
)


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
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="Its private key, PEM.")
@click.option("--instance", help="Make this instance known first.")
@click.option("--key-env", help="The variable that holds its key (else one is made).")
@_state_option
def serve(
    listen: str, tls_cert: Path | None, tls_key: Path | None, instance: str | None, key_env: str | None, state: Path
) -> None:
    """Answer on a port until SIGINT or SIGTERM. Without TLS on loopback only.

    \b
    Example:
      fivrec connect serve --listen 127.0.0.1:8443 --tls-cert cert.pem --tls-key key.pem
    """
    from reconciler.emulator.server import listen_from_text
    from reconciler.emulator.server import serve as run
    from reconciler.emulator.store import StateFile

    place = listen_from_text(listen, tls_cert, tls_key)
    file = StateFile(state)
    if key_env and not instance:
        raise UsageError("--key-env needs --instance", hint="name the instance that the key is for")
    if instance:
        _check_name(instance)
        _change(file.path, instance, Settings(key=_key(key_env)))
    number = run(file, place, lambda url: click.echo(f"Fi.V Connect emulator on {url}", err=True))
    raise SystemExit(128 + number if number else 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `connect set` was asked to set; None leaves it as it is. `no_plans` makes the list empty."""

    key: Secret | None = None
    status: str | None = None
    billing: str | None = None
    features: tuple[tuple[str, bool], ...] = ()
    fail: str | None = None
    delay_s: float | None = None
    plans: tuple[dict[str, Any], ...] | None = None
    reset: bool = False


@command.command("set")
@click.argument("instance", metavar="ID")
@click.option("--status", help="active, suspended, pending_payment, or any word as a drill.")
@click.option("--billing", help="paid, overdue, or any word as a drill.")
@click.option("--feature", multiple=True, metavar="NAME=true|false", help="Switch a feature; repeatable.")
@click.option("--key-env", help="The variable that holds the instance's key.")
@click.option(
    "--fail",
    help="Answer with an HTTP status (400-599), html, list, redirect, other-instance or garbage; none ends it.",
)
@click.option("--delay", help="Wait before each answer: 2s, 500ms.")
@click.option(
    "--plans-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON list of plans, for all instances.",
)
@click.option("--no-plans", is_flag=True, help="Answer with an empty list of plans.")
@click.option("--reset", is_flag=True, help="Back to active, paid, no fault, the three plans; the key stays.")
@_state_option
def set_(
    instance: str,
    status: str | None,
    billing: str | None,
    feature: tuple[str, ...],
    key_env: str | None,
    fail: str | None,
    delay: str | None,
    plans_file: Path | None,
    no_plans: bool,  # noqa: FBT001  click's flags
    reset: bool,  # noqa: FBT001
    state: Path,
) -> None:
    """Set what Connect answers about an instance; a running `connect serve` follows at once.

    \b
    Example:
      fivrec connect set client-abc-123 --status suspended --billing overdue --feature chatbot=false
      fivrec connect set client-abc-123 --fail 500 --delay 2s
      fivrec connect set client-abc-123 --reset
    """
    _check_name(instance)
    if plans_file and no_plans:
        raise UsageError("--plans-file and --no-plans contradict each other")
    settings = Settings(
        key=_key(key_env),
        status=status,
        billing=billing,
        features=tuple(_feature(text) for text in feature),
        fail=None if fail is None else _fail(fail),
        delay_s=None if delay is None else _seconds(delay),
        plans=() if no_plans else _plans(plans_file),
        reset=reset,
    )
    after = _change(state, instance, settings)
    click.echo(_line(instance, after.instances[instance]))


@command.command("show")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_state_option
def show(output: str, state: Path) -> None:
    """Show the instances that the emulator knows, without their keys.

    \b
    Example:
      fivrec connect show -o json
    """
    from reconciler.emulator.state import state_to_json
    from reconciler.emulator.store import StateFile

    held = StateFile(state).read()
    if output == "json":
        document = state_to_json(held)
        for item in document["instances"].values():
            del item["key"]
        document["plans"] = held.current_plans()
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for name, instance in sorted(held.instances.items()):
        click.echo(_line(name, instance))
    click.echo("plans: " + (", ".join(str(plan.get("id")) for plan in held.current_plans()) or "none"))


def _change(path: Path, name: str, settings: Settings) -> EmulatorState:
    """The key is made on first sight, as `embedded:` does; a key that another instance has is refused."""
    from reconciler.emulator.store import StateFile, issue_key

    file = StateFile(path)
    taken = [other for other, known in file.read().instances.items() if other != name and known.key == settings.key]
    if settings.key and taken:
        raise MissingSetting(
            f"the key is that of instance {taken[0]} already", hint="give each instance a key of its own"
        )
    issue_key(file, name, settings.key)
    return file.update(lambda state: _applied(state, name, settings))


def _applied(state: EmulatorState, name: str, settings: Settings) -> EmulatorState:
    from reconciler.emulator.state import Fault, default_features

    before = state.instances[name]
    plans = state.plans
    if settings.reset:
        before = replace(
            before, status="active", billing_status="paid", enabled_features=default_features(), fault=Fault()
        )
        plans = None
    fault = Fault(
        before.fault.fail if settings.fail is None else settings.fail,
        before.fault.delay_s if settings.delay_s is None else settings.delay_s,
    )
    after = replace(
        before,
        key=settings.key or before.key,
        status=settings.status or before.status,
        billing_status=settings.billing or before.billing_status,
        enabled_features={**before.enabled_features, **dict(settings.features)},
        fault=fault,
    )
    state = replace(state, plans=plans if settings.plans is None else settings.plans)
    return state.with_instance(name, after)


def _line(name: str, instance: Instance) -> str:
    features = " ".join(
        f"{feature}={'on' if on else 'off'}" for feature, on in sorted(instance.enabled_features.items())
    )
    fault = f"  fail={instance.fault.fail}" if instance.fault.fail else ""
    delay = f"  delay={instance.fault.delay_s:g}s" if instance.fault.delay_s else ""
    return (
        f"{name} : status={instance.status} billing={instance.billing_status} {features}"
        f" usage_reports={instance.reports_counted}{fault}{delay}"
    )


def _check_name(name: str) -> None:
    import re

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise UsageError(
            f'"{name}" is not an instance id', hint="letters, digits, dot, underscore and dash; 63 at most"
        )


def _key(variable: str | None) -> Secret | None:
    from reconciler.core.secret import Secret

    if variable is None:
        return None
    value = os.environ.get(variable, "")
    if not value or value != value.strip() or not value.isprintable():
        raise MissingSetting(
            f"the variable {variable} holds no key that a header can carry",
            hint=f"export {variable} with the instance's key",
        )
    return Secret(value)


def _feature(text: str) -> tuple[str, bool]:
    name, _, word = text.partition("=")
    if not name or word not in ("true", "false"):
        raise UsageError(f'--feature "{text}" is not NAME=true or NAME=false')
    return name, word == "true"


def _fail(text: str) -> str:
    from reconciler.emulator.state import FAULTS

    if text == "none":
        return ""
    if text in FAULTS or (text.isascii() and text.isdigit() and 400 <= int(text) <= 599):  # noqa: PLR2004  HTTP's
        return text
    raise UsageError(f'--fail "{text}" is not known', hint=f"an HTTP status of 400-599, {', '.join(FAULTS)}, none")


def _seconds(text: str) -> float:
    number, scale = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = float(number) * scale
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:  # noqa: PLR2004  an hour; also refuses nan
        raise UsageError(f'--delay "{text}" is not a time like 2s or 500ms')
    return seconds


def _plans(path: Path | None) -> tuple[dict[str, Any], ...] | None:
    if path is None:
        return None
    try:
        plans = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a file of JSON") from error
    if not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        raise UsageError(f"{path} is not a list of plans", hint="a JSON list, as GET /api/v1/plans answers it")
    return tuple(plans)
