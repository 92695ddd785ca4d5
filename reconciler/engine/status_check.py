"""A run and the runs before it: whether its check is a repeat, and what the next turn of `watch` has to know."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.encoding import codec_of, fitted
from reconciler.database.schema import latest_version, version_of
from reconciler.database.status_queries import LogFilter, read_checks
from reconciler.database.store import Writes
from reconciler.engine import observe as instance
from reconciler.engine.alerts import find_check_alerts, find_drift_alert, report_check, store_alerts, with_recovery
from reconciler.engine.commit import reopen_if_lost
from reconciler.engine.last_run import keep_since
from reconciler.engine.run import CycleContext, Run
from reconciler.engine.writes import check_row
from reconciler.model.errors import DatabaseError, FivrecError, NotConverged, Refused, Unforeseen
from reconciler.model.types import ConnectView, Desired, Key, Snapshot
from reconciler.planning.alerts import Alert
from reconciler.planning.diff import is_accepted
from reconciler.planning.plan import Plan
from reconciler.planning.report import CycleResult
from reconciler.planning.status_check import (
    CheckResult,
    KnownStatus,
    is_made,
    is_of_slot,
    is_repeat,
    judge,
    known_status,
    problem,
    status_after,
)
from reconciler.planning.status_check import alerts as transitions


def check_to_record(
    desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot, plan: Plan
) -> CheckResult | None:
    """Returns the check to record. Returns None if there is no Connect; if another watch just recorded a check with the
    same answer; if this is a retry and Connect says what the recorded check of this due time says; or if the failed
    check of this due time is already recorded.

    An answer that the other watch did not get is written by this run, so this run has to record it and to alert.
    """
    turn = run.turn
    if desired.connect is None:
        return None
    if turn is None:
        return judge(view, run.check_type)
    if turn.retry and not turn.due and is_own(snapshot, turn):
        before = _before(desired, run, view, snapshot)
        return judge(view, run.check_type) if _after(before, view, desired, plan) != before else None
    if view.status is None and is_made(snapshot.last_check, turn.own_check, turn.slot_age_s):
        return None
    if is_repeat(snapshot.last_check, run.check_type, turn.own_check, turn.fresh_s) and not _is_news(
        desired, run, view, snapshot, plan
    ):
        return None
    return judge(view, run.check_type)


def _adopted(snapshot: Snapshot, turn: CycleContext) -> str | None:
    """The check that a lost turn recorded for this due time: the following turns count it as their own."""
    last = snapshot.last_check
    return last.id if last is not None and is_of_slot(last, turn.slot_age_s) else None


def is_own(snapshot: Snapshot, turn: CycleContext) -> bool:
    """Whether the newest recorded check is the last one that this watch recorded."""
    return snapshot.last_check is not None and snapshot.last_check.id == turn.own_check


def _without_future(snapshot: Snapshot, turn: CycleContext | None) -> Snapshot:
    """Drop a check of others with a time in the future: the database's clock was ahead, or the app writes local time.
    It stays the newest for hours and says nothing about now, while this watch's last answer does."""
    last = snapshot.last_check
    if turn is None or last is None or last.age_s >= 0 or last.id == turn.own_check:
        return snapshot
    if turn.own_check is None or turn.last_known is None:
        return replace(snapshot, last_check=None)
    own = replace(last, id=turn.own_check, age_s=turn.slot_age_s, success=turn.last_known.reachable)
    return replace(snapshot, last_check=own)


