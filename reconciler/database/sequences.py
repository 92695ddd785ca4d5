"""Advance sequences that are behind their tables, as logical replication and rows with explicit ids leave them.

Only done after a row was refused as a duplicate. Advancing a sequence changes no rows, and a rollback does not undo it.
"""

from __future__ import annotations

from psycopg import sql

from reconciler.database import transaction
from reconciler.database.connection import Connection, rollback, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.model.records import dataclass


@dataclass(frozen=True, slots=True)
class Behind:
    """`sequence` is a quoted name; `top` is the greatest number in `column` (table and column, for messages)."""

    sequence: str
    column: str
    top: int
    may_advance: bool


async def advance_sequences(conn: Connection, scope: Scope) -> tuple[Behind, ...]:
    """Advance those that this login may advance, in a transaction of its own. Returns all that were behind."""
    try:
        async with with_deadline(conn):
            feeding = {"feeding": query("sequences", "feeding", scope.schema)}
            rows = await transaction.open_writing(conn, feeding, {}, scope=scope)
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
