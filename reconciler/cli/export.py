"""`fivrec export`: a manifest of the live state."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from reconciler.cli.options import Settings, log_options, text_or_variable
from reconciler.errors import Refused, UsageError

HEADER = "# yaml-language-server: $schema=../schemas/manifest.v1.schema.json\n"


@click.command("export", short_help="Write a manifest of a live database.")
@click.option("--database-url", required=True, metavar="URL", help="PostgreSQL URL, or env:NAME for a variable.")
@click.option("--instance", metavar="ID", help="The instance's id at Connect.")
@click.option("--all-databases", is_flag=True, help="Every instance on the server, instead of one.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a file an instance."
)
@click.option("--environment", type=click.Choice(["production", "development"]), help="Else the one last applied.")
@click.option(
    "--plans", type=click.Choice(["connect", "manifest"]), help="Where plans come from; else as last applied."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@log_options
def command(**options: Any) -> None:
    """Write a manifest of the live state on stdout, secrets as references. Applying it changes nothing.

    With --all-databases, a fleet document of every instance on the server, or with --out a file an instance; each
    instance's secrets then come from variables of its own (DATABASE_URL_CLIENT_ABC_123).

    Example: fivrec export --database-url env:DATABASE_URL --instance client-abc-123 > manifests/client-abc-123.yaml
    """
    if bool(options["instance"]) == options["all_databases"]:
        raise UsageError("give either --instance or --all-databases")
    documents = _read(options)
    if options["out"] is not None:
        _write_files(options["out"], documents)
    elif options["output"] == "json":
        shown = documents if options["all_databases"] else documents[0]
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    elif options["all_databases"]:
        instances = [{key: value for key, value in document.items() if key != "version"} for document in documents]
        click.echo(HEADER + as_yaml({"version": 1, "instances": instances}), nl=False)
    else:
        click.echo(HEADER + as_yaml(documents[0]), nl=False)


def _read(options: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    from reconciler.cli.runtime import open_log, started
    from reconciler.core.model import DatabaseSpec, Desired, EnvironmentSpec
    from reconciler.core.secret import Secret
    from reconciler.flow.export import export, export_server

    url = Secret(text_or_variable(options["database_url"]))
    log = open_log(Settings(verbose=options["verbose"], quiet=options["quiet"], log_format=options["log_format"]))
    name, plans = options["instance"] or "", options["plans"]
    bare = Desired(name, EnvironmentSpec("production"), DatabaseSpec(url, create=False), None, {})
    with started((bare,), Settings(), "export", log, dry=True, keyless=True) as ready:
        server = ready.desired[0]
        if options["all_databases"]:
            return asyncio.run(export_server(server, ready.run, plans=plans))
        return (asyncio.run(export(server, ready.run, environment=options["environment"], plans=plans)),)


def _write_files(folder: Path, documents: tuple[dict[str, Any], ...]) -> None:
    """One manifest a file; one that is there already is not written over."""
    from reconciler.adapters.atomic_files import replace_text

    folder.mkdir(parents=True, exist_ok=True)
    for document in documents:
        path = str(folder / f"{document['instance']}.yaml")
        try:
            replace_text(path, HEADER + as_yaml(document), exclusive=True)
        except FileExistsError as exc:
            raise Refused(f"{path} is there already", hint="move it away, or name another folder") from exc
        click.echo(path)


def as_yaml(document: dict[str, Any]) -> str:
    """YAML that reads as it was meant: keys in order, text that YAML 1.1 would take for something else in quotes."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    return text
