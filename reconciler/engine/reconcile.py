"""Reconcile one instance: observe, diff, plan, apply in one transaction, diff again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.database.schema import latest_version
from reconciler.engine import observe as instance
from reconciler.engine.bcrypt import Passwords, with_bcrypt
from reconciler.engine.commit import UNKNOWN, commit, find_cancellation, not_compared, reopen_if_lost, with_error
from reconciler.engine.guards import not_configured, refuse_another, refuse_stale, refuse_unsafe, would_refuse
from reconciler.engine.isolation_report import describe_violations
from reconciler.engine.match_secrets import match_secrets
from reconciler.engine.run import Run
from reconciler.engine.secrets import build_bound, write_generated_password
from reconciler.engine.status_check import build_cycle_result, check_to_record, record_failure
from reconciler.engine.writes import build_writes, check_row, find_rekeyed
from reconciler.model.errors import Busy, FivrecError, NotConverged, Refused
from reconciler.model.types import ConnectView, Desired, ErrorInfo, Snapshot
from reconciler.planning.plan import Plan, build_plan, managed_kinds
from reconciler.planning.report import DONE, PARTLY, CycleResult, InstanceReport, Outcome
from reconciler.planning.status_check import judge, problem
from reconciler.support.log import Level

if TYPE_CHECKING:
    from psycopg import AsyncConnection


WRONG_OWNER = "wrong_instance"
BESIDE = 2
"""Resources that every instance has beside those declared: its database and its schema."""


@dataclass(slots=True)
class _Attempt:
    """What is known so far: a failure's report and record need it."""

    started: float
    view: ConnectView | None = None
    plan: Plan | None = None
    snapshot: Snapshot | None = None
    created: bool = False
    turned: CycleResult | None = None
    passwords: Passwords = field(default_factory=Passwords)


async def reconcile(desired: Desired, run: Run) -> InstanceReport:
    """Apply one manifest. Foreseen errors end in the report; nothing but their record was written."""
    attempt = _Attempt(time.monotonic())
    conn: AsyncConnection | None = None
    try:
        conn, attempt.view = await instance.open_both(desired, run)
        _step(desired, run, attempt, "🔌 Connect and the database were asked")
        refuse_another(attempt.view)
        if conn is None:
            if run.check_only:
                raise not_configured(desired)
            if run.saved is not None:  # a stale plan writes nothing, not even an empty database
                refuse_stale(_plan(desired, run, attempt.view, Snapshot(None, database_exists=False)), desired, run)
            if desired.suspend:
                return await preview(desired, run)
            conn, attempt.created = await instance.make_database(desired, run)
        opened = conn
        return await with_bcrypt(lambda: _apply(opened, desired, run, attempt), pause=lambda: store.rollback(opened))
    except FivrecError as exc:
        await _record_end(conn, desired, run, attempt, exc)
        report = build_failed_report(desired, attempt.started, exc, attempt.view, attempt.plan)
        return replace(report, turned=attempt.turned)
    finally:
        if conn is not None:
            await instance.release(conn, run)


async def preview(desired: Desired, run: Run) -> InstanceReport:
    """The dry run: the same plan, from a READ ONLY transaction; writes nothing at all."""
    attempt = _Attempt(time.monotonic())
    conn: AsyncConnection | None = None
    try:
        conn, attempt.view = await instance.open_both(desired, run)
        _step(desired, run, attempt, "🔌 Connect and the database were asked")
        refuse_another(attempt.view)
        if conn is None and not desired.suspend:  # what is suspended makes none, and is shown all the same
            instance.refuse_to_make(desired)
        snapshot = await _look(conn, desired, run, attempt)
        attempt.plan = _plan(desired, run, attempt.view, snapshot)
        _step(desired, run, attempt, f"🔎 read; {len(attempt.plan.changes)} changes planned")
        explained = None
        if run.explain:
            from reconciler.planning.explain import explain

            explained = explain(run.explain, desired, attempt.plan, snapshot)
        drift = None
        if run.find_drift:
            from reconciler.planning.pull import find_drift

            drift = find_drift(desired, attempt.plan, snapshot)
        notes = would_refuse(attempt.plan, snapshot, desired)
        return replace(_report(desired, attempt), notes=notes, explained=explained, drift=drift)
    except FivrecError as exc:
        return build_failed_report(desired, attempt.started, exc, attempt.view, attempt.plan)
    finally:
        if conn is not None:
            await instance.release(conn, run)


