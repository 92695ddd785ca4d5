"""`fivrec status`: what is known of each instance, from its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_DATABASE, manifest_options, settings_from
from reconciler.cli.queries import (
    DATABASE,
    ask_all,
    exit_code,
    format_moment,
    open_readonly,
    write_errors,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from reconciler.database.status_queries import LastRun, StatusView
    from reconciler.engine.queries import QueryResult

HEADINGS = ("instance", "environment", "status", "billing", "locked", "features", "last check", "drift at last run")
UNKNOWN = "unknown"


@click.command("status", short_help="Show what is known of each instance.")
@manifest_options("text", "json", "markdown", unused=OF_DATABASE)
def command(**options: Any) -> None:
    """Show what is known of each instance, from its database; Connect is not asked.

    Where Connect was never heard, the status is unknown, whatever the columns' defaults say.

    Example: fivrec status manifests/
    """
    from reconciler.engine.queries import query_status

    settings = settings_from(options)
    with open_readonly(settings, "status", DATABASE) as ready:
        readings = ask_all(ready, settings, query_status)
    if settings.output == "json":
        write_json("status", readings, status_as_json)
    else:
        write_table(HEADINGS, [_row(item) for item in readings], markdown=settings.output == "markdown")
        write_errors(readings, settings)
    click.get_current_context().exit(exit_code(readings))


def status_as_json(view: StatusView | None) -> dict[str, Any]:
    """The instance's part of the JSON document; null where nothing is known."""
    if view is None:
        return {"configured": False, "status": UNKNOWN, "billing_status": UNKNOWN, "is_locked": None,
                "enabled_features": {}, "check_interval_minutes": None, "connect_api_url": None,
                "last_status_check": None, "last_check": None, "last_run": None}  # fmt: skip
    check, run = view.last_check, view.last_run
    return {
        "configured": True,
        "status": view.status or UNKNOWN,
        "billing_status": view.billing_status or UNKNOWN,
        "is_locked": view.is_locked,
        "enabled_features": dict(view.enabled_features),
        "check_interval_minutes": view.check_interval_minutes,
        "connect_api_url": view.connect_api_url,
        "last_status_check": format_moment(view.last_status_check),
        "last_check": None
        if check is None
        else {
            "at": format_moment(check.at),
            "type": check.check_type,
            "success": check.success,
            "received": check.status_received,
            "error": check.error_message,
            "response_time_ms": check.response_time_ms,
        },
        "last_run": None
        if run is None
        else {
            "run_id": run.run_id,
            "at": format_moment(run.at),
            "actor": run.actor,
            "changes": run.changes,
            "drift": run.drift,
            "ended": run.ended,
        },
    }


def _row(item: QueryResult[StatusView | None]) -> tuple[str, ...]:
    view = item.value
    if view is None:
        said = "not configured" if item.error is None else f"error: {item.error.code}"
        return (item.instance, item.environment, UNKNOWN, UNKNOWN, "-", "-", said, "-")
    features = " ".join(sorted(name for name, on in view.enabled_features.items() if on)) or "-"
    check = view.last_check
    last = f"{format_moment(check.at)} {'ok' if check.success else 'FAILED'}" if check else "never"
    run = view.last_run
    return (
        item.instance,
        item.environment,
        view.status or UNKNOWN,
        view.billing_status or UNKNOWN,
        "yes" if view.is_locked else "no",
        features,
        last,
        _drift(run) if run else "-",
    )


def _drift(run: LastRun) -> str:
    if run.ended is None:
        return f"{run.drift} of {run.changes} changes"
    return f"{run.drift} of {run.changes} changes, {run.ended}" if run.changes else run.ended
