"""How transactions begin: settings local to them, then the instance's lock, then readings, all in one round trip.

Knows no kind. Nothing here outlives a transaction: PgBouncer in transaction mode hands out another server after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import AsyncCursor, errors, sql
from psycopg.rows import dict_row

from reconciler.database.connection import Connection, rollback, where, with_deadline, with_last_words
from reconciler.database.errors import CONFLICT, SCHEMA_MISSING
from reconciler.database.pipeline import fetch_all
from reconciler.database.preconditions import (
    guard_params,
    name_columns,
    refuse_elsewhere,
    refuse_foreign,
    refuse_newer,
)
from reconciler.database.schema import latest_version
from reconciler.database.statements import query
from reconciler.model.errors import Busy, DatabaseError

if TYPE_CHECKING:
    from reconciler.database.rows import Scope

Row: TypeAlias = dict[str, Any]
Statements: TypeAlias = Mapping[str, LiteralString]
Params: TypeAlias = Mapping[str, Any]

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Each statement sees what was committed before it, so whatever follows the lock sees the last holder's work.
# Not READ WRITE: that would overrule a database that is read-only by default, and a replica couldn't say what it is.
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
_LOCK_POLL_S = 0.12
_HAS_TRANSACTION_TIMEOUT = 170000
HELD = "fivrec users clients queues conversations messages instance_config plans status_check_logs settings"
"""The tables that a superuser's transaction holds (guard.sql, `hold`), unless it says which ones it uses."""
_TRIES = 5
_MOVED = "moved"
_OUTDATED = "RevalidateCachedQuery"
"""PostgreSQL's source function of the error if the columns of a prepared statement have other types by now."""


def lock_key(instance: str) -> int:
    """Returns the advisory lock of an instance, a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"fivrec:{instance}".encode()).digest()[:8], signed=True)


async def open_reading(
    conn: Connection, statements: Statements, params: Params, *, scope: Scope
) -> dict[str, list[Row]]:
    """Begin a read-only transaction that sees one moment, and read. Leaves it open."""
    _, rows = await _open(conn, _READ, None, statements, params, scope=scope)
    return rows


WRITE_PATH: Final[tuple[tuple[LiteralString, Params], ...]] = (
    (query("transaction", "own_path"), {}),
    (query("transaction", "write_path"), {}),
)
"""For statements that write to the app's tables: its triggers, defaults and CHECKs find their names."""


def read_path(schema: str) -> tuple[tuple[LiteralString, Params], ...]:
    """For statements that read after a write: names are pg_catalog's, and rows that a policy hides are an error."""
    rows = (query("transaction", "read_rows"), guard_params(schema, trusted=False))
    return ((query("transaction", "read_path"), {}), rows)


async def open_locked(
    conn: Connection, statements: Statements, params: Params, *, scope: Scope, held: str = HELD, used: str = ""
) -> dict[str, list[Row]]:
    """Begin a transaction that holds the instance's lock, and read. Leaves it open. `held`: the tables it uses. `used`:
    those of them that must be there, besides the ones that are read.

    Raises Busy, naming the holder, if the lock is not free within `conn.limits.lock_wait_s`.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + conn.limits.lock_wait_s
    key = lock_key(scope.instance)
    while True:
        try:
            granted, rows = await _open(conn, _WRITE, key, statements, params, scope=scope, held=held, used=used)
        except errors.LockNotAvailable:  # a run that migrates also locks the tables that are read
            await rollback(conn)
            if holder := await _holder(conn, key):
                raise _busy(scope.instance, holder) from None
            raise
        if granted:
            return rows
        await rollback(conn)
        if loop.time() >= until:
            raise _busy(scope.instance, await _holder(conn, key) or "it ended just now")
        await asyncio.sleep(_LOCK_POLL_S)


async def open_writing(
    conn: Connection, statements: Statements, params: Params, *, scope: Scope, held: str = HELD
) -> dict[str, list[Row]]:
    """Begin a transaction without the instance's lock, and read. Leaves it open. `held`: the tables it uses."""
    _, rows = await _open(conn, _WRITE, None, statements, params, scope=scope, held=held)
    return rows


