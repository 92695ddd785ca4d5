"""Write a status check and the lock that follows from it: a transaction of its own that reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from reconciler.database import transaction
from reconciler.database.connection import Connection, Limits, rollback, where, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.writes import CheckRow
from reconciler.model.errors import DatabaseError
from reconciler.model.types import Value


async def write_lone_check(
    conn: Connection, scope: Scope, fields: Mapping[str, Value], check: CheckRow | None, *, limits: Limits
) -> None:
    """`fields` are of kind status: status and billing_status, is_locked, or fewer. DatabaseError; Busy."""
    named = {"instance": scope.instance, **fields}
    statements = []
    if "status" in fields:
        statements.append((query("record", "heard", scope.schema), {"billing_status": None, **named}))
    if "is_locked" in fields:
        statements.append((query("record", "lock", scope.schema), named))
    if check is not None:
        statements.append((query("record", "check", scope.schema), {**named, **asdict(check)}))
    try:
        async with with_deadline(conn, limits.total_s):
            await transaction.open_locked(conn, {}, {}, scope=scope, limits=limits)
            before = (*transaction.renewal(conn, limits.transaction_ms), *transaction.WRITE_PATH)
            counts: list[int] = []
            await transaction.write_and_read(conn, (*before, *statements, ("COMMIT", {})), {}, {}, counts)
            if 0 in counts[len(before) : -1]:  # a trigger, a rule or a policy kept it from being written
                raise DatabaseError(f"{where(conn)}: no row took the check and its lock")
    finally:
        await rollback(conn)
