"""What became of a transaction whose COMMIT was lost: wait until nobody holds the lock, then look for its rows."""

from __future__ import annotations

from reconciler.database import transaction
from reconciler.database.connection import Connection, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.writes import Writes


async def wait_for_lock_release(conn: Connection, scope: Scope) -> None:
    """Wait until no transaction holds the instance's lock: rows that are missing then will never come. Raises Busy.

    Reads nothing: tables that an open transaction is creating are invisible, so their absence would prove nothing.
    """
    try:
        async with with_deadline(conn):
            await transaction.open_locked(conn, {}, {}, scope=scope)
    finally:
        await rollback(conn)


async def was_committed(conn: Connection, writes: Writes, scope: Scope) -> bool:
    """Whether a run's writes are in the database. Call `wait_for_lock_release` first, so that nothing is still writing.

    Looks for its audit entries, else for its check, else for what it recorded as applied. A run that leaves none of
    these had nothing to write.
    """
    named = {
        "run_id": writes.run_id if writes.applied else None,
        "audit": writes.audit[-1].hash if writes.audit else None,
        "check": writes.check.id if writes.check else None,
    }
    committed = {"committed": query("record", "committed", scope.schema)}
    rows = await transaction.read_if_made(conn, {}, committed, named, scope=scope)  # the run may create the schema
    return any(row["committed"] for row in rows["committed"])
