"""Delete test data in the open transaction, table by table, in batches. Knows only the development environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import LiteralString, TypeAlias

from psycopg import errors, sql

from reconciler.database.connection import Connection, rollback, where, with_deadline
from reconciler.database.preconditions import name_columns
from reconciler.database.rows import Scope
from reconciler.database.schema import latest_version
from reconciler.database.statements import query
from reconciler.database.transaction import (
    open_reading,
    read_more,
    read_rows,
    read_rows_once,
    use_read_path,
    use_write_path,
    write_and_read,
)
from reconciler.model.errors import DatabaseError, Refused
from reconciler.support.log import counted

Removed: TypeAlias = Callable[[str, int], None]
"""Called after each batch with the table and the number of rows deleted."""

ORDER = ("messages", "conversations", "clients", "queues", "users")
"""The tables that refer to others come first."""

_BATCH = 20_000
_DOUBTS = ("unchecked", "unsafe_keys")
FIX_FIRST = "fix those rows or that foreign key, then run again; nothing was deleted"
FIRST_WITHOUT = (
    "run `fivrec apply` once without purge_development_data, which has big tables checked; nothing was deleted"
)


async def delete_development(
    conn: Connection,
    tables: Mapping[str, int],
    scope: Scope,
    removed: Removed | None = None,
    kept: str | None = None,
) -> None:
    """Delete the development rows of these tables, then set the transaction to the scope's environment again. `kept` is
    the id of the user who moves to production.

    `tables` says how many rows were counted in each. Memory does not grow with their number, here or on the server.
    Raises Refused `purge_more` if there are more rows by now, `purge_refused` if other rows could be deleted as well;
    DatabaseError `purge_in_use` if a new row refers to one that is being deleted.
    """
    rows = await read_more(conn, {name: query("purge", name, scope.schema) for name in _DOUBTS}, {"first": False})
    doubts = [str(row["doubt"]) for name in _DOUBTS for row in rows[name]]
    if doubts:
        (unfinished,) = await read_rows(conn, query("purge", "unfinished"), {})
        raise Refused(
            f"{where(conn)}: it is not certain that test data alone would go: {'; '.join(doubts)}",
            hint=FIRST_WITHOUT if unfinished["unfinished"] else FIX_FIRST,
            code="purge_refused",
        )
    await use_write_path(conn)
    await conn.execute(query("purge", "environment"), {"environment": "development"})
    try:
        for table in ORDER:
            if table in tables:
                left = kept if table == "users" else None
                gone = await _delete(conn, sql.Identifier(scope.schema, table), table, removed, left)
                if gone > tables[table]:
                    more = f"{counted(gone, 'development row')}, and {tables[table]:,} were counted"
                    raise Refused(
                        f"{where(conn)}: {table} has {more}",
                        hint="stop what writes test data, then run again; nothing was deleted",
                        code="purge_more",
                    )
    except errors.ForeignKeyViolation as exc:
        raise DatabaseError(
            f"{where(conn)}: rows to be deleted are referred to by {exc.diag.table_name or 'others'}",
            hint="delete what refers to them, or stop what writes test data, then run again; nothing was deleted",
            code="purge_in_use",
        ) from None  # its DETAIL quotes values
    await conn.execute(query("purge", "forget"))
    await use_read_path(conn)
    await conn.execute(query("purge", "environment"), {"environment": scope.environment})


async def read_doubts(conn: Connection, scope: Scope, version: int | None, kept: str | None) -> tuple[str, ...]:
    """Returns why an apply would not delete test data, each with its code. `version` is the schema's; None: the apply
    would make the constraints of isolation. Reads in a transaction of its own; of an older fivrec's, foreign keys
    alone."""
    first = version is None
    names = ("unsafe_keys", "blocking", "foreseen") if first else ("unsafe_keys", "blocking", "unchecked")
    texts = {
        name: query("purge", name, scope.schema) for name in names[: 3 if version in (None, latest_version()) else 2]
    }
    try:
        async with name_columns(conn, scope.schema), with_deadline(conn):
            read = await open_reading(conn, texts, {"first": first, "kept": kept, "limit": 1}, scope=scope)
            found = {
                f"({row.get('code', 'purge_refused')}): {row['doubt']}": row.get("probe")
                for rows in read.values()
                for row in rows
            }
            probes: dict[str, LiteralString] = {words: text.replace("%", "%%") for words, text in found.items() if text}
            # In the same transaction, which holds the tables that they name.
            turn = query("purge", "environment"), {"environment": "development"}
            broken = await write_and_read(conn, (turn,), probes, {})
    finally:
        await rollback(conn)
    return tuple(words for words in found if broken.get(words, True))


async def read_shown(conn: Connection, scope: Scope) -> str:
    """Returns a text that identifies exactly the development rows that exist now."""
    of_development = replace(scope, environment="development")
    rows = await read_rows_once(conn, query("purge", "shown", scope.schema), {}, scope=of_development)
    return " ".join(f"{row['name']}={row['rows']}:{row['mark']}" for row in rows)


async def _delete(
    conn: Connection, place: sql.Identifier, table: str, removed: Removed | None, kept: str | None
) -> int:
    count = 0
    named = {"table": place, "batch": sql.Literal(_BATCH), "kept": sql.Literal(kept)}
    await conn.execute(sql.SQL(query("purge", "open")).format(**named))
    while True:
        found = await conn.execute(sql.SQL(query("purge", "fetch")).format(**named))
        places = [str(row[0]) for row in await found.fetchall()]
        if not places:
            break
        # Without parameters: a % in the schema's name would be taken for a placeholder.
        remove = sql.SQL(query("purge", "remove")).format(**named, places=sql.Literal(places))
        gone = await conn.execute(remove)
        count += gone.rowcount
        if removed is not None:
            removed(table, gone.rowcount)
    await conn.execute(query("purge", "close"))
    return count