def renewal(conn: Connection, milliseconds: int | None = None) -> tuple[LiteralString, Params]:
    """Returns the statement that gives the open transaction, which goes on to write, this much time from here on, by
    default the connection's `transaction_ms`. Before PostgreSQL 17 there is no such limit."""
    if conn.info.server_version < _HAS_TRANSACTION_TIMEOUT:
        return query("transaction", "own_rows"), {}
    return query("transaction", "renewed"), {"timeout": f"{milliseconds or conn.limits.transaction_ms}ms"}


async def undo(conn: Connection, savepoint: LiteralString) -> None:
    """Go back to the savepoint. An error after it has also stopped the clock of the transaction, which starts again."""
    async with conn.pipeline():
        await conn.execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
        if conn.info.server_version >= _HAS_TRANSACTION_TIMEOUT:
            await conn.execute(query("transaction", "on_the_clock"))


async def prolong(conn: Connection) -> None:
    """Let the next statements (migrations, a purge) and the open transaction take the connection's `migrate_s`."""
    milliseconds = int(conn.limits.migrate_s * 1000)
    await conn.execute(query("transaction", "long_settings"), {"timeout": f"{milliseconds}ms"})
    await conn.execute(*renewal(conn, milliseconds))


def holding(conn: Connection, scope: Scope, held: str = HELD) -> tuple[tuple[LiteralString, Params], ...]:
    """Returns the statements that hold tables made since, or those for a purge, and look again for other roles' code:
    none if the login is no superuser, see `_opening`. They raise DivisionByZero if there is any."""
    if not (opening := _opening(conn, _WRITE, scope)[3:]):
        return ()
    settings = {**_settings(conn, scope), "held": held, "used": ""}
    return tuple((text, settings) for text in (*opening, query("transaction", "settings")))


async def hold_again(conn: Connection, scope: Scope, held: str) -> None:
    """Run those statements. Raises what `open_locked` raises."""
    try:
        await write_and_read(conn, holding(conn, scope, held), {}, {})
    except errors.DivisionByZero:
        await refuse_foreign(conn, scope.schema)
        raise


async def use_write_path(conn: Connection) -> None:
    """From here on write to the app's tables: its triggers, defaults and CHECKs find their names."""
    for text, _ in WRITE_PATH:
        await conn.execute(text)


async def use_read_path(conn: Connection) -> None:
    """From here on read: every name that is not qualified is pg_catalog's."""
    await conn.execute(query("transaction", "read_path"))


async def read_more(conn: Connection, statements: Statements, params: Params) -> dict[str, list[Row]]:
    """Read more in the open transaction: one round trip."""
    return await write_and_read(conn, (), statements, params)


async def read_rows(conn: Connection, text: LiteralString, params: Params) -> list[Row]:
    """Read one statement's rows in the open transaction, within the connection's deadline. Raises our errors."""
    async with with_deadline(conn):
        return (await read_more(conn, {"rows": text}, params))["rows"]


async def write_and_read(
    conn: Connection,
    writes: Iterable[tuple[LiteralString, Params]],
    statements: Statements,
    params: Params,
    counts: list[int] | None = None,
) -> dict[str, list[Row]]:
    """Write, then read, in the open transaction: one round trip. `counts` gets the row count of each write."""
    async with conn.pipeline():
        written = [await conn.execute(text, values) for text, values in writes]
        cursors = [(name, conn.cursor(row_factory=dict_row)) for name in statements]
        for name, cursor in cursors:
            await cursor.execute(statements[name], params)
    if counts is not None:
        counts.extend(cursor.rowcount for cursor in written)
    return {name: await fetch_all(cursor) for name, cursor in cursors}


async def read_once(conn: Connection, statements: Statements, params: Params, *, scope: Scope) -> dict[str, list[Row]]:
    """Read in a read-only transaction of its own: one round trip. Raises our errors, not psycopg's."""
    try:
        async with name_columns(conn, scope.schema), with_deadline(conn):
            try:
                _, rows = await _open(conn, _READ, None, statements, params, scope=scope, whole=True)
            except SCHEMA_MISSING:
                await refuse_elsewhere(conn, scope.schema)
                raise
            return rows
    finally:
        await rollback(conn)


