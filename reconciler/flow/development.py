"""Test data of an instance: counted, and deleted. Rows of production are never touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from reconciler.adapters.statements import query
from reconciler.adapters.transaction import read_once, write_once
from reconciler.core.model import Desired
from reconciler.flow.instance import database
from reconciler.flow.run import Run

TABLES = ("messages", "conversations", "clients", "queues", "users")
DEVELOPMENT = "development"


async def count_rows(desired: Desired, run: Run) -> Mapping[str, int]:
    async with database(desired, run) as conn:
        statements = {"counts": query("development", "counts")}
        rows = await read_once(conn, statements, {}, environment=DEVELOPMENT, limits=run.limits)
        return dict(rows["counts"][0])


async def delete_rows(desired: Desired, run: Run, counts: Mapping[str, int]) -> Mapping[str, int]:
    writes: list[tuple[LiteralString, Mapping[str, Any]]] = [
        (query("development", f"delete_{table}"), {}) for table in TABLES
    ]
    async with database(desired, run) as conn:
        await write_once(conn, writes, environment=DEVELOPMENT, limits=run.limits)
    return counts
