"""Reconcile one instance: observe, diff, plan, write, diff again, commit: one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import field, replace

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.errors import is_of_another
from reconciler.database.schema import latest_version, version_of
from reconciler.engine import adoption
from reconciler.engine import observe as instance
from reconciler.engine.alerts import as_stored, find_drift_alert, find_failure_alert, store_alerts
from reconciler.engine.bcrypt import Passwords, with_bcrypt
from reconciler.engine.commit import UNKNOWN, commit, conclude, record, reopen_if_lost, with_error, write_and_compare
from reconciler.engine.guards import (
    WRONG_OWNER,
    all_refusals,
    configured_as,
    database_notes,
    newer_notes,
    not_configured,
    refuse_another,
    refuse_other_owner,
    refuse_stale,
    refuse_unknown_drift,
    refuse_unsafe,
    say_newer,
    would_refuse,
)
from reconciler.engine.last_run import ended_row, keep_since, last_run_row
from reconciler.engine.lone_check import NOTHING_WRITTEN, has_no_place, is_due, record_plainly
from reconciler.engine.match_secrets import hash_ahead, match_secrets, most_cost, untried_hashes
from reconciler.engine.reports import applied_outcome, build_failed_report, build_report, elapsed_ms
from reconciler.engine.run import DATABASE, Run
from reconciler.engine.secrets import write_generated_password
from reconciler.engine.status_check import build_cycle_result, check_to_record, end_of, find_alerts, recall_check
from reconciler.engine.writes import build_writes, check_row, find_rekeyed
from reconciler.model.errors import Busy, DatabaseError, FivrecError, MissingSetting, NotConverged, Refused
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.records import dataclass
from reconciler.model.types import ConnectView, Desired, Snapshot
from reconciler.planning.alerts import Alert
from reconciler.planning.plan import Plan, build_plan, managed_kinds, only_drift, only_status
from reconciler.planning.report import CycleResult, InstanceReport
from reconciler.support.cancellation import is_being_stopped
from reconciler.support.log import Level, counted

LATE_S = 10.0
"""Seconds that an instance whose time is over may take to record that, and to follow Connect's lock."""
SILENT_S = 2.0
"""Seconds for the lock alone, after a server did not answer and nothing could be recorded: it may still be silent."""


@dataclass(slots=True)
class _Attempt:
    """What is known so far, for the report and record of a failure. `version`: of the schema found; `unmade`: there was
    none. `unfinished`: an adoption is. `beside`: the check of a run whose outcome is already recorded."""

    started: float
    view: ConnectView | None = None
    conn: Connection | None = None
    plan: Plan | None = None
    snapshot: Snapshot | None = None
    created: bool = False
    beside: bool = False
    version: int | None = None
    unmade: bool = False
    unfinished: bool = False
    turned: CycleResult | None = None
    failure_alerts: tuple[Alert, ...] = ()
    deep_notes: tuple[str, ...] = ()
    passwords: Passwords = field(default_factory=Passwords)

    @property
    def is_old(self) -> bool:
        """Whether an older fivrec migrated the database."""
        return self.version is not None and self.version < latest_version()


async def reconcile(desired: Desired, run: Run) -> InstanceReport:
    """Apply one manifest. Errors end in the report; then nothing was written but their record and Connect's check."""
    attempt = _Attempt(time.monotonic(), passwords=Passwords(most_cost=most_cost(desired)))
    try:
        return await _open_and_apply(desired, run, attempt)
    except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 (what nobody foresaw ends this instance alone)
        error = end_of(exc, desired, run)
        if attempt.conn is not None and attempt.created and isinstance(error, Refused):
            attempt.conn = await instance.unmake_database(attempt.conn, desired, run)
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_S if run.is_late() else None):
                await _record_end(attempt.conn, desired, run, attempt, error)
        report = build_failed_report(desired, attempt.started, error, attempt.view, attempt.plan)
        return replace(report, turned=attempt.turned, alerts=attempt.failure_alerts)
    finally:
        if attempt.conn is not None:
            await instance.release(attempt.conn, run)


