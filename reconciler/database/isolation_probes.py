"""Try what isolation must refuse, in the open transaction, undoing each try; and find what keeps isolation from being
set, or a database from working as declared. Only reports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import errors

from reconciler.database.connection import Connection, with_deadline
from reconciler.database.rows import Scope
from reconciler.database.statements import query, statement
from reconciler.database.transaction import read_once, read_rows, undo, use_read_path, use_write_path
from reconciler.model.names import printable
from reconciler.model.types import OTHER_ENVIRONMENT, Isolation

_REFUSED = (
    errors.ForeignKeyViolation,
    errors.CheckViolation,
    errors.InsufficientPrivilege,
    errors.InvalidTextRepresentation,
)
_NOT_THE_ROW = (
    errors.ReadOnlySqlTransaction,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.DeadlockDetected,
    errors.DiskFull,
)
"""Errors of the server, which end the test: a replica, a lock, a full disk say nothing about isolation."""


async def read_leaks(conn: Connection, schema: str, isolation: Isolation) -> tuple[str, ...]:
    """Returns what was let through, in words; empty if a probe in each direction failed as it must."""
    found: list[str | None] = []
    async with with_deadline(conn):
        await use_write_path(conn)
        for parent in ("production", "development"):
            found.append(await _pointing(conn, schema, parent, OTHER_ENVIRONMENT[parent]))
            if isolation == "enforced":
                found.append(await _seen(conn, schema, parent, OTHER_ENVIRONMENT[parent]))
                found.append(await _stray(conn, schema, parent, OTHER_ENVIRONMENT[parent]))
        found.append(await _stray(conn, schema, "production", "staging"))
        await _be(conn, "production")
        await use_read_path(conn)
        found += await _breaking(conn, schema)
        found += (*await read_hidden(conn, schema), *await read_replicas(conn))
        if isolation == "enforced":
            found += await _unsecured(conn)
    return tuple(leak for leak in found if leak is not None)


async def read_isolation_refusals(conn: Connection, scope: Scope, *, migrated: bool) -> tuple[str, ...]:
    """Returns why `isolation: enforced` would be refused here, in words; reads in a transaction of its own. Without
    `migrated`, views are not checked: the function that finds them is not there yet."""
    statements = {
        name: query("isolation", name, scope.schema) for name in ("refusals", "refused_views")[: 1 + migrated]
    }
    rows = await read_once(conn, statements, {}, scope=scope)
    return tuple(row["said"] for name in statements for row in rows[name])


async def read_open_passwords(conn: Connection, schema: str) -> tuple[str, ...]:
    """Returns the email addresses of production users whose password is stored in clear text, at most ten. Reads in the
    open transaction."""
    params = {"environment": "production", "limit": 10}
    rows = await read_rows(conn, statement("admin", "in_the_open", schema), params)
    return tuple(str(row["email"]) for row in rows)


async def read_replicas(conn: Connection) -> tuple[str, ...]:
    """Returns in words whose sessions fire no trigger and check no foreign key. Reads in the open transaction."""
    return tuple(
        f"{row['role']} has session_replication_role = replica: triggers don't fire and foreign keys check nothing "
        "(ALTER ROLE or DATABASE … RESET session_replication_role)"
        for row in await read_rows(conn, query("probes", "replicas"), {})
    )


async def read_hidden(conn: Connection, schema: str) -> tuple[str, ...]:
    """Returns in words which tables may have rows of no known environment: under `isolation: enforced` nobody sees
    them. Reads in the open transaction."""
    return tuple(
        f"{row['rule']} is not validated: rows of {row['name']} that are neither production's nor development's "
        "may break it, and isolation: enforced hides them; a superuser sees them; once they are gone: "
        f"{row['statement']}"
        for row in await read_rows(conn, query("probes", "hidden", schema), {})
    )


async def read_deleted(
    conn: Connection, schema: str, environment: str, declared: Mapping[str, list[str]]
) -> tuple[str, ...]:
    """Returns which of the declared rows, given by kind, the app has marked as deleted. Reads in the open
    transaction."""
    rows = await read_rows(conn, query("probes", "deleted", schema), {"environment": environment, **declared})
    return tuple(f"{row['kind']}/{printable(row['name'])}" for row in rows)


async def _breaking(conn: Connection, schema: str) -> list[str]:
    """Returns rows of both environments that break a constraint that is not validated: they are older than it."""
    if not await (await conn.execute(query("isolation", "unvalidated", schema), {})).fetchall():
        return []
    rows: dict[tuple[str, str, str], None] = {}
    for environment in ("development", "production"):
        await _be(conn, environment)
        found = await conn.execute(query("isolation", "breaking_rows", schema), {"limit": 10})
        rows |= dict.fromkeys(await found.fetchall())
    return [f"{table} {row_id} breaks the rules of environments ({reason})" for table, row_id, reason in rows]


async def _unsecured(conn: Connection) -> list[str]:
    """Returns the roles that set row_security off. fivrec's own session isn't affected: it sets its own."""
    rows = await (await conn.execute(query("probes", "unsecured"))).fetchall()
    return [f"{role} has row_security off: under enforced its statements fail (ALTER ROLE … RESET)" for (role,) in rows]


async def _pointing(conn: Connection, schema: str, parent: str, child: str) -> str | None:
    """Try to put a conversation of one environment into a queue of the other."""
    what = f"a {child} conversation could be put into a {parent} queue"
    async with _undone(conn):
        try:
            queue = await _queue(conn, schema, parent)
        except _NOT_THE_ROW:
            raise
        except psycopg.Error as exc:
            return f"a probe row could not be made: {_named(exc)}"
        await _be(conn, child)
        return await _refused(conn, schema, "child", {"parent": queue, "environment": child}, what)


async def _stray(conn: Connection, schema: str, current: str, environment: str) -> str | None:
    """Try to write a row of an environment that isn't this session's, or doesn't exist."""
    what = f"a {environment} row could be written as {current}"
    async with _undone(conn):
        await _be(conn, current)
        return await _refused(conn, schema, "stray", {"environment": environment}, what)


