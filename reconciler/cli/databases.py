"""`fivrec databases`: the databases that Connect knows of each instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_APPLY, manifest_options, settings_from
from reconciler.cli.reading_commands import cell_text, show_connects

if TYPE_CHECKING:
    from reconciler.connect.responses import ConnectDatabase

HEADINGS = ("instance", "id", "name", "type", "host", "port", "database", "status", "size MB", "backup", "last backup")
SHOWN = ("id", "name", "type", "host", "port", "database", "status", "size_mb", "backup_enabled", "last_backup")


@click.command("databases")
@manifest_options("text", "json", "markdown", unused=OF_APPLY)
def command(**options: Any) -> None:
    """Show the databases that Connect knows of each instance; nothing is changed.

    Example: fivrec databases manifests/client.yaml
    """
    from reconciler.engine.status_and_logs import fetch_databases

    settings = settings_from(options)
    click.get_current_context().exit(show_connects(settings, "databases", fetch_databases, HEADINGS, _row))


def _row(instance: str, found: ConnectDatabase) -> tuple[str, ...]:
    return (instance, *(cell_text(getattr(found, name)) for name in SHOWN))
