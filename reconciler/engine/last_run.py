"""The last run of an instance as one row: who, when, outcome, findings. Recorded in the same transaction as the
changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from reconciler.database.connection import Connection
from reconciler.database.store import LastRunRow, Scope, read_open_drift
from reconciler.engine.reports import failed_outcome
from reconciler.engine.run import Run
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired
from reconciler.planning.plan import Plan
from reconciler.planning.report import Outcome, shown_former

DONE = frozenset({"changed", "in_sync", "degraded"})
"""Outcomes of a run that made its changes, or that was not supposed to make any."""


def last_run_row(
    desired: Desired, run: Run, plan: Plan, outcome: Outcome, *, error: str | None = None, made: bool = True
) -> LastRunRow | None:
    """The row for a run that has a plan. `made`: the run makes the changes. Returns None for a check alone."""
    if run.check_only and not plan.changes:
        return None
    made = made and outcome in DONE
    drift = sorted(change.key for change in plan.changes if change.cause == "drift")
    looked = desired.whole and not run.check_only
    left = [] if made else drift
    now = run.now().astimezone(UTC).isoformat(timespec="seconds")
    return LastRunRow(
        command=run.command,
        actor=run.actor.name,
        git_commit=run.actor.git_commit,
        outcome=outcome,
        error=error,
        changes=len(plan.changes) if made else 0,
        drift=len(drift) if looked else None,
        open_drift=tuple({"kind": key.kind, "name": key.name, "since": now} for key in left) if looked else None,
        former=tuple(shown_former(item) for item in plan.former) if looked else None,
    )


async def keep_since(conn: Connection, row: LastRunRow | None, scope: Scope) -> LastRunRow | None:
    """The row, with the time at which an earlier run first saw each drift that is still there. Reads in the open
    transaction."""
    if row is None or not row.open_drift:
        return row
    known = await read_open_drift(conn, scope)
    since = {(item.key.kind, item.key.name): item.since.astimezone(UTC).isoformat() for item in known}
    kept = ({**item, "since": since.get((item["kind"], item["name"]), item["since"])} for item in row.open_drift)
    return replace(row, open_drift=tuple(kept))


def failed_row(run: Run, outcome: Outcome, *, error: str) -> LastRunRow:
    """The row for a run that ended before it could look: the findings of the last run stay."""
    return LastRunRow(run.command, run.actor.name, run.actor.git_commit, outcome, error=error)


def ended_row(desired: Desired, run: Run, plan: Plan | None, exc: FivrecError) -> LastRunRow | None:
    """The row for a run that failed or was refused, with its findings if it got that far. Returns None for a check
    alone."""
    outcome = failed_outcome(exc)
    if plan is None:
        return None if run.check_only else failed_row(run, outcome, error=exc.code)
    return last_run_row(desired, run, plan, outcome, error=exc.code)
