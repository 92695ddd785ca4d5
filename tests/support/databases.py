"""A test's own databases: named by URL, changed as their owner would, dropped afterwards."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from reconciler.model.secret import Secret


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def owning(url: Secret, *statements: str) -> list[tuple[Any, ...]]:
    """Run the statements one by one as the database's owner. Returns the last one's rows."""
    with psycopg.connect(url.reveal(), autocommit=True, client_encoding="UTF8") as conn:
        for statement in statements:
            found = conn.execute(statement.encode())
        return found.fetchall() if found.description else []


async def run_sql(url: Secret, text: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        cursor = await conn.execute(text.encode())
        return await cursor.fetchall() if cursor.description else []


def drop_database(postgres_url: str, name: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        for environment in ("production", "development"):  # the groups made by `isolation: enforced`
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{name}_{environment}")))
