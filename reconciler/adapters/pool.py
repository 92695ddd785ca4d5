"""Connections to PostgreSQL that are kept between uses: a bounded number at once and a bounded number idle."""

from __future__ import annotations

import asyncio
import select
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from psycopg.pq import TransactionStatus

from reconciler.adapters.postgres import Connection, Limits, connect
from reconciler.core.secret import Secret


@dataclass(slots=True)
class _Database:
    places: asyncio.Semaphore
    idle: list[Connection] = field(default_factory=list)


@dataclass(slots=True)
class ConnectionPool:
    """`at_once` connections to one database, `kept` idle ones in all; the one unused for longest is closed first."""

    at_once: int = 8
    kept: int = 64
    _databases: OrderedDict[str, _Database] = field(default_factory=OrderedDict)

    @asynccontextmanager
    async def connection(self, url: Secret, *, limits: Limits, application_name: str) -> AsyncIterator[Connection]:
        """A connection with nothing begun on it. One that comes back broken, or within a transaction, is closed."""
        name = url.reveal()
        database = self._databases.setdefault(name, _Database(asyncio.Semaphore(self.at_once)))
        self._databases.move_to_end(name)
        async with database.places:
            conn = _take(database) or await connect(url, limits=limits, application_name=application_name)
            try:
                yield conn
            finally:
                if not conn.closed and conn.pgconn.transaction_status == TransactionStatus.IDLE:
                    database.idle.append(conn)
                else:
                    await asyncio.shield(conn.close())
        await self._trim()

    async def _trim(self) -> None:
        surplus = sum(len(database.idle) for database in self._databases.values()) - self.kept
        for database in list(self._databases.values()):
            while surplus > 0 and database.idle:
                surplus -= 1
                await database.idle.pop(0).close()

    async def aclose(self) -> None:
        for database in self._databases.values():
            while database.idle:
                await database.idle.pop().close()


def _take(database: _Database) -> Connection | None:
    """The connection used last that is still open: on one that the server has left, there is something to read."""
    while database.idle:
        conn = database.idle.pop()
        if not conn.closed and not _has_news(conn):
            return conn
        conn.pgconn.finish()
    return None


def _has_news(conn: Connection) -> bool:
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
