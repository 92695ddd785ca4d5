"""The end of an apply: write, compare before the commit, commit. If the connection is lost on the way, find out whether
the transaction was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.engine import observe
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError, MissingSetting, NotConverged
from reconciler.model.kinds import BY_NAME
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, ErrorInfo, Key, Snapshot
from reconciler.planning.plan import Plan
from reconciler.planning.report import FAILED, InstanceReport

UNKNOWN = "commit_unknown"
LOOKUP_S = 5
AGAIN_S = 3
"""Seconds that a new connection may take after one was lost: the whole lookup has to end within 30 s."""


async def write_and_compare(
    conn: Connection,
    writes: store.Writes,
    plan: Plan,
    desired: Desired,
    run: Run,
    *,
    plan_again: Callable[[Snapshot], Plan],
) -> None:
    """Write into the open transaction, then plan again. Raises NotConverged, naming resources and triggers, if a change
    is left; the caller then rolls back everything that was written."""
    kinds = None if desired.managed else frozenset(plan.managed)
    try:
        found = await store.write(
            conn,
            writes,
            observe.build_scope(desired),
            run.keys if kinds is None or "config" in kinds else None,
            removed=run.removed,
            deep=run.deep,
            kinds=kinds,
        )
        rest = {change.key for change in plan_again(found).changes} | _other_hashes(writes, found)
    except MissingSetting:  # the keys could open what was read before
        rest = {Key("config", desired.instance)}
    if not rest:
        return
    written = {change.key for change in plan.changes}
    raise NotConverged(
        f"after they were written these still differ: {await _named(conn, desired, rest)}; nothing was committed",
        hint="a trigger or rule changes what is written, or the column can't hold it: fix that, or declare the result",
        written=bool(rest & written),
    )


async def record(
    conn: Connection,
    writes: store.Writes,
    status: Plan,
    desired: Desired,
    run: Run,
    *,
    snapshot: Snapshot,
    plan_again: Callable[[Snapshot], Plan] | None,
) -> None:
    """Write as much of the record as the schema has a place for. A lock that follows Connect is compared like any other
    change, unless the schema is too old to be read. Raises NotConverged if it differs."""
    ready = snapshot.config_id is not None and snapshot.schema_version is not None
    if not ready:
        writes = replace(writes, check=None, rows=(), audit=(), alerts=())
    if not (writes.check or writes.last_run or writes.audit):
        await store.rollback(conn)
    elif ready and status.changes and plan_again is not None:
        await write_and_compare(conn, writes, status, desired, run, plan_again=plan_again)
        await conclude(conn, writes, desired, run)
    else:
        await commit(conn, writes, desired, run, snapshot=snapshot)


async def _named(conn: Connection, desired: Desired, rest: set[Key]) -> str:
    """Names the resources, the triggers that may have changed them, and the columns that may not hold them. Rolls
    back."""
    kinds, schema = {key.kind for key in rest}, desired.database.schema
    triggers = await store.read_triggers(conn, schema, kinds)
    columns = await store.read_other_types(conn, schema, kinds)
    named = ", ".join(sorted(str(key) for key in rest))
    why = f" ({', '.join(triggers)})" if triggers else ""
    return f"{named}{why}" + (f"; not as documented: {', '.join(columns)}" if columns else "")


def _other_hashes(writes: store.Writes, found: Snapshot) -> set[Key]:
    """Returns the resources whose stored hash is not the one that was written. Compares the text, because bcrypt would
    take too long."""
    differing: set[Key] = set()
    for row in writes.rows:
        for field, seal in BY_NAME[row.kind].sensitive.items():
            wanted = row.params.get(field)
            if seal != "bcrypt" or wanted is None:
                continue
            key = Key(row.kind, row.params["key"])
            if key not in found.state:
                continue  # no longer an administrator; a declared one appears in the plan's remaining changes
            stored = found.state[key].fields.get(field)
            if not isinstance(stored, Secret) or stored.reveal() != wanted:
                differing.add(key)
    return differing


async def commit(conn: Connection, writes: store.Writes, desired: Desired, run: Run, *, snapshot: Snapshot) -> None:
    """Commit. If the connection is lost, look up over a new one whether the transaction was committed. If the plan does
    not write the lock, the lock stays as it was read: a trigger on the recorded rows must not undo it.

    Raises NotConverged; DatabaseError `commit_lost` if nothing was written, or `commit_unknown` if that could not be
    determined.
    """
    writes_lock = any(row.kind == "status" for row in writes.rows)
    if not writes_lock:
        writes = replace(writes, lock=snapshot.lock)
    await _looked_up(
        store.commit(conn, writes, observe.build_scope(desired), removed=run.removed),
        writes,
        desired,
        run,
    )


async def conclude(conn: Connection, writes: store.Writes, desired: Desired, run: Run) -> None:
    """Commit what was written and compared. Raises the same errors as `commit`."""
    await _looked_up(store.conclude(conn, observe.build_scope(desired)), writes, desired, run)


async def _looked_up(committing: Coroutine[None, None, None], writes: store.Writes, desired: Desired, run: Run) -> None:
    try:
        await committing
    except DatabaseError as exc:
        if exc.code != UNKNOWN:
            raise
        if not await _found(writes, desired, run, exc):
            raise DatabaseError(
                "the connection was lost while committing, and nothing was written",
                hint="check the network and the server, then run again",
                code="commit_lost",
            ) from exc


async def _found(writes: store.Writes, desired: Desired, run: Run, unknown: DatabaseError) -> bool:
    from reconciler.database.lost_commit import wait_for_lock_release, was_committed

    limits = replace(run.limits, lock_wait_s=LOOKUP_S, connect_s=AGAIN_S, total_s=LOOKUP_S + 2)
    scope = observe.build_scope(desired)
    try:
        async with observe.database(desired, replace(run, limits=limits)) as conn:
            await wait_for_lock_release(conn, scope)
            return await was_committed(conn, writes, scope)
    except (FivrecError, asyncio.CancelledError) as exc:
        raise unknown from exc  # a run that is being stopped does not know either


@asynccontextmanager
async def reopen_if_lost(conn: Connection, desired: Desired, run: Run) -> AsyncIterator[Connection]:
    """Returns the connection, or a new one if it was lost."""
    if not conn.closed:
        yield conn
        return
    limits = replace(run.limits, connect_s=AGAIN_S)
    async with observe.database(desired, replace(run, limits=limits)) as other:
        yield other


def with_error(report: InstanceReport, trouble: ErrorInfo | None) -> InstanceReport:
    """The report of a run whose changes were committed but whose follow-up work failed."""
    return report if trouble is None else replace(report, exit_code=FAILED, error=trouble)
