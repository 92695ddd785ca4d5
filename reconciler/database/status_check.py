"""Write a status check and the lock that follows from it: a transaction of its own that reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from reconciler.database import transaction
from reconciler.database.connection import Connection, Limits, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.writes import CheckRow
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
            writes = (*transaction.renewal(conn, limits.transaction_ms), *transaction.WRITE_PATH, *statements)
            await transaction.write_and_read(conn, (*writes, ("COMMIT", {})), {}, {})
    finally:
        await rollback(conn)
