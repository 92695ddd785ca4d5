"""What became of a transaction whose COMMIT was lost: wait until nobody holds the lock, then look for its rows."""

from __future__ import annotations

from reconciler.database import transaction
from reconciler.database.connection import Connection, Limits, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.writes import Writes
from reconciler.model.errors import DatabaseError


async def wait_for_lock_release(conn: Connection, scope: Scope, *, limits: Limits) -> None:
    """Wait until no transaction holds the instance: from then on what is not there will never be. Busy.

    Reads nothing: the tables that a held transaction makes can't be seen, and not to find them would say nothing.
    """
    try:
        async with with_deadline(conn, limits.total_s):
            await transaction.open_locked(conn, {}, {}, scope=scope, limits=limits)
    finally:
        await rollback(conn)


async def was_committed(conn: Connection, writes: Writes, scope: Scope, *, limits: Limits) -> bool:
    """Whether a run's writes are in the database. Nothing else may be writing any more: call `wait_for_lock_release`
    first.

    Told by its audit entries, else by its check, else by what it remembers as applied. What leaves no such trace
    was nothing to write.
    """
    named = {
        "run_id": writes.run_id if writes.applied else None,
        "audit": writes.audit[-1].hash if writes.audit else None,
        "check": writes.check.id if writes.check else None,
    }
    try:
        rows = await transaction.read_once(
            conn, {"committed": query("record", "committed", scope.schema)}, named, scope=scope, limits=limits
        )
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return False  # it was to make the schema
        raise
    return bool(rows["committed"][0]["committed"])
