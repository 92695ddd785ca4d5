"""Write a status check and the lock that follows from it: a transaction of its own that reads nothing.

Each part is written by itself if they can't be written together: what the database refuses of one keeps no other back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from reconciler.database import transaction
from reconciler.database.connection import Connection, Limits, rollback, with_deadline
from reconciler.database.rows import RowWrite, Scope
from reconciler.database.statements import query
from reconciler.database.writes import CheckRow
from reconciler.model.types import Value

if TYPE_CHECKING:
    from reconciler.database.writes import Statement

PART_MS = 2500
"""A trigger that takes longer keeps its own part back."""


async def write_lone_check(
    conn: Connection, scope: Scope, fields: Mapping[str, Value], check: CheckRow | None, *, limits: Limits
) -> frozenset[str]:
    """`fields` are of kind status: status, billing_status, is_locked, or fewer. Returns what is there now: of them, and
    `stamp` for last_status_check, `check` for the row of status_check_logs. DatabaseError; Busy."""
    limits = replace(limits, statement_ms=min(PART_MS, limits.statement_ms))
    named = {"instance": scope.instance, **fields}
    written: set[str] = set()
    try:
        async with with_deadline(conn, limits.total_s):
            await transaction.open_locked(conn, {}, {}, scope=scope, limits=limits)
            begin = (*transaction.renewal(conn, limits.transaction_ms), *transaction.WRITE_PATH)
            # What a deferred trigger refuses is then that part alone, not the whole at COMMIT.
            await transaction.write_and_read(conn, (*begin, (query("transaction", "immediate"), {})), {}, {})
            for parts, statement in _statements(scope, fields, named, check):
                if not parts & written and await _is_written(conn, *statement):
                    written |= parts
            if "is_locked" in fields:
                written.discard("is_locked")
                written |= await _locked_as(conn, scope, fields)
            await conn.execute("COMMIT")
    finally:
        await rollback(conn)
    return frozenset(written)


def _statements(
    scope: Scope, fields: Mapping[str, Value], named: dict[str, Any], check: CheckRow | None
) -> Iterator[tuple[frozenset[str], Statement]]:
    """What to write, all fields at once first; a part that was written is not written again."""
    together = frozenset(fields)
    for some in dict.fromkeys((together, *(frozenset({name}) for name in sorted(together)))):
        if some:
            yield some, (_heard(scope, some), named)
    if "is_locked" in fields:
        word = {**named, "is_locked": "1" if fields["is_locked"] else "0"}
        yield frozenset({"is_locked"}), (query("record", "lock", scope.schema), word)
    if check is not None:
        yield frozenset({"stamp"}), (query("record", "stamp", scope.schema), named)
        yield frozenset({"check"}), (query("record", "log", scope.schema), {**named, **asdict(check)})


def _heard(scope: Scope, fields: frozenset[str]) -> LiteralString:
    return RowWrite("status", "update", {}, fields).text(query("record", "heard", scope.schema))


async def _locked_as(conn: Connection, scope: Scope, fields: Mapping[str, Value]) -> frozenset[str]:
    """Read back: a trigger may have changed what was written, or a generated column follow from the status."""
    cursor = await _tried(conn, query("record", "locked", scope.schema), {"instance": scope.instance})
    found = await cursor.fetchall() if cursor is not None else []
    return frozenset({"is_locked"} if found == [(fields["is_locked"],)] else ())


async def _is_written(conn: Connection, text: LiteralString, params: Mapping[str, Any]) -> bool:
    cursor = await _tried(conn, text, params)
    return cursor is not None and cursor.rowcount > 0


async def _tried(conn: Connection, text: LiteralString, params: Mapping[str, Any]) -> psycopg.AsyncCursor[Any] | None:
    """None if it was refused, and then nothing of it is left; a connection that it ended is an error."""
    await conn.execute("SAVEPOINT part")
    try:
        return await conn.execute(text, params)
    except psycopg.Error:
        if conn.closed:
            raise
        await conn.execute("ROLLBACK TO SAVEPOINT part")
        return None
