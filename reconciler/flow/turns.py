"""A run and the runs before it: whether its check is a repeat, and what the next turn of `watch` has to know."""

from __future__ import annotations

from reconciler.adapters.store import Writes
from reconciler.core.checks import CheckResult, is_repeat, judge, standing_after, standing_of
from reconciler.core.model import ConnectView, Desired, Snapshot
from reconciler.core.report import Turned
from reconciler.flow.alerts import report_check
from reconciler.flow.run import Run


def check_to_record(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> CheckResult | None:
    """The check to record; None where there is no Connect, or another watch recorded one just now and heard the same.

    What it did not hear is written by this run, so this run has to record it and to alert.
    """
    turn = run.turn
    if desired.connect is None:
        return None
    if (
        turn is not None
        and is_repeat(snapshot.last_check, run.check_type, turn.own_check, turn.fresh_s)
        and not _is_news(view, snapshot)
    ):
        return None
    return judge(view, run.check_type)


def _is_news(view: ConnectView, snapshot: Snapshot) -> bool:
    before = standing_of(snapshot.state, heard=snapshot.heard)
    return view.status is not None and standing_after(before, view) != before


def turned(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot, writes: Writes) -> Turned | None:
    """Say what the check found, where it is ours, and keep what the next turn has to know."""
    found = report_check(run, desired, view, snapshot) if writes.check else ()
    if run.turn is None:
        return None
    last = snapshot.last_check
    before = standing_of(snapshot.state, heard=snapshot.heard)
    return Turned(
        standing=standing_after(before, view),
        check_id=writes.check.id if writes.check else None,
        checked_ago_s=last.age_s if last and not writes.check else None,
        alerts=found,
        usage_queued=writes.usage is not None,
    )
