"""Read a database whose schema is missing or stale (tables that the app made, or that lost something), and finish what
its migration left for later.

Rows are read as JSON, so that a missing column reads as the value that the migration will fill it with.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache
from typing import Any, LiteralString

from psycopg import errors

from reconciler.database import transaction
from reconciler.database.connection import Connection, limited, rollback, where, with_deadline
from reconciler.database.purge import ORDER
from reconciler.database.rows import Scope, kind_statements, loads
from reconciler.database.schema import latest_version, parse_version, read_missing
from reconciler.database.statements import query, statement
from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import KINDS
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.patterns import late

_NEEDS = {
    "migrations": ("fivrec.migrations",),
    "audit_head": ("fivrec.audit_log",),
    "audit_key": ("fivrec.audit_key",),
    "applied": ("fivrec.applied",),
    "open_drift": ("fivrec.last_run",),
    "answered": ("instance_config", "status_check_logs"),
    **{f"{TEST_DATA}_{table}": (table,) for table in ORDER},
}


@cache
def _adoptable() -> Mapping[str, str]:
    """Maps each kind that has a statement `adopt` to the table that the statement needs."""
    return {kind.name: kind.table or "fivrec.applied" for kind in KINDS if "adopt" in kind_statements(kind.name)}


@cache
def table_names() -> tuple[str, ...]:
    return tuple(sorted({table for tables in _NEEDS.values() for table in tables} | set(_adoptable().values())))


_LOCK_WAIT_S = 0.3
_LOCK_TRIES = 20
_MOST_TRIES = 2
"""How often a step may be done: another run may drop the index, which looked unfinished a moment ago."""
_MADE_MEANWHILE = (
    errors.DuplicateTable,
    errors.DuplicateObject,
    errors.UndefinedObject,
    errors.DeadlockDetected,
    errors.SyntaxError,
)
"""How a step fails if another run makes or drops the same, or builds another index of the same table. SyntaxError: a
regclass that was dropped a moment ago has its number as its name."""
_ROWS_OF = late(r"FROM (\S*?)(\w+) t\)")


def _with_json_as_text(text: LiteralString, as_text: Mapping[str, str]) -> LiteralString:
    """Returns the statement, with each `FROM table t` selecting the columns that are given for that table."""

    def replaced(found: re.Match[str]) -> str:
        schema, table = found.groups()
        columns = as_text.get(table, "").replace("%", "%%")
        # The column names come from the catalogue; the server quoted them.
        return f"FROM (SELECT {columns} FROM {schema}{table}) t)" if columns else found[0]  # noqa: S608

    return _ROWS_OF.sub(replaced, text)


async def read(
    conn: Connection, tables: Sequence[transaction.Row], scope: Scope, params: Mapping[str, Any]
) -> tuple[dict[str, list[transaction.Row]], tuple[str, ...]]:
    """Read the tables that exist, in the open transaction. Returns their rows and what the schema lacks.

    If the database was never migrated, or by an older fivrec, nothing is listed: all migrations run there anyway.
    """
    present = {row["name"] for row in tables if row["present"]}
    as_text: dict[str, str] = {}
    if present:
        columns = await transaction.read_more(conn, {"columns": query("adopt", "columns", scope.schema)}, params)
        as_text = {row["name"]: row["columns"] for row in columns["columns"]}
    texts = {name: query("adopt", name, scope.schema) for name, needs in _NEEDS.items() if present.issuperset(needs)}
    texts |= {kind: statement(kind, "adopt", scope.schema) for kind, table in _adoptable().items() if table in present}
    wanted = {name: _with_json_as_text(text, as_text) for name, text in texts.items()}
    rows = await transaction.read_more(conn, wanted, params) if wanted else {}
    rows["tables"] = list(tables)
    for kind in KINDS:
        for row in rows.get(kind.shares_rows_of or kind.name, ()):
            _load_values(row, kind.fields, kind.json_fields if kind.table in as_text else ())
    rows[TEST_DATA] = [row for table in ORDER for row in rows.pop(f"{TEST_DATA}_{table}", ())]
    answered = any(row["answered"] for row in rows.pop("answered", ()))
    for row in rows.get("config", ()):
        row["answered"] = answered
    recorded = rows.get("migrations", ())
    missing = await read_missing(conn, scope.schema) if _is_current(recorded) else ()
    if not all(row["finished"] for row in recorded):  # another run is building what tables lack beside columns
        missing = tuple(name for name in missing if name.startswith("fivrec.") or ": " not in name)
    return rows, missing


def _is_current(recorded: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the functions that list what is missing are this fivrec's. If not, all migrations run anyway."""
    return parse_version((row["version"], row["checksum"]) for row in recorded) == latest_version()


