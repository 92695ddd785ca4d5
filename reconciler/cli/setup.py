"""`fivrec setup`: one instance in one go, as the seed's setup-new-instance.js."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import (
    SECONDS,
    Settings,
    instance_name,
    log_options,
    schema_option,
    settings_from,
    text_or_variable,
)
from reconciler.cli.streams import json_text
from reconciler.model.errors import MissingSetting, UsageError
from reconciler.model.secret import Secret
from reconciler.model.types import is_embedded, rfc3339

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.engine.setup import Setup
    from reconciler.planning.report import InstanceReport
    from reconciler.support.log import EventLog


class _PasswordVariable(click.Option):
    """Required unless the password itself is given."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, click.core.ParameterSource]:
        self.required = "admin_password" not in opts and "FIVREC_SETUP_ADMIN_PASSWORD" not in os.environ
        return super().consume_value(ctx, opts)


@click.command("setup")
@click.option("--database-url", required=True, metavar="URL", help="PostgreSQL URL, env:NAME, or embedded:.")
@click.option("--admin-email", required=True, metavar="EMAIL")
@click.option(
    "--admin-password-env",
    cls=_PasswordVariable,
    metavar="NAME",
    help="The variable that holds the admin's password.",
)
@click.option("--admin-password", metavar="TEXT", help="The password itself: it shows in ps; prefer the variable.")
@click.option("--admin-name", default="Administrador", show_default=True, metavar="TEXT")
@click.option("--company-name", required=True, metavar="TEXT")
@click.option("--instance", metavar="ID", help="The instance's id. Default: taken from the database's name.")
@click.option(
    "--environment",
    type=click.Choice(["production", "development"]),
    help="Default: NODE_ENV, else production.",
)
@schema_option
@click.option("--show-password", is_flag=True, help="Put the password into the answer.")
@click.option("-o", "--output", type=click.Choice(["json"]), default="json", hidden=True)
@click.option("--timeout", type=SECONDS, default="120s", show_default=True, metavar="SPAN", help="Time limit.")
@click.option(
    "--actor", metavar="NAME", help="The name in the audit log. Default: from the CI's variables, else the user."
)
@log_options
def command(**options: Any) -> None:
    """Provision one instance: tables, administrator, default queues, settings.

    Prints the JSON answer of setup-new-instance.js. Running it again changes nothing. Connect is set up by a manifest
    and apply.

    \b
    Example:
      fivrec setup --database-url env:DATABASE_URL --admin-email admin@empresa.com \\
        --admin-password-env ADMIN_PASSWORD --company-name "Nome da Empresa"
    """
    from reconciler.cli.runtime import open_log, run_instances, start_servers
    from reconciler.engine.reconcile import reconcile
    from reconciler.engine.setup import build_desired, opening_lines, read_made

    settings = settings_from(options)
    log = open_log(settings)
    if options["admin_password"]:
        log.warning("setup", "⚠️ --admin-password shows in ps and in the shell's history: use --admin-password-env")
    setup = _setup(options)
    for line in opening_lines(setup, os.environ.get("NODE_ENV", "unset")):
        log.info("setup", line)
    with start_servers((build_desired(setup),), settings, "setup", log, keyless=True) as ready:
        reports, stopped = run_instances(ready, reconcile, settings)
        now = ready.run.now()
        report = reports[0]
        done = report.exit_code == 0 and not stopped
        kept = done and _keeps_another(ready, setup, report)
        made = asyncio.run(read_made(ready.desired[0], ready.run)) if done else (None, ())
    if done:
        _say_done(log, setup, report, kept=kept)
    show = options["show_password"] and not kept
    click.echo(json_text(_answer(setup, made, now, done=done, show=show)))
    _end(report, stopped, settings)


def _say_done(log: EventLog, setup: Setup, report: InstanceReport, *, kept: bool) -> None:
    from reconciler.engine.setup import closing_lines, kept_line

    for line in closing_lines(report):
        log.info("setup", line)
    if kept:
        log.warning("setup", kept_line(setup))


def _keeps_another(ready: RunSetup, setup: Setup, report: InstanceReport) -> bool:
    """Whether the administrator already existed, with another password than the given one."""
    from reconciler.engine.setup import holds_password, made_admin

    return not made_admin(report) and not asyncio.run(holds_password(ready.desired[0], ready.run, setup))


GUARDED = (
    "setup has no --accept: keep what is there (--environment), or write a manifest and apply that (fivrec export)"
)


def _end(report: InstanceReport, stopped: int, settings: Settings) -> None:
    if report.error is not None and settings.log_format != "json":  # a JSON log has the event already
        from reconciler.cli.boundary import say

        hint = GUARDED if report.error.code == "guard" else report.error.hint
        say(report.error.message, hint, report.error.code)
    click.get_current_context().exit(stopped or report.exit_code)


def _answer(
    setup: Setup, made: tuple[str | None, tuple[str, ...]], now: Any, *, done: bool, show: bool
) -> dict[str, Any]:
    """As in the seed (Resposta do Script), with the company and the queues that exist now."""
    company, queues = made
    return {
        "success": done,
        "databaseSetup": done,
        "adminCredentials": {
            "email": setup.admin_email,
            "password": setup.admin_password.reveal() if show and done else None,
        },
        "companySettings": {"name": company},
        "defaultQueues": list(queues),
        "timestamp": rfc3339(now),
    }


def _setup(options: dict[str, Any]) -> Setup:
    from reconciler.engine.export import ENVIRONMENTS
    from reconciler.engine.setup import Setup
    from reconciler.manifest.yaml.scalars import UNSTORABLE

    email = options["admin_email"]
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", email):
        raise UsageError("--admin-email is not an email address", hint="write it as admin@empresa.com")
    for name in ("admin_email", "admin_name", "company_name"):
        if UNSTORABLE.search(options[name]):
            raise UsageError(f"--{name.replace('_', '-')} holds a character that cannot be stored", hint="take it out")
    url = text_or_variable(options["database_url"])
    _check_url(url)
    named = options["environment"] or os.environ.get("NODE_ENV") or "production"
    environment = next((known for known in ENVIRONMENTS if known == named), None)
    if environment is None:
        raise UsageError("NODE_ENV is neither production nor development", hint="set it, or give --environment")
    return Setup(
        instance=instance_name(options["instance"]) or _instance_from(url),
        url=Secret(url),
        environment=environment,
        admin_email=email,
        admin_name=options["admin_name"],
        admin_password=_password(options),
        company_name=options["company_name"],
        schema=options["schema"],
    )


def _check_url(url: str) -> None:
    from reconciler.support.postgres_url import instance_problem

    if reason := instance_problem(url):
        hint = "write it as postgresql://user@host:5432/name, special characters as %40 and the like"
        raise MissingSetting(f"the database URL {reason}", hint=hint, code="database_url")


def _password(options: dict[str, Any]) -> Secret:
    from reconciler.support.crypto.passwords import check_password

    if options["admin_password"] is not None and options["admin_password_env"] is not None:
        raise UsageError("--admin-password and --admin-password-env name a password each", hint="give one of the two")
    if options["admin_password"]:
        return check_password(Secret(options["admin_password"]), "--admin-password")
    name = options["admin_password_env"]
    value = os.environ.get(name, "")
    if not value:
        raise MissingSetting(f"the variable {name} is not set", hint=f"set {name} to the admin's password")
    return check_password(Secret(value), name)


def _instance_from(url: str) -> str:
    if is_embedded(url):
        return "instance"
    from reconciler.manifest.from_setup import instance_of_database
    from reconciler.support.conninfo import database_name

    return instance_of_database(database_name(Secret(url)))
