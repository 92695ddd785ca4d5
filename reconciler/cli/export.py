"""`fivrec export`: a manifest of the live state."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from reconciler.cli.options import Settings, log_options, schema_option, text_or_variable
from reconciler.cli.streams import json_text
from reconciler.model.errors import FivrecError, ManifestError, Refused, UsageError
from reconciler.model.kinds.setting import looks_secret
from reconciler.model.names import first_of, printable
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec
from reconciler.planning.report import PARTLY

if TYPE_CHECKING:
    from reconciler.support.log import EventLog

MOST_NAMED = 5
Exported: TypeAlias = tuple[dict[str, Any], dict[str, str]]
"""A manifest's document, and the settings that were left out, with the reasons."""


@click.command("export")
@click.option("--database-url", required=True, metavar="URL", help="PostgreSQL URL, or env:NAME for a variable.")
@click.option("--instance", metavar="ID", help="The instance's id at Connect.")
@schema_option
@click.option("--all-databases", is_flag=True, help="Every instance on the server, instead of one.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write one file per instance."
)
@click.option(
    "--environment",
    type=click.Choice(["production", "development"]),
    help="Default: the one last applied, or the one that has all queues and administrators.",
)
@click.option(
    "--plans", type=click.Choice(["connect", "manifest"]), help="Where plans come from. Default: as last applied."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@log_options
def command(**options: Any) -> None:
    """Write a manifest of the live state on stdout, secrets as references. Applying it changes nothing.

    With --all-databases, a fleet document of every instance on the server, or with --out one file per instance; each
    instance's secrets then come from variables of its own (DATABASE_URL_CLIENT_ABC_123).

    A setting or plan that no manifest can hold is left out, and logged. Anything else that none can hold (a queue's
    name with a control character, more than 1,000 queues) is written as it is and logged; the exit code is then 65, or
    5 if other instances are fine.

    \b
    Example:
      fivrec export --database-url env:DATABASE_URL --instance client-abc-123 > client-abc-123.yaml
    """
    from reconciler.cli.runtime import open_log

    if bool(options["instance"]) == options["all_databases"]:
        raise UsageError("give either --instance or --all-databases")
    log = open_log(Settings(verbose=options["verbose"], quiet=options["quiet"], log_format=options["log_format"]))
    read, left = _read(options, log)
    invalid: list[str] = []
    documents = tuple(_manifest(document, log, invalid) for document in read)
    for document, _ in documents:
        _warn_of_secrets(document, log)
    log.info("export", "📉 usage reports are off; to send them: usage: {report: true}")
    if options["out"] is not None:
        written = _write_files(options["out"], documents, log)
        if options["output"] == "json":
            click.echo(json_text({"version": 1, "command": "export", "files": written}))
        else:
            click.echo("".join(f"{one['path']}\n" for one in written), nl=False)
    elif options["output"] == "json":
        shown = [document for document, _ in documents]
        click.echo(json_text(shown if options["all_databases"] else shown[0]))
    else:
        click.echo(_text(documents, fleet=options["all_databases"]), nl=False)
    if left or invalid:
        whole = not left and len(invalid) == len(documents)
        click.get_current_context().exit(ManifestError.exit_code if whole else PARTLY)


def _warn_of_secrets(document: dict[str, Any], log: EventLog) -> None:
    """Warn about settings that look like secrets but go into Git in plain text."""
    settings = document.get("config", {}).get("settings", {})
    for name in (name for name, value in settings.items() if looks_secret(name, value)):
        said = f"⚠️ setting {json.dumps(name)} looks like a secret, but is in plain text; declare it as"
        log.warning("export", f"{said} {{secret: {{env: NAME}}}}", instance=document["instance"])


def _manifest(document: dict[str, Any], log: EventLog, invalid: list[str]) -> Exported:
    """The document without the settings and plans that a manifest can't express, which are logged with their reasons.
    Adds the instance to `invalid` if the rest is not a valid manifest."""
    from reconciler.manifest.yaml_writer import left_out, refusal, without_refused, without_refused_plans

    if refusal(document) is None:
        return document, {}
    whole, plans = without_refused_plans(document)
    for key, reason in plans.items():
        said = f"⚠️ plan {json.dumps(key)} is left out, and left as it is: {reason}"
        log.warning("export", said, instance=document["instance"])
    kept, refused = without_refused(whole)
    for key, reason in refused.items():
        log.warning("export", f"⚠️ {left_out(key, reason)}", instance=document["instance"])
    rest = refusal(kept)
    if rest is not None:  # a queue's name, for example: without that queue an apply could remove it
        log.error("export", f"❌ validate refuses this manifest: {rest}", instance=document["instance"])
        invalid.append(str(document["instance"]))
    return kept, refused


def _text(documents: tuple[Exported, ...], *, fleet: bool) -> str:
    from reconciler.manifest.yaml_writer import as_manifest, with_comments

    comments: dict[str, str] = {}
    instances: list[dict[str, Any]] = []
    for document, refused in documents:
        marked, more = with_comments(document, refused)
        instances.append(marked)
        comments |= more
    if not fleet:
        return as_manifest(instances[0], comments)
    bare = [{key: value for key, value in document.items() if key != "version"} for document in instances]
    return as_manifest({"version": 1, "instances": bare}, comments)


def _read(options: dict[str, Any], log: EventLog) -> tuple[tuple[dict[str, Any], ...], bool]:
    """The documents, and whether a database was left out."""
    from reconciler.cli.runtime import start_servers
    from reconciler.engine.export import export, export_server

    url = Secret(text_or_variable(options["database_url"]))
    name, plans = options["instance"] or "", options["plans"]
    bare = Desired(
        name, EnvironmentSpec("production"), DatabaseSpec(url, create=False, schema=options["schema"]), None, {}
    )
    with start_servers((bare,), Settings(), "export", log, dry=True, keyless=True) as ready:
        server = ready.desired[0]
        if options["all_databases"]:
            found = asyncio.run(export_server(server, ready.run, environment=options["environment"], plans=plans))
            for database, error in found.left:
                log.error("export", f"❌ database {database} is left out: {error.message}", error=error.code)
                log.info("export", f"   {error.hint}")
            if found.closed:
                names = ", ".join(map(printable, found.closed))
                log.warning("export", f"⚠️ not looked at, because this login may not connect to them: {names}")
            if not found.documents:
                what = "could be read" if found.left else "was found on this server"
                raise FivrecError(f"no instance {what}", hint="give a login that may connect to them, and --schema")
            return found.documents, bool(found.left)
        return (asyncio.run(export(server, ready.run, environment=options["environment"], plans=plans)),), False


def _write_files(folder: Path, documents: tuple[Exported, ...], log: EventLog) -> list[dict[str, str]]:
    """Write one manifest per file; existing files are not overwritten. Returns the instances and their files."""
    from reconciler.manifest.positions import instance_of
    from reconciler.manifest.yaml_writer import SCHEMA_FILE
    from reconciler.support.files import replace_text
    from reconciler.support.package_files import read_text

    folder.mkdir(parents=True, exist_ok=True)
    replace_text(
        str(folder / SCHEMA_FILE), read_text("schemas/manifest.v1.editor.schema.json")
    )  # what the first line of each manifest names
    written: list[dict[str, str]] = []
    for one in documents:
        name = str(one[0]["instance"])
        if not instance_of(one[0]):  # the name comes from the database, and may be a path that leads anywhere
            log.error("export", "❌ no file is written for it: no file can have this name", instance=name)
            continue
        path = str(folder / f"{name}.yaml")
        try:
            replace_text(path, _text((one,), fleet=False), exclusive=True)
        except FileExistsError as exc:
            hint = "move it away, or name another folder"
            if written:
                hint += f"; written before it: {first_of([item['path'] for item in written], MOST_NAMED)}"
            raise Refused(f"{path} already exists", hint=hint) from exc
        written.append({"instance": name, "path": path})
    return written