async def read_rows_once(conn: Connection, text: LiteralString, params: Params, *, scope: Scope) -> list[Row]:
    """Like `read_once`, for one statement's rows."""
    return (await read_once(conn, {"rows": text}, params, scope=scope))["rows"]


async def read_if_made(
    conn: Connection, statements: Statements, own: Statements, params: Params, *, scope: Scope
) -> dict[str, list[Row]]:
    """Like `read_once`; `own` reads fivrec's tables, and returns no rows if their schema is older or missing."""
    try:
        return await read_once(conn, {**statements, **own}, params, scope=scope)
    except DatabaseError as exc:
        if exc.code != "schema_missing":
            raise
    return {
        **{name: [] for name in own},
        **await read_once(conn, statements, params, scope=scope),
    }


async def write_once(
    conn: Connection, statements: Sequence[tuple[LiteralString, Params]], *, scope: Scope, held: str = HELD
) -> int:
    """Write in a transaction of its own, without the lock: one round trip. Returns the last statement's row count.
    `held`: the tables it uses."""
    count = 0
    try:
        async with with_deadline(conn):
            try:
                async with conn.pipeline():
                    used = _used(conn, [text for text, _ in statements], scope)
                    settings = {**_settings(conn, scope), "held": held, "used": used}
                    await _begin(conn, _opening(conn, _WRITE, scope), settings)
                    await conn.execute(query("guard", "not_newer"), {"latest": latest_version()})
                    await use_write_path(conn)
                    cursors = [await conn.execute(text, params) for text, params in statements]
                    await conn.execute("COMMIT")
            except errors.DivisionByZero:
                if await refuse_foreign(conn, scope.schema):
                    return await write_once(conn, statements, scope=scope, held=held)
                await refuse_newer(conn)
                raise
            count = cursors[-1].rowcount if cursors else 0
    finally:
        await rollback(conn)
    return count


async def _open(
    conn: Connection,
    begin: LiteralString,
    lock: int | None,
    statements: Statements,
    params: Params,
    *,
    scope: Scope,
    whole: bool = False,
    held: str = HELD,
    used: str = "",
) -> tuple[bool, dict[str, list[Row]]]:
    """`whole` ends the transaction in the same round trip. Tries again if a statement was prepared on this connection
    before the app altered its table: the ROLLBACK discards prepared statements. Tries again, too, if a table of
    the app was altered since the moment that a read-only transaction sees, because it may have read as empty."""
    used = f"{_used(conn, statements.values(), scope)} {used}".strip()
    settings = {**_settings(conn, scope, lock), "held": held, "used": used}
    opening = _opening(conn, begin, scope)
    app = f"{sql.Identifier(scope.schema).as_string()}.".replace("%", "%%")
    if begin == _READ and any(app in text for text in statements.values()):
        statements = {**statements, _MOVED: query("transaction", _MOVED, scope.schema)}
    try:
        for left in reversed(range(_TRIES)):
            try:
                granted, rows = await _begin_and_read(conn, opening, settings, statements, params, whole=whole)
            except (errors.FeatureNotSupported, errors.SerializationFailure) as exc:
                if not left or not _is_of_a_moment(exc, begin):
                    raise
            else:
                if not any(row["moved"] for row in rows.pop(_MOVED, ())):
                    return granted, rows
            await conn.rollback()
    except errors.DivisionByZero:
        if await refuse_foreign(conn, scope.schema, writing=begin != _READ):
            return await _open(conn, begin, lock, statements, params, scope=scope, whole=whole, held=held, used=used)
        if "not_newer" in statements:
            await refuse_newer(conn)
        raise  # it did not come from the guard
    raise DatabaseError(
        f"{where(conn)}: its tables were altered each time while they were read",
        code=CONFLICT,
        hint="run again",
    )


def _is_of_a_moment(exc: psycopg.Error, begin: LiteralString) -> bool:
    """Whether it is about prepared statements, or about names that were given to others (guard.sql, `hold`)."""
    return begin == _READ if isinstance(exc, errors.SerializationFailure) else exc.diag.source_function == _OUTDATED