def _load_values(row: dict[str, Any], fields: Iterable[str], json_fields: Iterable[str]) -> None:
    """Convert values read as JSON to what a plain read would return: 29.00 from a numeric column is an int."""
    for name in json_fields:
        if isinstance(row[name], str):
            row[name] = loads(row[name])
    for name in fields:
        value = row.get(name)
        if isinstance(value, float) and value.is_integer() and name not in json_fields:
            row[name] = int(value)


async def finish(conn: Connection, scope: Scope) -> bool:
    """Build and validate what a migration left for later because tables are big. Returns False if there was nothing.

    Each step runs by itself and blocks readers and writers only for moments; the next apply redoes an interrupted one.
    If another run is finishing the same adoption, they share the steps.
    A constraint that rows break stays NOT VALID. Raises DatabaseError: lock_timeout, database_timeout, …
    """
    rows = await _read(conn, "finished", scope)
    if not rows or rows[0]["finished"]:
        return False
    broken: set[str] = set()
    tries: Counter[tuple[str, str]] = Counter()
    met = 0
    while (step := await _next_step(conn, broken, scope)) is not None:
        tries[step["name"], step["state"]] += 1
        if tries[step["name"], step["state"]] > _MOST_TRIES:
            said = f"{where(conn)}: {step['name']} was made, and is still not as it has to be"
            raise DatabaseError(said, hint="look at its definition: fivrec diff --deep names what is missing")
        async with with_deadline(conn, conn.limits.migrate_s):
            try:
                if not await _make(conn, step, scope):
                    broken.add(step["name"])
            except _MADE_MEANWHILE:
                tries[step["name"], step["state"]] -= 1
                if (met := met + 1) == _LOCK_TRIES:
                    raise
                await asyncio.sleep(_LOCK_WAIT_S * random.uniform(1, 3))  # noqa: S311 (parts two that met)
    for row in await _read(conn, "nullable", scope):
        await _alone(conn, row["remedy"], scope)
    await transaction.write_once(conn, [(query("adopt", "finish"), {})], scope=scope, held="fivrec")
    return True


async def _read(conn: Connection, name: str, scope: Scope) -> list[transaction.Row]:
    return await transaction.read_rows_once(conn, query("adopt", name), {}, scope=scope)


async def _next_step(conn: Connection, broken: Set[str], scope: Scope) -> transaction.Row | None:
    """Waits while another session builds indexes: to PostgreSQL an index that is being built is an invalid one."""
    until = asyncio.get_running_loop().time() + conn.limits.migrate_s
    while (await _read(conn, "at_work", scope))[0]["found"]:
        if asyncio.get_running_loop().time() > until:
            said = f"{where(conn)}: another session builds indexes all the time"
            raise DatabaseError(said, code="lock_timeout", hint="run again when it is done")
        await asyncio.sleep(_LOCK_WAIT_S)
    return next((row for row in await _read(conn, "steps", scope) if row["name"] not in broken), None)


async def _make(conn: Connection, step: Mapping[str, Any], scope: Scope) -> bool:
    """Returns False if rows break the constraint to be validated."""
    if step["before"] is not None:
        await _alone(conn, step["before"], scope)
    if step["kind"] in ("unique", "index"):
        unique = "UNIQUE " if step["kind"] == "unique" else ""
        await conn.execute(f"CREATE {unique}INDEX CONCURRENTLY {step['remedy']}")
        return True
    try:
        await _alone(conn, step["remedy"], scope)
    except (errors.CheckViolation, errors.ForeignKeyViolation):
        return False
    return True


async def _alone(conn: Connection, statement: str, scope: Scope) -> None:
    """Run one statement in its own transaction. It waits for locks only briefly, as others queue up behind it."""
    for last in (*(False,) * (_LOCK_TRIES - 1), True):
        with limited(conn, replace(conn.limits, lock_wait_s=_LOCK_WAIT_S)):
            await transaction.open_writing(conn, {}, {}, scope=scope)
        try:
            await transaction.prolong(conn)
            await conn.execute(statement)
            await conn.execute("COMMIT")
        except errors.LockNotAvailable:
            if last:
                raise
            await asyncio.sleep(_LOCK_WAIT_S)
        else:
            return
        finally:
            await rollback(conn)