async def _apply(conn: AsyncConnection, desired: Desired, run: Run, attempt: _Attempt) -> InstanceReport:
    assert attempt.view is not None  # noqa: S101
    snapshot = await _read(conn, desired, run, attempt, lock=True)
    if attempt.created:
        snapshot = replace(snapshot, database_exists=False)  # the plan is that of the dry run before
    attempt.snapshot = snapshot
    if run.check_only and (snapshot.schema_version is None or snapshot.config_id is None):
        raise not_configured(desired)
    attempt.plan = plan = _plan(desired, run, attempt.view, snapshot)
    _step(desired, run, attempt, f"🔎 locked and read; {len(plan.changes)} changes planned")
    refuse_stale(plan, desired, run)
    check = check_to_record(desired, run, attempt.view, snapshot, plan)
    usage = None
    if check and run.turn is not None:
        from reconciler.engine.usage import usage_to_queue

        usage = await usage_to_queue(conn, desired, run, plan)
    if desired.suspend:
        bare = store.Writes(run_id=run.id, check=check_row(check) if check else None, usage=usage)
        await _record_check(conn, desired, run, snapshot, bare)
        attempt.turned = build_cycle_result(desired, run, attempt.view, snapshot, plan, writes=bare)
        return _report(desired, attempt)
    refuse_unsafe(plan, snapshot, desired, run)
    writes = replace(
        build_writes(plan, snapshot, desired, run, attempt.passwords),
        check=check_row(check) if check else None,
        usage=usage,
    )
    note = write_generated_password(plan, desired)
    if note:
        run.log.info("generated_password", note, instance=desired.instance)
    await commit(conn, writes, desired, run)
    _step(desired, run, attempt, "💾 written and committed")
    attempt.turned = build_cycle_result(desired, run, attempt.view, snapshot, plan, writes=writes)
    head = writes.audit[-1].hash if writes.audit else snapshot.audit_head[1]
    trouble = await _compare_again(conn, desired, run, attempt, head) if plan.changes else None
    if plan.changes:
        _step(desired, run, attempt, "🔁 compared again")
    notes = await describe_violations(conn, desired, run, plan)
    return with_error(replace(_report(desired, attempt), audit_head=head or None, notes=notes), trouble)


async def _read(conn: AsyncConnection, desired: Desired, run: Run, attempt: _Attempt, *, lock: bool) -> Snapshot:
    """Observe the database; leaves the transaction open, also where bcrypt is Unanswered."""
    assert attempt.view is not None  # noqa: S101
    scope = instance.build_scope(desired)
    snapshot = await store.begin(
        conn,
        scope,
        run.keys,
        lock=lock,
        limits=run.limits,
        deep=run.deep,
        last_check=run.turn is not None,
        last_heard=desired.suspend or bool(desired.ignore),
    )
    if snapshot.owner is not None and snapshot.owner != desired.instance:
        snapshot = _adopted(snapshot, snapshot.owner, desired, run)
    if not snapshot.heard:
        state = {key: row for key, row in snapshot.state.items() if key.kind != "status"}
        snapshot = replace(snapshot, state=state)
    managed = managed_kinds(desired, attempt.view)
    return match_secrets(snapshot, managed, run.keys, desired.bcrypt_cost, attempt.passwords)


async def _look(conn: AsyncConnection | None, desired: Desired, run: Run, attempt: _Attempt) -> Snapshot:
    """Observe without the lock, and end the transaction. A missing database reads as an empty one."""
    if conn is None:
        return Snapshot(None, database_exists=False)
    found = await with_bcrypt(
        lambda: _read(conn, desired, run, attempt, lock=False), pause=lambda: store.rollback(conn)
    )
    await store.rollback(conn)
    return found


def _adopted(snapshot: Snapshot, owner: str, desired: Desired, run: Run) -> Snapshot:
    if not run.adopt:
        raise Refused(
            f'the database belongs to instance "{owner}", not to "{desired.instance}"',
            hint="check database.url; --adopt takes the database over",
            code=WRONG_OWNER,
        )
    return find_rekeyed(snapshot, owner, desired.instance)


def _plan(desired: Desired, run: Run, view: ConnectView, snapshot: Snapshot) -> Plan:
    return build_plan(desired, view, snapshot, schema_version=latest_version(), today=run.now().date())


async def _compare_again(
    conn: AsyncConnection, desired: Desired, run: Run, attempt: _Attempt, head: str
) -> ErrorInfo | None:
    """Diff again after the commit. Nothing that happens here undoes it, so the report keeps its changes."""
    for last in (False, True):
        if trouble := find_cancellation():
            return trouble
        try:
            await _converged(conn, desired, run, attempt, head)
        except NotConverged as exc:
            with suppress(asyncio.CancelledError):  # what was found is told, also where it can't be recorded any more
                await record_failure(conn, desired, run, exc)
            return ErrorInfo(exc.code, exc.message, exc.hint)
        except FivrecError as exc:
            if last or not conn.closed:
                return not_compared(exc.message)
        except asyncio.CancelledError:
            return find_cancellation()
        else:
            return None
    raise AssertionError


