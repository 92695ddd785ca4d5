"""`fivrec sql`: the database setup script, as sql/database-setup-script.sql holds it, and the GRANTs of the logins."""

from __future__ import annotations

import click


@click.command("sql")
@click.option("--logins", is_flag=True, help="Print the roles and GRANTs of `fivrec docs logins` instead.")
def command(*, logins: bool) -> None:
    """Print the SQL that sets a database up, or brings one that the app made up to date.

    It is the text of sql/database-setup-script.sql, and what apply runs. With --logins, the statements that make a
    login for each purpose (fivrec docs logins): change the names, and run each part as the role that it names.

    Example: fivrec sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -1
    """
    from reconciler.database.schema import build_setup_script
    from reconciler.support.package_files import read_text

    click.echo(read_text("sql/logins.sql") if logins else build_setup_script(), nl=False)
