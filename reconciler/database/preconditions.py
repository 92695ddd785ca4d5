"""What must hold before a database is read or written, and what to say if it doesn't: who owns schema `fivrec`, whose
code is on the tables, which schema has the app's tables, which fivrec migrated it. Writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from typing import Any, LiteralString

from psycopg import errors
from psycopg.rows import dict_row

from reconciler.database.connection import Connection, where, with_deadline
from reconciler.database.errors import APPLY_ONCE, LEFT_EMPTY, NOT_PUT_BACK
from reconciler.database.schema import latest_version, read_own_missing
from reconciler.database.statements import query
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.names import first_of, printable

_MOST = 5
_ASK_S = 5
_OF_TYPES = frozenset({"column_type", "value_unfit"})


@cache
def guard_params(schema: str, *, trusted: bool) -> dict[str, Any]:
    """Returns the queries about other roles that the statement `settings` runs. `trusted`: the server is fivrec's own,
    without other logins."""
    asked = ("own_policy", "foreign_schema", "acting", "any_code", "foreign_code", "unheld")
    return {"trusted": trusted, **{name: _as_ts_stat(name, schema) for name in asked}}


def _as_ts_stat(name: str, schema: str) -> str:
    # A parameter's value has no placeholders: a % in it is just a %.
    text = query("guard", name, schema).replace("%%", "%")
    return f"SELECT array_to_tsvector(ARRAY['x']) FROM ({text}) AS found"  # noqa: S608 (one of our statements)


async def refuse_foreign(conn: Connection, schema: str, *, writing: bool = True) -> bool:
    """Find what the guard stopped at. Raises Refused `foreign_schema` or `foreign_code`. Returns True if a superuser's
    session, which acts as another role, held no tables: then it holds them from now on; False if it was none of these.
    """
    (owned,) = await _ask(conn, schema, "foreign_schema", begin="BEGIN" if writing else "BEGIN READ ONLY")
    if owned:
        raise _foreign_schema(conn, owned)
    code, unheld = await _ask(conn, schema, "foreign_code", "unheld")
    if code:
        raise _foreign_code(conn, code)
    held = conn.holds or conn.info.parameter_status("is_superuser") == "on"
    conn.holds = conn.holds or bool(unheld)
    return conn.holds and not held


async def refuse_elsewhere(conn: Connection, schema: str) -> None:
    """Raises DatabaseError `tables_elsewhere` if the app's tables are in another schema than the declared one, and
    `table_unfit` if one of them is a view or the like."""
    unfit, elsewhere = await _ask(conn, schema, "unfit_tables", "elsewhere")
    if unfit:
        named = "; ".join(f"{row['on_table']} is {row['kind']}" for row in unfit)
        raise DatabaseError(
            f"{where(conn)}: {named}",
            hint="fivrec adopts ordinary tables, and partitioned ones whose keys are id and environment alone",
            code="table_unfit",
        )
    lacking = [row for row in elsewhere if row["lacking"]]
    if lacking:
        raise _elsewhere(conn, schema, lacking)


async def read_unfit_references(conn: Connection, schema: str) -> tuple[str, ...]:
    """Returns pairs of columns for which a required foreign key can't be created. Rolls back an open transaction."""
    return tuple(row["found"] for row in await _find(conn, schema, "unfit_references"))


async def read_twins(conn: Connection, schema: str) -> tuple[str, ...]:
    """Returns the other schemas that have tables of the app, each with these tables, if the declared schema has all
    that it needs. Rolls back an open transaction."""
    return tuple(_named(_by_schema(await _find(conn, schema, "elsewhere"))))


async def refuse_unmade(conn: Connection) -> None:
    """Raises DatabaseError `schema_missing` if migrations that ran in the open transaction left something of fivrec's
    own missing: they make tables, and most of their columns only with the table."""
    async with with_deadline(conn, _ASK_S):
        missing = await read_own_missing(conn)
    if missing:
        words = f"the migrations ran, and this is still missing: {first_of(list(missing), _MOST)}"
        raise DatabaseError(f"{where(conn)}: {words}", code="schema_missing", hint=NOT_PUT_BACK)


@asynccontextmanager
async def name_columns(conn: Connection, schema: str, *, migrated: bool = False) -> AsyncIterator[None]:
    """Make the server's errors about types or values say which documented columns have other types: its own words name
    no table, or quote values. If a column generates its values, the hint says how to stop that; if fivrec's row leaves
    a column empty, the hint lists all that need a default, as the server names only one at a time. `migrated`: the
    migrations have run, so that what is missing is not what they put back."""
    try:
        yield
    except DatabaseError as exc:
        if migrated and exc.hint == APPLY_ONCE:
            exc.hint = NOT_PUT_BACK
        if exc.hint == LEFT_EMPTY and not conn.closed:
            await _name_unfilled(conn, schema, exc)
        if exc.code not in _OF_TYPES or exc.__cause__ is None or conn.closed:
            raise
        found: list[dict[str, Any]] = []
        with suppress(DatabaseError):
            found = await _find(conn, schema, "other_types")
        ways = [row["ordinary"] for row in found if row["ordinary"]]
        if isinstance(exc.__cause__, errors.GeneratedAlways) and ways:
            found = [row for row in found if row["ordinary"]]
            exc.hint = f"make what is written an ordinary column: {'; '.join(ways[:_MOST])}"
        if not found:
            raise
        found.sort(key=partial(_is_unlikely, exc))
        message = f"{exc.message}; not as documented: {first_of([row['found'] for row in found], _MOST)}"
        raise DatabaseError(message, code=exc.code, hint=exc.hint) from exc


