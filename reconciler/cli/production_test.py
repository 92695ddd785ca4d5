"""`fivrec production-test`: the seed's run-production-test.js."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_APPLY, manifest_options, settings_from
from reconciler.cli.reading_commands import ask_all, exit_code, write_errors, write_found, write_json
from reconciler.model.names import printable
from reconciler.planning.report import FAILED

if TYPE_CHECKING:
    from reconciler.engine.status_and_logs import QueryResult
    from reconciler.planning.production_checks import Check

SIGNS = {True: "✅", False: "❌"}


@click.command("production-test")
@manifest_options("text", "json", "markdown", unused=OF_APPLY)
def command(**options: Any) -> None:
    """Run an instance's checks as if it were in production.

    Schema, isolation (a probe row in each direction must be refused), the administrator's login, queues, plans, the
    instance key, the usage report and the status at Connect. A development instance is applied as production first. All
    of it happens in a transaction that is rolled back, so no row is left behind. Exits 0 if everything passed, 1 if a
    check failed, 5 if some instances passed and others did not; an instance that can't be tested ends with its error's
    code (3: foreign_code, foreign_schema, wrong_instance).

    Example: fivrec production-test manifests/client.yaml
    """
    from reconciler.cli.runtime import open_run
    from reconciler.engine.production_checks import production_test

    settings = settings_from(options)
    with open_run(settings, "production-test", dry=True) as ready:
        readings = ask_all(
            ready,
            settings,
            lambda item, run: production_test(item, run, allow_embedded=settings.allow_embedded),
        )
    if settings.output == "json":
        write_json("production-test", readings, _shown)
    elif settings.output == "markdown":
        rows = [(item.instance, check.name, f"{SIGNS[check.passed]} {check.message}")
                for item in readings for check in item.value or ()]  # fmt: skip
        write_found(settings, ("instance", "check", "as production"), rows, readings)
    else:
        for item in readings:
            _write(item)
        write_errors(readings, settings)
    judged = [item if _passed(item.value) else replace(item, exit_code=item.exit_code or FAILED) for item in readings]
    click.get_current_context().exit(exit_code(judged))


def _passed(checks: tuple[Check, ...] | None) -> bool:
    return checks is not None and all(check.passed for check in checks)


def _shown(checks: tuple[Check, ...] | None) -> dict[str, Any]:
    listed = [{"name": check.name, "passed": check.passed, "message": check.message} for check in checks or ()]
    return {"passed": _passed(checks), "checks": listed}


def _write(item: QueryResult[tuple[Check, ...]]) -> None:
    click.echo(click.style(item.instance, bold=True) + " (as production)")
    checks = item.value or ()
    for check in checks:
        color = "green" if check.passed else "red"
        click.echo(f"  {SIGNS[check.passed]} " + click.style(check.name.ljust(10), fg=color) + printable(check.message))
    right = sum(check.passed for check in checks)
    click.echo(click.style(f"{item.instance} : passed={right} failed={len(checks) - right}", bold=True))
