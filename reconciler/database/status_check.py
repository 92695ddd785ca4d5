"""Write a status check and the lock that follows from it, in a transaction of its own that reads only the lock.

If the parts can't be written together, each is written by itself: one that the database refuses does not stop others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, LiteralString

import psycopg

from reconciler.database import transaction
from reconciler.database.column_values import spellings, yes_no_value
from reconciler.database.connection import Connection, limited, rollback, with_deadline
from reconciler.database.encoding import codec_of
from reconciler.database.rows import RowWrite, Scope
from reconciler.database.statements import Statement, query
from reconciler.database.writes import CheckRow, check_in_encoding
from reconciler.model.kinds.base import YES_NO
from reconciler.model.types import Value

SINCE = ("now", None)
"""The words for a column that stores since when access is locked."""
PART_MS = 2500
"""A trigger that takes longer makes only its own part fail."""


async def write_lone_check(
    conn: Connection, scope: Scope, fields: Mapping[str, Value], check: CheckRow | None
) -> frozenset[str]:
    """`fields` are of kind status: status, billing_status, is_locked, or fewer. Returns the names of those that are
    stored now, and `stamp` for last_status_check, `check` for the row of status_check_logs. Raises DatabaseError, Busy.
    """
    quick = replace(conn.limits, statement_ms=min(PART_MS, conn.limits.statement_ms))
    held = "instance_config status_check_logs" if check is not None else "instance_config"
    named = {"instances": list(spellings(scope.instance)), **fields}
    check = check_in_encoding(check, codec_of(conn))
    try:
        async with with_deadline(conn):
            with limited(conn, quick):
                lacking, names = {"lacking": query("guard", "lacking")}, {"names": held.split()}
                rows = await transaction.open_locked(conn, lacking, names, scope=scope, held=held)
            missing = {row["name"] for row in rows["lacking"]}
            if "instance_config" in missing:
                return frozenset()
            check = None if "status_check_logs" in missing else check
            begin = (transaction.renewal(conn), *transaction.WRITE_PATH)
            # A deferred trigger then refuses only its own part, not everything at COMMIT.
            await transaction.write_and_read(conn, (*begin, (query("transaction", "immediate"), {})), {}, {})
            written = await _write_whole(conn, scope, fields, named, check)
            if written is None:
                return frozenset()
            await conn.execute("COMMIT")
    finally:
        await rollback(conn)
    return written


async def _write_whole(
    conn: Connection, scope: Scope, fields: Mapping[str, Value], named: dict[str, Any], check: CheckRow | None
) -> frozenset[str] | None:
    """Returns what is stored now, or None if a trigger deleted the row or changed its id: then nothing may stay."""
    before = locks = await _locks(conn, scope, named)
    wanted = frozenset({fields["is_locked"]}) if "is_locked" in fields else before
    written: frozenset[str] = frozenset()
    for some in (fields, None):
        await conn.execute("SAVEPOINT whole")
        written = await _write_parts(conn, scope, some, named, check)
        locks = await _locks(conn, scope, named)
        if locks == frozenset():
            return None
        if locks == wanted or before != wanted:
            break
        # The lock was as wanted, and a trigger undoes it whatever is written to the row: write only the log.
        await transaction.undo(conn, "whole")
        written, locks = frozenset(), before
    if "is_locked" not in fields:
        return written
    return written | {"is_locked"} if locks == wanted else written - {"is_locked"}


async def _write_parts(
    conn: Connection,
    scope: Scope,
    fields: Mapping[str, Value] | None,
    named: dict[str, Any],
    check: CheckRow | None,
) -> frozenset[str]:
    """Write each part by itself; without `fields` only the row of the log. Returns what was written."""
    written: set[str] = set()
    for parts, statement in _statements(scope, fields, named, check):
        if not parts & written and await _is_written(conn, *statement):
            written |= parts
    if fields is not None and "is_locked" in fields.keys() - written:
        await _lock_in_a_word(conn, scope, named)
    return frozenset(written)


def _statements(
    scope: Scope, fields: Mapping[str, Value] | None, named: dict[str, Any], check: CheckRow | None
) -> Iterator[tuple[frozenset[str], Statement]]:
    """Yields what to write. A part that was written is not written again: all fields together come first, then each by
    itself. The lock is last, because a trigger on the log may undo it."""
    if check is not None:
        yield frozenset({"check"}), (query("record", "log", scope.schema), {**named, **asdict(check)})
    if fields is None:
        return
    if check is not None:
        yield frozenset({"stamp"}), (query("record", "stamp", scope.schema), named)
    together = frozenset(fields)
    for some in dict.fromkeys((together, *(frozenset({name}) for name in sorted(together)))):
        if some:
            yield some, (_heard(scope, some), named)
    if "is_locked" in fields:
        yield frozenset({"is_locked"}), (query("record", "lock", scope.schema), named)


def _heard(scope: Scope, fields: frozenset[str]) -> LiteralString:
    return RowWrite("status", "update", {}, fields).text(query("record", "answered", scope.schema))


async def _lock_in_a_word(conn: Connection, scope: Scope, named: Mapping[str, Any]) -> None:
    """Write the first word for the lock that the column accepts. Stops if it isn't the word that is refused."""
    for yes, no in (*YES_NO, SINCE):
        word = {**named, "word": yes if named["is_locked"] else no}
        tried = await _tried(conn, query("record", "lock_word", scope.schema), word)
        if not isinstance(tried, (psycopg.DataError, psycopg.errors.CheckViolation)):
            return


async def _locks(conn: Connection, scope: Scope, named: Mapping[str, Any]) -> frozenset[Any] | None:
    """Read the lock back from each row: a trigger may have changed it, or a generated column may follow the status.
    Returns None if it can't be read."""
    tried = await _tried(conn, query("record", "locked", scope.schema), named)
    return (
        None
        if isinstance(tried, psycopg.Error)
        else frozenset(yes_no_value(lock) for (lock,) in await tried.fetchall())
    )


async def _is_written(conn: Connection, text: LiteralString, params: Mapping[str, Any]) -> bool:
    tried = await _tried(conn, text, params)
    return not isinstance(tried, psycopg.Error) and tried.rowcount > 0


async def _tried(
    conn: Connection, text: LiteralString, params: Mapping[str, Any]
) -> psycopg.AsyncCursor[Any] | psycopg.Error:
    """Returns the error if the statement was refused, after undoing it. Raises the error if it ended the connection."""
    await conn.execute("SAVEPOINT part")
    try:
        return await conn.execute(text, params)
    except psycopg.Error as exc:
        if conn.closed:
            raise
        await transaction.undo(conn, "part")
        if isinstance(exc, psycopg.errors.LockNotAvailable):
            await conn.execute(query("record", "hurry"))
        return exc
