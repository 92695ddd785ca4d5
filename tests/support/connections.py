"""Connections for tests: the type of the fixture that opens them, and a connection lent by a pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from reconciler.database.connection import Connection
from reconciler.database.pool import ConnectionPool
from reconciler.model.secret import Secret

Connect: TypeAlias = Callable[..., Awaitable[Connection]]


@asynccontextmanager
async def lent(pool: ConnectionPool, url: Secret) -> AsyncIterator[Connection]:
    conn = await pool.take(url, application_name="test")
    try:
        yield conn
    finally:
        await asyncio.shield(pool.give(conn))
