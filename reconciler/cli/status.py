"""`fivrec status`: what is known of each instance, from its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_DATABASE, manifest_options, settings_from
from reconciler.cli.reading_commands import (
    DATABASE,
    ask_all,
    cell_text,
    check_result,
    exit_code,
    format_moment,
    open_readonly,
    write_found,
    write_json,
)
from reconciler.cli.render.values import former_line
from reconciler.model.names import first_of
from reconciler.planning.report import shown_former
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.database.status_queries import LastRun, StatusView
    from reconciler.engine.run import Run
    from reconciler.engine.status_and_logs import QueryResult

HEADINGS = (
    "instance", "environment", "status", "billing", "locked", "features", "last check", "last run", "drift", "former"
)  # fmt: skip
SHOWN = ("run_id", "at", "command", "actor", "git_commit", "outcome", "error", "changes", "drift")
"""What JSON has of a run, besides what it left."""
UNKNOWN = "unknown"
MOST_NAMED = 10


@click.command("status")
@manifest_options("text", "json", "markdown", unused=OF_DATABASE)
@click.option("--problems", is_flag=True, help="Only instances that need attention.")
def command(**options: Any) -> None:
    """Show what each instance's database knows about it; Connect is not asked.

    The environment is that of the rows; if the manifest names another, both are shown. Drift and former
    resources are what the last apply or watch found. If Connect never answered, the status is unknown,
    whatever the columns' defaults say.

    Example: fivrec status manifests/

    Example: fivrec status --problems manifests/
    """
    from reconciler.engine.status_and_logs import is_unchecked, needs_somebody, query_status

    settings = settings_from(options)
    with open_readonly(settings, "status", DATABASE) as ready:
        readings = ask_all(ready, settings, query_status)
    code, whole = exit_code(readings, ready.broken), len(readings)
    if refused := [item for item in readings if item.value and item.value.unsent]:
        named = first_of([item.instance for item in refused], MOST_NAMED)
        said = f"⚠️ Connect has not taken usage reports of {counted(len(refused), 'instance')}: {named}"
        ready.run.log.warning("status", f"{said}; -o json has since when and why")
    if options["problems"]:
        if silent := [item for item in readings if item.value and is_unchecked(item.value, ready.run.now())]:
            named = first_of([item.instance for item in silent], MOST_NAMED)
            said = f"⚠️ no check of {counted(len(silent), 'instance')} for more than two intervals: {named}"
            ready.run.log.warning("status", f"{said}; is the watch running?")
        readings = tuple(item for item in readings if needs_somebody(item.value))
        if not readings and not settings.quiet:
            say_none(whole, ready.run)
    if settings.output == "json":
        write_json("status", readings, status_as_json, ready.broken)
    else:
        write_found(settings, HEADINGS, [_row(item) for item in readings], readings, ready.broken)
    click.get_current_context().exit(code)


def say_none(whole: int, run: Run) -> None:
    """Log that no instance needs attention; a replica may not have received yet what would say otherwise."""
    said = f"none of {counted(whole, 'instance')} needs attention"
    if run.read_replica():
        run.log.warning("status", f"⚠️ {said} as far as is known: a replica may lack the newest checks and runs")
    else:
        run.log.info("status", f"✅ {said}")


def status_as_json(view: StatusView | None) -> dict[str, Any]:
    """The instance's part of the JSON document; null if nothing is known."""
    if view is None:
        return {"declared_environment": None, "configured": False, "status": UNKNOWN, "billing_status": UNKNOWN,
                "is_locked": None, "enabled_features": {}, "check_interval_minutes": None, "connect_api_url": None,
                "last_status_check": None, "last_check": None, "last_run": None, "usage_unsent": None}  # fmt: skip
    check, run, unsent = view.last_check, view.last_run, view.unsent
    return {
        "environment": view.environment,
        "declared_environment": view.declared,
        "configured": view.configured,
        "status": view.status or UNKNOWN,
        "billing_status": view.billing_status or UNKNOWN,
        "is_locked": view.is_locked,
        "enabled_features": dict(view.enabled_features),
        "check_interval_minutes": view.check_interval_minutes,
        "connect_api_url": view.connect_api_url,
        "last_status_check": format_moment(view.last_status_check),
        "last_check": check_result(check) if check else None,
        "last_run": _shown_run(run) if run else None,
        "usage_unsent": {"count": unsent.count, "since": format_moment(unsent.since), "error": unsent.error}
        if unsent
        else None,
    }


def _shown_run(run: LastRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in SHOWN} | {
        "at": format_moment(run.at),
        "open_drift": [
            {"kind": item.key.kind, "name": item.key.name, "since": format_moment(item.since)}
            for item in run.open_drift
        ],
        "former": [shown_former(item) for item in run.former],
    }


def _row(item: QueryResult[StatusView | None]) -> tuple[str, ...]:
    view = item.value
    if view is None:
        said = "not configured" if item.error is None else f"error: {item.error.code}"
        return (item.instance, item.environment, UNKNOWN, UNKNOWN, "-", "-", said, "-", "-", "-")
    features = " ".join(sorted(name for name, on in view.enabled_features.items() if on)) or "-"
    check, run = view.last_check, view.last_run
    differs = f" (the manifest says {view.declared})" if view.environment != view.declared else ""
    never = "never" if view.configured else "not configured"
    last = f"{format_moment(check.at)} {'ok' if check.success else 'FAILED'}" if check else never
    return (
        item.instance,
        view.environment + differs,
        view.status or UNKNOWN,
        view.billing_status or UNKNOWN,
        cell_text(view.is_locked),
        features,
        last,
        *((_run(run), _drift(run), ", ".join(map(former_line, run.former)) or "-") if run else ("never", "-", "-")),
    )


def _run(run: LastRun) -> str:
    changes = f" ({counted(run.changes, 'change')})" if run.changes else ""
    commit = f" at {_short(run.git_commit)}" if run.git_commit else ""
    error = f" ({run.error})" if run.error else ""
    return f"{format_moment(run.at)} {run.command} by {run.actor}{commit}: {run.outcome}{error}{changes}"


def _short(commit: str) -> str:
    name, mark, rest = commit.partition("-")
    return f"{name[:8]}{mark}{rest}"


def _drift(run: LastRun) -> str:
    if not run.open_drift:
        return f"{run.drift} repaired" if run.drift else "-"
    return ", ".join(f"{item.key} since {format_moment(item.since)}" for item in run.open_drift)