async def recall_check(conn: Connection, desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> Snapshot:
    """Add what a run by hand has to know of the checks before it, so that it alerts on transitions only. If all is well
    now and was well in the last run, nothing more is read."""
    snapshot = _without_future(snapshot, run.turn)
    withheld = desired.suspend or bool(desired.ignore)
    if desired.connect is None or snapshot.config_id is None:
        return snapshot
    if snapshot.missing or not version_of("alerts") <= (snapshot.schema_version or 0) <= latest_version():
        return snapshot  # the table that it would read may be missing; without a table for alerts, none was sent
    if run.turn is not None:
        known = replace(snapshot, reachable=await _recall_by_hand(conn, desired, view, snapshot))
        return known if withheld else await _recall_told(conn, desired, run, view, known)
    if view.status is not None and not (withheld or snapshot.unanswered or run.check_only):
        return snapshot
    scope, row = instance.build_scope(desired), snapshot.config_id
    reachable, billing = await store.read_check_memory(conn, scope, row, billing=withheld)
    return replace(snapshot, reachable=reachable, alerted_billing=billing)


async def _recall_by_hand(conn: Connection, desired: Desired, view: ConnectView, snapshot: Snapshot) -> bool | None:
    """Returns what a run by hand already alerted of Connect, if this turn finds it away, or back; else None."""
    if (view.status is not None) == (snapshot.last_check is None or snapshot.last_check.success):
        return None
    return await store.read_told_by_hand(conn, instance.build_scope(desired))


async def _recall_told(conn: Connection, desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> Snapshot:
    """Set `unalerted` if the row already has an answer of Connect that this watch did not know and that no alert
    reported: then the app wrote it, and not another watch."""
    last_known = run.turn.last_known if run.turn is not None else None
    row = known_status(snapshot.state, answered=snapshot.answered)
    if last_known is None or view.status is None or snapshot.config_id is None:
        return snapshot
    here = (view.status.status, view.status.billing_status)
    if (row.status, row.billing_status) != here or not transitions(replace(last_known, reachable=True), row):
        return snapshot
    scope = instance.build_scope(desired)
    told = await store.is_told(conn, scope, snapshot.config_id, *here)
    return replace(snapshot, unalerted=not told)


def _is_news(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot, plan: Plan) -> bool:
    before = _before(desired, run, view, snapshot)
    return view.status is not None and _after(before, view, desired, plan) != before


def find_alerts(
    desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot, plan: Plan, *, checked: bool, made: bool
) -> tuple[Alert, ...]:
    """The alerts of this run, if it commits. `checked`: the check is this run's; `made`: so are the changes."""
    before = _before(desired, run, view, snapshot)
    after = _after(before, view, desired, plan)
    found = find_check_alerts(run, desired, view, before, after) if checked else ()
    if problem(view) is None:
        found = with_recovery(run, desired, found)
    return (*found, *find_drift_alert(run, desired, plan.changes, made=made))


def build_cycle_result(
    desired: Desired,
    run: Run,
    view: ConnectView,
    snapshot: Snapshot,
    plan: Plan,
    *,
    writes: Writes,
    alerts: tuple[Alert, ...],
) -> CycleResult | None:
    """Log what the check found, if the check is ours, and return what the next turn has to know."""
    before = _before(desired, run, view, snapshot)
    after = _after(before, view, desired, plan)
    report_check(run, desired, view, alerts, checked=writes.check is not None)
    if run.turn is None:
        return None
    last = snapshot.last_check
    return CycleResult(
        standing=after,
        check_id=writes.check.id if writes.check else _adopted(snapshot, run.turn),
        checked_ago_s=last.age_s if last and not writes.check and not is_own(snapshot, run.turn) else None,
        alerts=tuple(alert.name for alert in alerts),
        told_by_hand=snapshot.reachable == after.reachable,
    )


def _before(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> KnownStatus:
    """The status known before this turn. A value that somebody else wrote into the row is not known until an alert
    reported it: while Connect repeats its last answer, that value is drift. If Connect's answer is not written
    (suspend, ignore), the row does not have it: then it is what the last turn knew; after a check by somebody else,
    what the log says, and for billing what the last alert said."""
    reachable = snapshot.reachable
    if reachable is None:
        reachable = snapshot.last_check is None or snapshot.last_check.success
    row = known_status(snapshot.state, answered=snapshot.answered, reachable=reachable)
    turn, received, withheld = run.turn, snapshot.last_received, _is_withheld(desired, run)
    if turn is not None and (known := turn.last_known) is not None:
        counts = withheld and (is_own(snapshot, turn) or received is None)
        if counts or snapshot.unalerted or _is_said_again(known, view):
            return replace(row, status=known.status, billing_status=known.billing_status)
    if not withheld or received is None:
        return row
    billing = snapshot.alerted_billing or row.billing_status
    if turn is not None and view.status:
        billing = view.status.billing_status
    return replace(row, status=received, billing_status=billing)


def _is_withheld(desired: Desired, run: Run) -> bool:
    """Whether Connect's answer is kept from the row, whether or not they are equal just now."""
    key = Key("status", desired.instance)
    words = ("status", "billing_status")
    return desired.suspend or any(is_accepted(key, word, desired.ignore, run.today) for word in words)


def _is_said_again(last_known: KnownStatus, view: ConnectView) -> bool:
    said = view.status
    return said is not None and (last_known.status, last_known.billing_status) == (said.status, said.billing_status)


def _after(before: KnownStatus, view: ConnectView, desired: Desired, plan: Plan) -> KnownStatus:
    """The status that follows from this answer, with the lock as the row has it after this run."""
    locked = before.locked
    if not desired.suspend:
        written = (item for change in plan.changes if change.key.kind == "status" for item in change.fields)
        locked = next((bool(item.after) for item in written if item.field == "is_locked"), locked)
    return replace(status_after(before, view), locked=locked)


def failed_check(desired: Desired, run: Run, view: ConnectView | None) -> CheckResult | None:
    """The failed check of a run that failed itself: recorded once per due time, and when it is news."""
    if view is None or view.status_error is None or desired.connect is None:
        return None
    turn = run.turn
    if turn is not None and not turn.due and turn.last_known is not None and not turn.last_known.reachable:
        return None
    return judge(view, run.check_type)


async def tell_failed_check(
    desired: Desired, run: Run, view: ConnectView, check: store.CheckRow, before: KnownStatus
) -> CycleResult | None:
    """Log that Connect could not be asked, and note for the next turn that it was logged."""
    after = status_after(before, view)
    found = await store_alerts(desired, run, find_check_alerts(run, desired, view, before, after))
    report_check(run, desired, view, found, checked=True)
    if run.turn is None:
        return None
    return CycleResult(standing=after, check_id=check.id, alerts=tuple(alert.name for alert in found))


def end_of(exc: BaseException, desired: Desired, run: Run) -> FivrecError:
    """The error of an instance that ended with this exception. If its time is over, it may continue to record that; a
    run that is being stopped may not, and goes on to end."""
    if isinstance(exc, FivrecError):
        return exc
    if isinstance(exc, Exception):
        return unforeseen(exc, desired, run)
    task = asyncio.current_task()
    if not run.is_late() or task is None:
        raise exc
    task.uncancel()
    return timed_out(run)


def timed_out(run: Run) -> DatabaseError:
    """The error of an instance whose time is over, with the side that it waited for."""
    side = f", waiting for {' and '.join(sorted(run.waits))}" if run.waits else ""
    return DatabaseError(
        f"not done within {run.timeout_s:g} s{side}; what was not committed was rolled back",
        hint="--timeout sets the limit",
        code="timeout",
    )


def unforeseen(exc: Exception, desired: Desired, run: Run) -> FivrecError:
    """The error of an instance that failed unexpectedly; with -v its traceback, without its text."""
    import traceback

    places = " < ".join(line.strip() for line in reversed(traceback.format_tb(exc.__traceback__)))
    run.log.debug(run.command, f"💥 {type(exc).__name__}: {places}", instance=desired.instance, error=Unforeseen.code)
    return Unforeseen.of(exc)


_CLOCKS_APART = timedelta(minutes=1)
NO_ENTRY = frozenset({"schema_missing", "key_retired", "key_mismatch", "missing_setting"})
"""Why there may be no log to append to, or no key to sign with."""


async def record_failed_run(
    conn: Connection,
    desired: Desired,
    run: Run,
    exc: FivrecError,
    *,
    view: ConnectView | None,
    last_run: store.LastRunRow | None,
) -> tuple[bool, CycleResult | None]:
    """Record a failed run: its audit row, its last_run, its failed check. Returns whether anything could be recorded,
    and what the next turn has to know of the check."""
    check = failed_check(desired, run, view)
    row = check_row(check) if check else None
    before = await _known_before(conn, desired, run) if row is not None else KnownStatus()
    if not await record_failure(conn, desired, run, exc, check=row, last_run=last_run):
        return False, None
    if row is None or view is None:
        return True, None
    return True, await tell_failed_check(desired, run, view, row, before)


async def _known_before(conn: Connection, desired: Desired, run: Run) -> KnownStatus:
    """The status that a failed run takes as known: a turn uses its own memory, unless a run by hand alerted since that
    Connect is away; a run by hand whether the newest check succeeded. If that can't be read, it reports nothing."""
    known = (run.turn.last_known or KnownStatus()) if run.turn is not None else None
    if known is not None and not known.reachable:
        return known
    scope = instance.build_scope(desired)
    try:
        async with reopen_if_lost(conn, desired, run) as reading:
            await store.rollback(reading)
            if known is not None:
                return replace(known, reachable=await store.read_told_by_hand(reading, scope) is not False)
            checks = await read_checks(reading, scope, LogFilter(limit=20))
    except FivrecError:
        return known or KnownStatus(reachable=False)
    # A check in the future is from a clock that was put back since, or from the app, in another zone.
    newest = next((check for check in checks if check.at - run.now() < _CLOCKS_APART), None)
    return KnownStatus(reachable=newest is None or newest.success)


async def record_failure(
    conn: Connection,
    desired: Desired,
    run: Run,
    exc: FivrecError,
    *,
    check: store.CheckRow | None = None,
    last_run: store.LastRunRow | None = None,
) -> bool:
    """Record best effort: a failure to record is logged, but hides no other failure. Writes the check alone if the
    audit log can't be written, and if a trigger on it may have been the fault. Returns whether anything was
    recorded."""
    together = None if isinstance(exc, NotConverged) else check
    try:
        async with reopen_if_lost(conn, desired, run) as recording:
            await store.rollback(recording)
            scope = instance.build_scope(desired)
            writes = store.Writes(run_id=run.id, check=together)
            alone = check is not None or last_run is not None
            writes = await _with_entry(recording, writes, desired, run, exc, alone=alone)
            if last_run is not None and await store.can_record_run(recording):
                writes = replace(writes, last_run=await keep_since(recording, last_run, scope))
            await store.commit(recording, writes, scope)
    except FivrecError as also:
        if also.code not in ("schema_missing", exc.code) and exc.code != "schema_newer":
            said = f"⚠️ the {exc.code} could not be recorded: {also.message}"
            run.log.warning(run.command, said, instance=desired.instance)
        return await _record_check(conn, desired, check)
    if check is not together:
        await _record_check(conn, desired, check)
    return True


async def _record_check(conn: Connection, desired: Desired, check: store.CheckRow | None) -> bool:
    from reconciler.database.status_check import write_lone_check

    if check is None or conn.closed:
        return False
    try:
        await write_lone_check(conn, instance.build_scope(desired), {}, check)
    except FivrecError:
        return False
    return True


async def _with_entry(
    conn: Connection, writes: store.Writes, desired: Desired, run: Run, exc: FivrecError, *, alone: bool
) -> store.Writes:
    """Begin the transaction, and add the failure's entry. `alone`: there is more to record, which is done even if no
    entry can be written."""
    from reconciler.engine.audit_log import with_audit
    from reconciler.planning.audit import run_event

    scope = instance.build_scope(desired)
    known = run.turn is not None and run.turn.recorded == exc.code
    message = fitted(exc.message, codec_of(conn))  # the database may not be able to store the manifest's text
    event = run_event("refused" if isinstance(exc, Refused) else "failed", exc.code, message)
    check = writes.check is not None
    try:
        tail = await store.begin_recording(conn, scope, check=check)
        # A run that failed took nothing over: the key keeps its owner.
        return with_audit(writes, desired, replace(run, adopt=False), tail, () if known else (event,))
    except FivrecError as also:
        if not alone or also.code not in NO_ENTRY:
            raise
        await store.rollback(conn)
        await store.begin_recording(conn, scope, log=False, check=check)
        run.log.warning(run.command, f"⚠️ not in the audit log: {also.message}", instance=desired.instance)
        return writes
