"""Read a database whose schema is missing or stale: tables that the app made, or that lost something. Writes nothing.

Rows are read as JSON, so that a column that is not there reads as the migration is going to fill it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from reconciler.database import transaction
from reconciler.database.connection import Connection
from reconciler.database.purge import ORDER
from reconciler.database.schema import read_missing
from reconciler.database.statements import query
from reconciler.model.kinds.development_rows import NAME as TEST_DATA

_NEEDS = {
    "migrations": ("fivrec.migrations",),
    "audit_head": ("fivrec.audit_log",),
    "applied": ("fivrec.applied",),
    "open_drift": ("fivrec.last_run",),
    "environment": ("fivrec.applied",),
    "setting": ("settings",),
    "config": ("instance_config",),
    "heard": ("instance_config", "status_check_logs"),
    "admin": ("users",),
    "queue": ("queues",),
    "plan": ("plans",),
    **{f"{TEST_DATA}_{table}": (table,) for table in ORDER},
}

NAMES = tuple(sorted({table for tables in _NEEDS.values() for table in tables}))


def looking() -> dict[str, LiteralString]:
    """The statement `tables`: a row (name, present) for each of NAMES, passed as parameter `tables`."""
    return {"tables": query("adopt", "tables")}


async def read(
    conn: Connection, tables: Sequence[Mapping[str, Any]], params: Mapping[str, Any]
) -> tuple[dict[str, list[transaction.Row]], tuple[str, ...]]:
    """Read what the tables that are present hold, in the open transaction, and name what is missing.

    Nothing is named of a database that was never migrated: everything is to be made there.
    """
    present = {row["name"] for row in tables if row["present"]}
    wanted = {name: query("adopt", name) for name, needs in _NEEDS.items() if present.issuperset(needs)}
    rows = await transaction.read_more(conn, wanted, params)
    rows[TEST_DATA] = [row for table in ORDER for row in rows.pop(f"{TEST_DATA}_{table}", ())]
    heard = any(row["heard"] for row in rows.pop("heard", ()))
    for row in rows.get("config", ()):
        row["heard"] = heard
    missing = await read_missing(conn) if rows.get("migrations") else ()
    return rows, missing