async def _open_and_apply(desired: Desired, run: Run, attempt: _Attempt) -> InstanceReport:
    def keep(conn: Connection, view: ConnectView) -> None:
        attempt.conn, attempt.view = conn, view

    attempt.conn, attempt.view = await instance.open_both(desired, run, keep=keep)
    _step(desired, run, attempt, "🔌 Connect and the database were asked")
    refuse_another(attempt.view)
    if attempt.conn is None:
        if desired.lacks is not None:
            raise desired.lacks
        if run.check_only:
            raise not_configured(desired)
        if run.saved is not None:  # a stale plan writes nothing, not even an empty database
            empty = Snapshot(None, database_exists=False)
            refuse_stale(_plan(desired, run, attempt.view, empty), desired, run, attempt.view)
        if desired.suspend:
            return await preview(desired, run)
        attempt.conn, attempt.created = await instance.make_database(desired, run)
    with run.waiting_for(DATABASE):
        return await _apply_settled(attempt.conn, desired, run, attempt)


async def preview(desired: Desired, run: Run) -> InstanceReport:
    """The dry run: the same plan, from a READ ONLY transaction; writes nothing at all."""
    attempt = _Attempt(time.monotonic(), passwords=Passwords(most_cost=most_cost(desired)))
    conn: Connection | None = None
    try:
        conn, attempt.view = await instance.open_both(desired, run)
        _step(desired, run, attempt, "🔌 Connect and the database were asked")
        refuse_another(attempt.view)
        if conn is None and not desired.suspend:  # a suspended instance creates no database, and is still shown
            instance.refuse_to_make(desired)
        with run.waiting_for(DATABASE):
            snapshot = await _look(conn, desired, run, attempt)
        if run.drift_only or run.find_drift:
            refuse_unknown_drift(desired, snapshot)
        attempt.snapshot = snapshot
        attempt.plan = _plan(desired, run, attempt.view, snapshot)
        if run.drift_only:
            attempt.plan = only_drift(attempt.plan, snapshot)
        _step(desired, run, attempt, f"🔎 read; {counted(len(attempt.plan.changes), 'change')} planned")
        explained = None
        if run.explain:
            from reconciler.planning.three_way_view import explain

            explained = explain(run.explain, desired, attempt.plan, snapshot)
        drift = None
        if run.find_drift:
            from reconciler.planning.pull import find_drift

            drift = find_drift(desired, attempt.plan, snapshot)
            say_newer(snapshot.schema_version, desired, run)
        refusals = () if run.drift_only else await all_refusals(conn, attempt.plan, snapshot, desired)
        notes = (
            *newer_notes(snapshot),
            *database_notes(snapshot, attempt.plan, desired.instance),
            *refusals,
            *untried_hashes(snapshot, desired),
            *attempt.deep_notes,
            *(() if run.drift_only else await adoption.describe_foreseen(conn, desired, run, attempt.plan, snapshot)),
        )
        return replace(_report(desired, attempt), notes=notes, explained=explained, drift=drift)
    except Exception as exc:  # noqa: BLE001 (as in `reconcile`)
        error = end_of(exc, desired, run)
        return build_failed_report(desired, attempt.started, error, attempt.view, attempt.plan)
    finally:
        if conn is not None:
            await instance.release(conn, run)


async def _apply_settled(conn: Connection, desired: Desired, run: Run, attempt: _Attempt) -> InstanceReport:
    """Apply, and once more if another session may have committed something between reading and writing, or if a row got
    a number that a sequence behind its table had given out before. A trigger would do the same again: then the second
    attempt fails in the same way. What takes long is not repeated for that alone."""

    async def once() -> InstanceReport:
        return await with_bcrypt(lambda: _apply(conn, desired, run, attempt), pause=lambda: store.rollback(conn))

    try:
        return await once()
    except NotConverged as exc:
        if exc.written and _takes_long(attempt.plan):
            raise
    except DatabaseError as exc:
        advanced = exc.code == "rows_unfit" and await adoption.advance_sequences(conn, desired, run, exc)
        if not advanced and not is_of_another(exc, retry_rows=not _takes_long(attempt.plan)):
            raise
    await store.rollback(conn)
    return await once()