async def _converged(conn: AsyncConnection, desired: Desired, run: Run, attempt: _Attempt, head: str) -> None:
    """A second apply must find nothing; where another run came in between, that is for it to say."""
    assert attempt.view is not None  # noqa: S101
    async with reopen_if_lost(conn, desired, run) as reading:
        snapshot = await _look(reading, desired, run, attempt)
    rest = _plan(desired, run, attempt.view, snapshot)
    if rest.changes and snapshot.audit_head[1] == head:
        named = ", ".join(sorted(str(change.key) for change in rest.changes))
        raise NotConverged(
            f"after the commit these still differ: {named}",
            hint="something else writes to them, or a trigger changes what is written",
        )


async def _record_check(
    conn: AsyncConnection,
    desired: Desired,
    run: Run,
    snapshot: Snapshot,
    writes: store.Writes,
) -> None:
    """A suspended manifest changes nothing: only the check is recorded, where there is an instance to record it of."""
    if writes.check is None or snapshot.config_id is None or snapshot.schema_version is None:
        await store.rollback(conn)
        return
    await commit(conn, writes, desired, run)


async def _record_end(
    conn: AsyncConnection | None, desired: Desired, run: Run, attempt: _Attempt, exc: FivrecError
) -> None:
    """A failed or refused run: its check and its audit row, in transactions of their own. Best effort."""
    if conn is None or isinstance(exc, Busy) or exc.code in (WRONG_OWNER, UNKNOWN) or find_cancellation():
        return
    check = judge(attempt.view, run.check_type) if attempt.view and attempt.view.status_error else None
    await record_failure(conn, desired, run, exc, check_row(check) if check else None)
    await _check_alone(conn, desired, run, attempt)


async def _check_alone(conn: AsyncConnection, desired: Desired, run: Run, attempt: _Attempt) -> None:
    """A turn whose reconcile was refused or failed is a check all the same: recorded, locking, unlocking, alerting.

    Else whatever stands in the way of a plan would keep a suspended instance open. Once a slot, and where Connect says
    something new. Best effort: what kept the instance from being reconciled is what the turn reports.
    """
    view, turn = attempt.view, run.turn
    if turn is None or run.check_only or view is None or view.status is None or find_cancellation():
        return
    told = turn.heard
    if not turn.due and told and (told.status, told.billing_status) == (view.status.status, view.status.billing_status):
        return
    bare = replace(desired, managed={}, plans_from_connect=False)
    alone = _Attempt(attempt.started, view)
    with suppress(FivrecError):
        async with reopen_if_lost(conn, desired, run) as checking:
            await store.rollback(checking)
            await with_bcrypt(
                lambda: _apply(checking, bare, replace(run, check_only=True), alone),
                pause=lambda: store.rollback(checking),
            )
    attempt.turned = alone.turned


def _step(desired: Desired, run: Run, attempt: _Attempt, words: str) -> None:
    """With -v: how far an instance is, in milliseconds since its beginning."""
    if run.log.level <= Level.DEBUG:
        took = elapsed_ms(attempt.started)
        run.log.debug(run.command, f"{words} ({took} ms)", instance=desired.instance, duration_ms=took)


def _report(desired: Desired, attempt: _Attempt) -> InstanceReport:
    assert attempt.plan is not None  # noqa: S101
    assert attempt.view is not None  # noqa: S101
    plan = attempt.plan
    trouble = problem(attempt.view) if desired.connect else None
    outcome: Outcome = "changed" if plan.changes else "in_sync"
    code = DONE
    if trouble is not None:
        outcome, code = "degraded", PARTLY
    if desired.suspend:
        outcome = "skipped"
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome=outcome,
        duration_ms=elapsed_ms(attempt.started),
        exit_code=code,
        connect=attempt.view if desired.connect else None,
        plan=plan,
        resources=BESIDE + sum(len(managed.resources) for managed in plan.managed.values()),
        error=trouble,
        digest=plan.digest(build_bound(desired)) if plan.changes else None,
        path=desired.origin.path,
        line=desired.origin.line,
        turned=attempt.turned,
    )


def build_failed_report(
    desired: Desired, started: float, exc: FivrecError, view: ConnectView | None = None, plan: Plan | None = None
) -> InstanceReport:
    """The report of an instance whose work ended in a foreseen error."""
    outcome: Outcome = "failed"
    match exc.exit_code:
        case 3:
            outcome = "refused"
        case 4:
            outcome = "busy"
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome=outcome,
        duration_ms=elapsed_ms(started),
        exit_code=exc.exit_code,
        connect=view if desired.connect else None,
        plan=plan if outcome == "refused" else None,
        error=ErrorInfo(exc.code, exc.message, exc.hint),
        path=desired.origin.path,
        line=desired.origin.line,
    )


def elapsed_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
