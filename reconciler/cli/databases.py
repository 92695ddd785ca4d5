"""`fivrec databases`: the databases that Connect knows of each instance."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import manifest_options, settings_from
from reconciler.cli.reading import CONNECT, ask_all, exit_code, opened, write_errors, write_json, write_table

if TYPE_CHECKING:
    from reconciler.adapters.connect_answers import ConnectDatabase

HEADINGS = ("instance", "id", "name", "type", "host", "port", "database", "status", "size MB", "backup", "last backup")


@click.command("databases", short_help="Show the databases that Connect knows.")
@manifest_options("text", "json", "markdown")
def command(**options: Any) -> None:
    """Show the databases that Connect knows of each instance; nothing is changed.

    Example: fivrec databases manifests/client.yaml
    """
    from reconciler.flow.inspect import databases_of

    settings = settings_from(options)
    with opened(settings, "databases", CONNECT) as ready:
        readings = ask_all(ready, settings, databases_of)
    if settings.output == "json":
        write_json("databases", readings, lambda found: {"databases": [asdict(item) for item in found or ()]})
    else:
        rows = [_row(item.instance, one) for item in readings for one in item.value or ()]
        write_table(HEADINGS, rows, markdown=settings.output == "markdown")
        write_errors(readings)
    click.get_current_context().exit(exit_code(readings))


def _row(instance: str, found: ConnectDatabase) -> tuple[str, ...]:
    backup = "-" if found.backup_enabled is None else ("yes" if found.backup_enabled else "no")
    cells = (
        found.id,
        found.name,
        found.type,
        found.host,
        found.port,
        found.database,
        found.status,
        found.size_mb,
        backup,
        found.last_backup,
    )
    return (instance, *("-" if cell is None else str(cell) for cell in cells))
