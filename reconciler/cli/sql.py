"""`fivrec sql`: the database setup script, as sql/database-setup-script.sql holds it."""

from __future__ import annotations

import click


@click.command("sql", short_help="Print the database setup script.")
def command() -> None:
    """Print the SQL that sets a database up, or brings one that the app made up to date.

    It is the text of sql/database-setup-script.sql, and what apply runs.

    Example: fivrec sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1
    """
    from reconciler.database.schema import build_setup_script

    click.echo(build_setup_script(), nl=False)