def _takes_long(plan: Plan | None) -> bool:
    return plan is None or any(change.key.kind in ("schema", TEST_DATA) for change in plan.changes)


async def _apply(conn: Connection, desired: Desired, run: Run, attempt: _Attempt) -> InstanceReport:
    assert attempt.view is not None  # noqa: S101
    view = attempt.view
    snapshot = await _read(conn, desired, run, attempt, lock=True)
    if attempt.created:
        snapshot = replace(snapshot, database_exists=False)  # the plan is the one of the preceding dry run
    attempt.snapshot = snapshot
    if desired.lacks is not None:
        raise desired.lacks
    if run.check_only and (snapshot.schema_version is None or snapshot.config_id is None):
        raise not_configured(desired, snapshot)
    attempt.plan = plan = _plan(desired, run, view, snapshot)
    _step(desired, run, attempt, f"🔎 locked and read; {counted(len(plan.changes), 'change')} planned")
    refuse_stale(plan, desired, run, view)
    check = check_to_record(desired, run, view, snapshot, plan)
    recorded = store.Writes(run_id=run.id, check=check_row(check, snapshot.config_id) if check else None)
    if desired.suspend or run.report_only:
        report = await _record_only(conn, desired, run, attempt, recorded)
        await _queue_usage(conn, desired, run, attempt)
        return replace(report, turned=attempt.turned)
    refuse_unsafe(plan, snapshot, desired, run)
    writes = replace(
        build_writes(plan, snapshot, desired, run, attempt.passwords),
        check=recorded.check,
        last_run=None if attempt.beside else last_run_row(desired, run, plan, applied_outcome(desired, view, plan)),
    )
    writes = _fitting(_with_entries(writes, desired, run, snapshot, plan), desired, run, attempt)
    writes, alerts = _with_alerts(writes, desired, run, attempt, made=True)
    await _write(conn, desired, run, attempt, writes)
    attempt.turned = build_cycle_result(desired, run, view, snapshot, plan, writes=writes, alerts=alerts)
    await _queue_usage(conn, desired, run, attempt)
    unfinished = await adoption.finish_adoption(conn, desired, run) if attempt.unfinished else None
    head = writes.audit[-1].hash if writes.audit else snapshot.audit_head[1]
    notes = (
        *database_notes(snapshot, plan, desired.instance),
        *untried_hashes(snapshot, desired),
        *attempt.deep_notes,
        *(() if snapshot.empty else await adoption.describe_found(conn, desired, run, plan)),
    )
    return with_error(replace(_report(desired, attempt), audit_head=head or None, notes=notes), unfinished)


async def _write(conn: Connection, desired: Desired, run: Run, attempt: _Attempt, writes: store.Writes) -> None:
    """Write and commit. Changed rows are read back and compared before the commit. Raises NotConverged."""
    plan, snapshot = attempt.plan, attempt.snapshot
    assert plan is not None and snapshot is not None  # noqa: S101, PT018
    note = write_generated_password(plan, desired)
    if note:
        run.log.info("generated_password", note, instance=desired.instance)
    if not plan.changes or (attempt.is_old and not writes.migrate):  # an old schema can't be read as this one
        await commit(conn, writes, desired, run, snapshot=snapshot)
    else:
        await write_and_compare(
            conn, writes, plan, desired, run, plan_again=lambda found: _plan_again(found, desired, run, attempt)
        )
        _step(desired, run, attempt, "🔁 compared again")
        await conclude(conn, writes, desired, run)
    _step(desired, run, attempt, "💾 written and committed")


def _plan_again(found: Snapshot, desired: Desired, run: Run, attempt: _Attempt) -> Plan:
    """The plan of what was just written, which must be empty. Does not run bcrypt, because the transaction is open."""
    assert attempt.view is not None  # noqa: S101
    attempt.unfinished = found.unfinished
    managed = managed_kinds(desired, attempt.view)
    settled = match_secrets(found, managed, desired, run.keys, attempt.passwords.only_known())
    return _plan(desired, run, attempt.view, settled)