async def _seen(conn: Connection, schema: str, owner: str, reader: str) -> str | None:
    async with _undone(conn):
        try:
            queue = await _queue(conn, schema, owner)
        except psycopg.Error:
            return None  # _pointing makes the same row, and says why it can't
        await _be(conn, reader)
        row = await (
            await conn.execute(query("probes", "seen", schema), {"parent": queue, "environment": owner})
        ).fetchone()
    return f"a {owner} row can be read as {reader}" if row and row[0] else None


async def _queue(conn: Connection, schema: str, environment: str) -> str:
    await _be(conn, environment)
    row = await (await conn.execute(query("probes", "parent", schema), {"environment": environment})).fetchone()
    return str(row[0]) if row else ""


async def _refused(conn: Connection, schema: str, name: str, params: dict[str, Any], what: str) -> str | None:
    try:
        await conn.execute(query("probes", name, schema), params)
    except _REFUSED:
        return None
    except _NOT_THE_ROW:
        raise
    except psycopg.Error as exc:
        return f"could not try whether {what}: {_named(exc)}"
    return what


def _named(exc: psycopg.Error) -> str:
    """Returns what kept a row from being written, without its values."""
    parts = [part for part in (exc.diag.table_name, exc.diag.column_name, exc.diag.constraint_name) if part]
    return " ".join((*parts, f"({type(exc).__name__})"))


async def _be(conn: Connection, environment: str) -> None:
    await conn.execute(query("probes", "environment"), {"environment": environment})


@asynccontextmanager
async def _undone(conn: Connection) -> AsyncIterator[None]:
    await conn.execute("SAVEPOINT fivrec_probe")
    try:
        yield
    finally:
        await undo(conn, "fivrec_probe")
