"""`fivrec usage`: the usage report of each instance."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.failure_events import say_failure
from reconciler.cli.options import Settings, manifest_options, settings_from
from reconciler.cli.reading_commands import (
    CONNECT,
    DATABASE,
    ask_all,
    exit_code,
    open_readonly,
    write_found,
    write_json,
    write_notices,
    write_problem,
)

if TYPE_CHECKING:
    from reconciler.engine.status_and_logs import QueryResult
    from reconciler.engine.usage import Usage

HEADINGS = ("instance", "environment", "users", "clients", "conversations", "active", "queues", "last activity", "sent")
QUEUED = "the report is queued, and sent by the next usage --send or watch"
COLUMNS = ("totalUsers", "totalClients", "totalConversations", "activeConversations", "totalQueues")


@click.command("usage")
@manifest_options("text", "json", "markdown")
@click.option("--send", is_flag=True, help="Queue the report in the database, and post it with all that are waiting.")
def command(**options: Any) -> None:
    """Show the usage report of each instance, of its environment only.

    With --send it is queued in the instance's database, and posted to Connect after the commit. What Connect
    does not take stays queued for the next time, and is never counted twice.

    Example: fivrec usage manifests/client.yaml -o json
    """
    from reconciler.engine.usage import count_usage, send_usage

    settings = settings_from(options)
    needs = DATABASE | CONNECT if options["send"] else DATABASE
    with open_readonly(settings, "usage", needs) as ready:
        if options["send"]:
            ready = replace(ready, run=replace(ready.run, dry=False))  # noqa: PLW2901  the embedded Connect counts it
        readings = ask_all(ready, settings, send_usage if options["send"] else count_usage)
        for item in readings:
            say_failure(ready.run, item.instance, _problem(item))
    if settings.output == "json":
        write_json("usage", readings, _shown, ready.broken)
    else:
        write_found(settings, HEADINGS, [_row(item) for item in readings], readings, ready.broken)
        _write_unsent(readings, settings)
    code = exit_code(readings, ready.broken)
    context = click.get_current_context()
    if code == 0 and any(_problem(item) for item in readings):
        context.exit(1 if all(_problem(item) for item in readings) else 5)
    context.exit(code)


def _problem(item: QueryResult[Usage]) -> Any:
    return item.value.outcome.problem if item.value and item.value.outcome else None


def _shown(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {"usage": None, "sent": None}
    outcome = usage.outcome
    problem = asdict(outcome.problem) if outcome and outcome.problem else None
    sent = {"sent": outcome.sent, "waiting": outcome.waiting, "problem": problem} if outcome else None
    return {"usage": dict(usage.report), "sent": sent}


def _row(item: QueryResult[Usage]) -> tuple[str, ...]:
    if item.value is None:
        return (item.instance, item.environment, *("-" for _ in COLUMNS), "-", "-")
    report, outcome = item.value.report, item.value.outcome
    sent = "-" if outcome is None else f"{outcome.sent} of {outcome.sent + outcome.waiting}"
    counts = (str(report[name]) for name in COLUMNS)
    return (item.instance, str(report["environment"]), *counts, str(report["lastActivity"] or "never"), sent)


def _write_unsent(readings: tuple[QueryResult[Usage], ...], settings: Settings) -> None:
    unsent = [(item.instance, replace(problem, hint=f"{QUEUED}; {problem.hint}"))
              for item in readings if (problem := _problem(item)) is not None]  # fmt: skip
    if settings.output == "markdown":
        write_notices(unsent)
    for instance, problem in unsent if settings.log_format != "json" else ():
        write_problem(instance, problem)
