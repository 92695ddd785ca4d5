"""Sequences that are behind their tables, as logical replication and rows with explicit ids leave them: advanced.

Only looked for once a row was refused as a double. Advancing one is no change of rows, and no rollback takes it back.
"""

from __future__ import annotations

from psycopg import sql

from reconciler.database import transaction
from reconciler.database.connection import Connection, Limits, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.model.records import dataclass


@dataclass(frozen=True, slots=True)
class Behind:
    """`sequence` is a quoted name; `top` the greatest number that `column` (table and column, for people) holds."""

    sequence: str
    column: str
    top: int
    may_advance: bool


async def advance_sequences(conn: Connection, scope: Scope, *, limits: Limits) -> tuple[Behind, ...]:
    """Advance those that this login may, in a transaction of its own. All that were behind."""
    try:
        async with with_deadline(conn, limits.total_s):
            feeding = {"feeding": query("sequences", "feeding")}
            rows = await transaction.open_writing(conn, feeding, {}, scope=scope, limits=limits)
            found = [behind for row in rows["feeding"] if (behind := await _behind(conn, row)) is not None]
            for one in found:
                if one.may_advance:
                    await conn.execute(query("sequences", "advance"), {"sequence": one.sequence, "top": one.top})
            await conn.execute("COMMIT")
    finally:
        await rollback(conn)
    return tuple(found)


async def _behind(conn: Connection, row: transaction.Row) -> Behind | None:
    names = sql.Identifier(row["column"]), sql.Identifier(row["schema"], row["name"])
    cursor = await conn.execute(sql.SQL("SELECT max({}) FROM {}").format(*names))
    (top,) = await cursor.fetchone() or (None,)
    if top is None or top <= (row["last"] or 0):
        return None
    return Behind(row["sequence"], f"{row['name']}.{row['column']}", top, row["may"])