async def _queue_usage(conn: Connection, desired: Desired, run: Run, attempt: _Attempt) -> None:
    """Queue a usage report after the commit, in a transaction of its own, so that slow counting delays nothing else. If
    another watch made the check, that one reports."""
    if run.turn is None or attempt.plan is None or attempt.turned is None or attempt.turned.checked_ago_s is not None:
        return
    from reconciler.engine.usage import queue_usage

    if await queue_usage(conn, desired, run, attempt.plan):
        attempt.turned = replace(attempt.turned, usage_queued=True)


def _with_entries(writes: store.Writes, desired: Desired, run: Run, snapshot: Snapshot, plan: Plan) -> store.Writes:
    if not plan.changes and snapshot.audit_key is not None:
        return writes
    from reconciler.engine.audit_log import events_to_begin, tail_of, with_audit
    from reconciler.planning.audit import build_events

    tail = tail_of(snapshot)
    try:
        return with_audit(writes, desired, run, tail, build_events(plan.changes) or events_to_begin(run, tail))
    except MissingSetting as exc:
        if any(change.key.kind != "status" for change in plan.changes):
            raise
        # The lock follows Connect even if keys are missing: status_check_logs records it.
        said = f"⚠️ the check and its lock are recorded, but not in the audit log: {exc.message}"
        run.log.warning(run.command, said, instance=desired.instance, error=exc.code)
        return writes


def _fitting(writes: store.Writes, desired: Desired, run: Run, attempt: _Attempt) -> store.Writes:
    """The writes that the schema has a place for, unless it is migrated first."""
    if attempt.version is None or not attempt.is_old or writes.migrate:
        return writes
    from reconciler.engine.audit_log import for_old_schema

    return for_old_schema(writes, attempt.version, desired, run)


def _with_alerts(
    writes: store.Writes, desired: Desired, run: Run, attempt: _Attempt, *, made: bool
) -> tuple[store.Writes, tuple[Alert, ...]]:
    """Returns the writes with the alerts that result from them, and these alerts, to be logged after the commit."""
    view, snapshot, plan = attempt.view, attempt.snapshot, attempt.plan
    assert plan is not None and snapshot is not None and view is not None  # noqa: S101, PT018
    found = find_alerts(desired, run, view, snapshot, plan, checked=writes.check is not None, made=made)
    if not found or not ((attempt.version or 0) >= version_of("alerts") or writes.migrate):
        return writes, found
    return replace(writes, alerts=found), as_stored(found)


async def _read(conn: Connection, desired: Desired, run: Run, attempt: _Attempt, *, lock: bool) -> Snapshot:
    """Observe the database. Leaves the transaction open, even if it raises NeedsBcrypt."""
    assert attempt.view is not None  # noqa: S101
    # For a check, read only what Connect's answer is about: nothing else that is wrong with the instance may block the
    # lock. None: all kinds.
    kinds = None if desired.managed else frozenset(managed_kinds(desired, attempt.view))
    snapshot = await store.begin(
        conn,
        instance.build_scope(desired),
        run.keys if kinds is None or "config" in kinds else None,
        kinds=kinds,
        lock=lock,
        deep=run.deep,
        last_check=run.turn is not None,
        last_received=desired.suspend or bool(desired.ignore),
        unmade=attempt.unmade,
        foresee=lambda: _foresee(desired, run, attempt) if lock else None,
        open_drift=kinds is None,  # even with the lock: a plan that lacks one of fivrec's tables is the same in both
    )
    attempt.version, attempt.unmade = snapshot.schema_version, snapshot.schema_version is None
    attempt.unfinished = snapshot.unfinished
    if lock:  # a dry run shows since when drift is there
        snapshot = replace(await recall_check(conn, desired, run, attempt.view, snapshot), open_drift=())
    if kinds is not None and snapshot.schema_version is not None:  # a check does not migrate the schema
        snapshot = replace(snapshot, schema_version=latest_version(), missing=())
    owner = snapshot.owner or (configured_as(snapshot, desired.instance) if kinds is None else None)
    if owner is not None and owner != desired.instance:
        if not run.adopt:
            refuse_other_owner(owner, desired.instance, command=run.command)
        snapshot = find_rekeyed(snapshot, owner, desired.instance)
    if not snapshot.answered:
        state = {key: row for key, row in snapshot.state.items() if key.kind != "status"}
        snapshot = replace(snapshot, state=state)
    managed = managed_kinds(desired, attempt.view)
    if run.deep and not snapshot.missing and snapshot.schema_version is not None:
        attempt.deep_notes = await adoption.describe_deeply(conn, desired, managed)
    return match_secrets(snapshot, managed, desired, run.keys, attempt.passwords)


