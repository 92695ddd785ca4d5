"""`fivrec export`: a manifest of the live state."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from reconciler.cli.options import Settings, log_options, text_or_variable

HEADER = "# yaml-language-server: $schema=../schemas/manifest.v1.schema.json\n"


@click.command("export", short_help="Write a manifest of a live database.")
@click.option("--database-url", required=True, metavar="URL", help="PostgreSQL URL, or env:NAME for a variable.")
@click.option("--instance", required=True, metavar="ID", help="The instance's id at Connect.")
@click.option("--environment", type=click.Choice(["production", "development"]), help="Else the one last applied.")
@click.option(
    "--plans", type=click.Choice(["connect", "manifest"]), help="Where plans come from; else as last applied."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@log_options
def command(**options: Any) -> None:
    """Write a manifest of the live state on stdout, secrets as references. Applying it changes nothing.

    Example: fivrec export --database-url env:DATABASE_URL --instance client-abc-123 > manifests/client-abc-123.yaml
    """
    from reconciler.cli.runtime import open_log, started
    from reconciler.core.model import DatabaseSpec, Desired, EnvironmentSpec
    from reconciler.core.secret import Secret
    from reconciler.flow.export import export

    url = Secret(text_or_variable(options["database_url"]))
    log = open_log(Settings(verbose=options["verbose"], quiet=options["quiet"], log_format=options["log_format"]))
    bare = Desired(options["instance"], EnvironmentSpec("production"), DatabaseSpec(url, create=False), None, {})
    with started((bare,), Settings(), "export", log, dry=True, keyless=True) as ready:
        document = asyncio.run(
            export(ready.desired[0], ready.run, environment=options["environment"], plans=options["plans"])
        )
    if options["output"] == "json":
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        click.echo(HEADER + as_yaml(document), nl=False)


def as_yaml(document: dict[str, Any]) -> str:
    """YAML that reads as it was meant: keys in order, text that YAML 1.1 would take for something else in quotes."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    return text