async def _begin_and_read(
    conn: Connection,
    opening: Sequence[LiteralString],
    settings: Params,
    statements: Statements,
    params: Params,
    *,
    whole: bool,
) -> tuple[bool, dict[str, list[Row]]]:
    async with with_last_words(conn), conn.pipeline():
        begun = await _begin(conn, opening, settings)
        cursors = [(name, conn.cursor(row_factory=dict_row)) for name in statements]
        for name, cursor in cursors:
            await cursor.execute(statements[name], params)
        if whole:
            await conn.execute("COMMIT")
    rows = {name: await fetch_all(cursor) for name, cursor in cursors}
    answer = await begun.fetchone()
    return bool(answer and answer[-1]), rows


def _opening(conn: Connection, begin: LiteralString, scope: Scope) -> tuple[LiteralString, ...]:
    """Returns the statements before the settings. A superuser locks the tables first, because they could be replaced
    between the guard's look and their use; PostgreSQL tells every client whether it is a superuser."""
    names = begin, query("transaction", "read_path"), query("transaction", "own_time")
    if not _holds(conn, scope):
        return names
    return *names, query("guard", "to_hold"), query("guard", "hold", scope.schema)


def _holds(conn: Connection, scope: Scope) -> bool:
    return not scope.trusted and (conn.holds or conn.info.parameter_status("is_superuser") == "on")


def _used(conn: Connection, texts: Iterable[str], scope: Scope) -> str:
    """Returns the tables that these statements name, for `hold` in guard.sql: fivrec's with their schema. "" if it does
    not run: a plain login's watch does not search all its statements at each check."""
    if not _holds(conn, scope):
        return ""
    app = sql.Identifier(scope.schema).as_string().replace("%", "%%")
    named = re.compile(rf"(?<!')(?:{re.escape(app)}\.({'|'.join(HELD.split()[1:])})\b|\b(fivrec\.[a-z_]+))")
    found = {one or own for text in texts for one, own in named.findall(text)}
    return " ".join(sorted(found, key=lambda name: ("." not in name, name != "fivrec.migrations", name)))


async def _begin(conn: Connection, opening: Sequence[LiteralString], settings: Params) -> AsyncCursor[Any]:
    """Begin, and read nothing that a weaker role could have made: raises DivisionByZero if it could, see `settings`."""
    for text in opening:
        await conn.execute(text, settings if "%" in text else None)
    return await conn.execute(query("transaction", "settings"), settings)


def _settings(conn: Connection, scope: Scope, lock: int | None = None) -> Params:
    transaction_timeout = None
    if conn.info.server_version >= _HAS_TRANSACTION_TIMEOUT:  # without a lock nobody waits: not the login's own limit
        transaction_timeout = "0" if lock is None else f"{conn.limits.transaction_ms}ms"
    return {
        "lock_timeout": f"{int(conn.limits.lock_wait_s * 1000)}ms",
        "statement_timeout": f"{conn.limits.statement_ms}ms",
        "idle_timeout": f"{conn.limits.idle_ms}ms",
        "transaction_timeout": transaction_timeout,
        "environment": scope.environment,
        "lock": lock,
        "write_path": f"pg_catalog, {sql.Identifier(scope.schema).as_string()}",
        **guard_params(scope.schema, trusted=scope.trusted),
    }


async def _holder(conn: Connection, key: int) -> str | None:
    """Names the session that holds the instance's lock."""
    async with conn.pipeline():  # never by the session's own search_path, which the database's owner sets
        await conn.execute("BEGIN READ ONLY")
        await use_read_path(conn)
        cursor = await conn.execute(query("transaction", "holder"), {"lock": key})
        await conn.execute("ROLLBACK")
    row = await cursor.fetchone()
    if row is None:
        return None
    name, pid, since = row
    began = f", since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
    return f"{name or 'an unnamed session'}, pid {pid}{began}"


def _busy(instance: str, holder: str) -> Busy:
    return Busy(f"another run holds {instance}: {holder}", hint="run again when it is done")