def _foresee(desired: Desired, run: Run, attempt: _Attempt) -> None:
    """In a database that was never migrated: hash the passwords before it is read. Raises NeedsBcrypt."""
    assert attempt.view is not None  # noqa: S101
    attempt.unmade = True
    if not (desired.suspend or run.report_only or run.check_only or desired.lacks):
        hash_ahead(managed_kinds(desired, attempt.view), desired, attempt.passwords)


async def _look(conn: Connection | None, desired: Desired, run: Run, attempt: _Attempt) -> Snapshot:
    """Observe without the lock, and end the transaction. A missing database reads as an empty one."""
    if conn is None:
        return Snapshot(None, database_exists=False)
    found = await with_bcrypt(
        lambda: _read(conn, desired, run, attempt, lock=False), pause=lambda: store.rollback(conn)
    )
    await store.rollback(conn)
    return found


def _plan(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> Plan:
    return build_plan(desired, view, snapshot, schema_version=latest_version(), today=run.today)


async def _record_only(
    conn: Connection, desired: Desired, run: Run, attempt: _Attempt, recorded: store.Writes
) -> InstanceReport:
    """For an instance that is suspended or only reported: record the check and the run. If it is only reported, also
    follow Connect's status and lock."""
    plan, snapshot, view = attempt.plan, attempt.snapshot, attempt.view
    assert plan is not None and snapshot is not None and view is not None  # noqa: S101, PT018
    report = _report(desired, attempt)
    if report.outcome == "changed":
        report = replace(report, outcome="skipped")
    unready = snapshot.config_id is None or snapshot.schema_version is None
    if unready and recorded.check and view.status is not None and snapshot.owner == desired.instance:
        await store.rollback(conn)  # the app's own row has columns for all or part of it
        attempt.turned = await record_plainly(conn, desired, run, view)
        return replace(report, turned=attempt.turned, left=True)
    status = only_status(plan)
    if desired.suspend or not run.report_only:
        status = replace(status, changes=())
    else:
        report = replace(report, notes=would_refuse(plan, snapshot, desired))
        followed = build_writes(status, snapshot, replace(desired, whole=False), run, attempt.passwords)
        followed = _fitting(_with_entries(followed, desired, run, snapshot, status), desired, run, attempt)
        recorded = replace(followed, check=recorded.check)
    if snapshot.schema_version == latest_version() and not attempt.beside:
        row = last_run_row(desired, run, plan, report.outcome, made=False)
        recorded = replace(recorded, last_run=await keep_since(conn, row, instance.build_scope(desired)))
    recorded, alerts = _with_alerts(recorded, desired, run, attempt, made=False)
    await record(
        conn,
        recorded,
        status,
        desired,
        run,
        snapshot=snapshot,
        plan_again=None if attempt.is_old else lambda found: only_status(_plan_again(found, desired, run, attempt)),
    )
    attempt.turned = build_cycle_result(desired, run, view, snapshot, plan, writes=recorded, alerts=alerts)
    return replace(report, turned=attempt.turned, left=True)


async def _record_end(conn: Connection | None, desired: Desired, run: Run, attempt: _Attempt, exc: FivrecError) -> None:
    """Record a failed or refused run: its audit row and its check, in transactions of their own. Best effort."""
    if conn is None or isinstance(exc, Busy) or exc.code in (WRONG_OWNER, UNKNOWN) or is_being_stopped():
        return
    recorded = await _tried(_record_failure(conn, desired, run, attempt, exc), desired, run)
    if not has_no_place(exc, attempt.snapshot):
        silent = not recorded and exc.code in ("database_timeout", "database_unreachable")
        async with asyncio.timeout(SILENT_S if silent else None):
            await _tried(_check_alone(conn, desired, run, attempt), desired, run)


async def _tried(recording: Coroutine[None, None, bool], desired: Desired, run: Run) -> bool:
    """Returns whether anything was recorded. A failure to record hides no other failure, and delays no lock."""
    try:
        return await recording
    except Exception as exc:  # noqa: BLE001 (whatever stands in the log, or instead of a key)
        end_of(exc, desired, run)
    return False


async def _record_failure(conn: Connection, desired: Desired, run: Run, attempt: _Attempt, exc: FivrecError) -> bool:
    """Record a run that failed, and store its alerts. Those that can't be stored are reported anyway, and again after a
    restart."""
    from reconciler.engine.status_check import record_failed_run

    last_run = ended_row(desired, run, attempt.plan, exc)
    recorded, attempt.turned = await record_failed_run(conn, desired, run, exc, view=attempt.view, last_run=last_run)
    if recorded and exc.code not in NOTHING_WRITTEN:
        changes = attempt.plan.changes if attempt.plan is not None and isinstance(exc, Refused) else ()
        found = (*find_failure_alert(run, desired, exc), *find_drift_alert(run, desired, changes, made=False))
        attempt.failure_alerts = await store_alerts(desired, run, found)
    return recorded


async def _check_alone(conn: Connection, desired: Desired, run: Run, attempt: _Attempt) -> bool:
    """Make the check of a run that was refused or failed: record it, lock or unlock, alert.

    Otherwise whatever blocks a plan would keep a suspended instance open. First tries what `fivrec check` does; if that
    fails too, writes only the lock and the check. Best effort: the report is about the error that kept the instance
    from being reconciled.
    """
    view = attempt.view
    if view is None or not is_due(desired, run, view) or is_being_stopped():
        return False
    bare = replace(desired.without_declarations(), lacks=None)
    turn = replace(run.turn, recorded=None) if run.turn is not None else None  # that trouble is not over
    checking = replace(run, check_only=True, saved=None, adopt=False, deep=False, turn=turn)
    alone = _Attempt(attempt.started, view, beside=True)
    async with reopen_if_lost(conn, desired, run) as other:
        await store.rollback(other)
        # A failed check is not repeated in the same way.
        whole = desired.managed or desired.plans_from_connect or desired.lacks
        if not whole or not await _checked(other, bare, checking, alone):
            alone.turned = await record_plainly(other, bare, checking, view)
    attempt.turned = alone.turned
    return True


async def _checked(conn: Connection, bare: Desired, run: Run, alone: _Attempt) -> bool:
    """Whether the check was recorded as `fivrec check` does it, or must not be recorded."""
    try:
        await _apply_settled(conn, bare, run, alone)
    except FivrecError as exc:
        return has_no_place(exc, alone.snapshot)
    except Exception:  # noqa: BLE001 (the lock alone may still be had)
        return False
    return True


def _step(desired: Desired, run: Run, attempt: _Attempt, words: str) -> None:
    """With -v: log how far an instance is, in milliseconds since its start."""
    if run.log.level <= Level.DEBUG:
        took = elapsed_ms(attempt.started)
        run.log.debug(run.command, f"{words} ({took} ms)", instance=desired.instance, duration_ms=took)


def _report(desired: Desired, attempt: _Attempt) -> InstanceReport:
    assert attempt.plan is not None and attempt.view is not None  # noqa: S101, PT018
    drift = attempt.snapshot.open_drift if attempt.snapshot else ()
    return build_report(desired, attempt.started, attempt.view, attempt.plan, open_drift=drift, turned=attempt.turned)