async def _name_unfilled(conn: Connection, schema: str, exc: DatabaseError) -> None:
    with suppress(DatabaseError):
        rows = await _find(conn, schema, "unfilled")
        if any(f"{row['found']})" in exc.message for row in rows):
            statements = "; ".join(row["statement"] for row in rows)
            exc.hint = f"fivrec writes the documented columns alone; give the others a default: {statements}"


_UNWRITTEN = ("clients.", "conversations.", "messages.", "users.id ", "queues.id ", "instance_config.id ")


def _is_unlikely(exc: DatabaseError, row: dict[str, Any]) -> bool:
    """Whether this column is probably not the one that refused a value: fivrec never writes to it, or the server's
    complaint is about another sort of type."""
    found = str(row["found"])
    if not isinstance(exc.__cause__, errors.DataError):
        return found.partition(" is ")[2] not in exc.message
    is_text = " is character" in found
    is_too_long = isinstance(exc.__cause__, errors.StringDataRightTruncation)
    return found.startswith(_UNWRITTEN) or is_text != is_too_long


async def other_types(conn: Connection, schema: str) -> list[str]:
    """Returns the documented columns of another type, like `plans.price is money`. Rolls back an open transaction."""
    return [row["found"] for row in await _find(conn, schema, "other_types")]


async def refuse_newer(conn: Connection) -> None:
    """Raises DatabaseError `schema_newer` if a newer fivrec migrated the database."""
    (rows,) = await _ask(conn, "", "newest")
    if rows and (rows[0]["version"] or 0) > latest_version():
        raise newer(where(conn), rows[0]["version"])


def newer(database: str, version: int) -> DatabaseError:
    """Returns the error for writing to a database that a newer fivrec migrated."""
    return DatabaseError(
        f"{database}: a newer fivrec migrated it to schema {version}; this one knows {latest_version()}",
        hint="install that fivrec or a newer one: fivrec docs upgrades says how to go back",
        code="schema_newer",
    )


async def _find(conn: Connection, schema: str, name: str) -> list[dict[str, Any]]:
    async with with_deadline(conn, _ASK_S):
        (rows,) = await _ask(conn, schema, name)
    return rows


async def _ask(
    conn: Connection, schema: str, *names: str, begin: LiteralString = "BEGIN READ ONLY"
) -> list[list[dict[str, Any]]]:
    """Query the catalogue in a new transaction and one round trip: the transaction that was open has failed."""
    await conn.rollback()
    cursors = [conn.cursor(row_factory=dict_row) for _ in names]
    async with conn.pipeline():
        await conn.execute(begin)
        await conn.execute(query("transaction", "read_path"))
        await conn.execute(query("transaction", "own_time"))
        await conn.execute(query("transaction", "no_jit"))
        for name, cursor in zip(names, cursors, strict=True):
            await cursor.execute(query("guard", name, schema), {})
        await conn.execute("ROLLBACK")
    return [await cursor.fetchall() for cursor in cursors]


def _by_schema(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["schema"], []).append(row["name"])
    return found


def _named(found: dict[str, list[str]]) -> list[str]:
    return [f'schema "{printable(other)}" has {", ".join(names)}' for other, names in sorted(found.items())]


def _elsewhere(conn: Connection, schema: str, rows: list[dict[str, Any]]) -> DatabaseError:
    found = _by_schema(rows)
    named = "; ".join(_named(found))
    other = min(found, key=lambda one: (-len(found[one]), one))
    return DatabaseError(
        f'{where(conn)}: the app\'s tables are not in schema "{schema}": {named}',
        hint=f"set database.schema: {other}, or move the tables; no search_path decides which are meant",
        code="tables_elsewhere",
    )


def _foreign_schema(conn: Connection, rows: list[dict[str, Any]]) -> Refused:
    named = first_of([f"{row['what']} of {row['owner']}" for row in rows], _MOST)
    return Refused(
        f"{where(conn)}: what only fivrec uses belongs to another role, which could make it run code: {named}",
        hint="if fivrec has another login here, connect as that one; if this login replaces it, or a dump was "
        "restored, as its owner or a superuser, but only if you know who made it, as its code then runs with this "
        f"login's rights: {'; '.join(row['statement'] for row in rows)}",
        code="foreign_schema",
    )


def _foreign_code(conn: Connection, rows: list[dict[str, Any]]) -> Refused:
    found = [f"{row['kind']} {row['name']} on {row['on_table']} of {row['owner']}".replace("  ", " ") for row in rows]
    named = first_of(found, _MOST)
    return Refused(
        f"{where(conn)}: this login can do more than those whose code would run with its rights: {named}",
        hint="connect as a login that owns this database and can do no more (no superuser, CREATEROLE, BYPASSRLS or "
        "membership in other roles), or hand the functions and tables to this login, or drop them",
        code="foreign_code",
    )
