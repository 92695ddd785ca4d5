"""Connections to PostgreSQL that are kept between uses: a bounded number at once and a bounded number idle.

A kept connection is used again only if the server has not closed it and its host's name still leads to it: a database
that moved is found at its new place, even while the old one still answers.
"""

from __future__ import annotations

import asyncio
import select
from collections import OrderedDict
from dataclasses import field

from psycopg.pq import PipelineStatus, TransactionStatus

from reconciler.database.connection import Connection, connect, with_deadline
from reconciler.database.pipeline import DEFAULTS, Limits
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.conninfo import server_identity
from reconciler.support.name_lookup import resolve_host
from reconciler.support.network import parse_address

PREPARE_AFTER = 3
"""A statement that has run this often on one kept connection is prepared, and not planned again from then on."""

_MOST_ROOM, _ROOM_TRIES, _ROOM_S = 3, 10, 0.1
"""How many idle connections are closed, and how often and after how many seconds the server is asked again: it counts a
connection for a moment after it is closed, and another client may take its place first."""

NAMES_S = 10.0
"""How long the addresses of a name are reused."""


@dataclass(slots=True)
class _Places:
    """The places for connections to one database; `users` counts those who have one or wait for one."""

    free: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True)
class _Names:
    """The addresses of host names, looked up in the background: a name server that hangs delays nobody."""

    _known: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def left(self, conn: Connection) -> bool:
        """Whether the host name of a connection is known to lead to other addresses by now."""
        host, address = conn.info.host, conn.info.hostaddr
        if not address or host.startswith(("/", "@")) or parse_address(host):
            return False
        until, addresses = self._known.get(host, (0.0, ()))
        if asyncio.get_running_loop().time() >= until and host not in self._asking:
            self._asking[host] = asyncio.create_task(self._ask(host))
        return bool(addresses) and address not in addresses

    async def _ask(self, host: str) -> None:
        try:
            addresses = await resolve_host(host)
        except OSError:
            addresses = ()  # unknown: not a sign that the database moved
        finally:
            del self._asking[host]
        self._known[host] = (asyncio.get_running_loop().time() + NAMES_S, addresses)

    def stop(self) -> None:
        for task in self._asking.values():
            task.cancel()


@dataclass(slots=True)
class ConnectionPool:
    """At most `at_once` connections per database, and `kept` idle ones in all; the one idle for longest goes first."""

    at_once: int = 8
    kept: int = 64
    _idle: OrderedDict[Connection, str] = field(default_factory=OrderedDict)
    _idle_of: dict[str, list[Connection]] = field(default_factory=dict)
    _lent: dict[Connection, str] = field(default_factory=dict)
    _places: dict[str, _Places] = field(default_factory=dict)
    _names: _Names = field(default_factory=_Names)

    def __len__(self) -> int:
        return len(self._idle)

    async def take(self, url: Secret, *, application_name: str, limits: Limits = DEFAULTS) -> Connection:
        """Returns a connection without an open transaction; give it back with `give`."""
        name = url.reveal()
        await self._enter(name)
        try:
            conn = self._usable(name) or await self._connect(url, limits, application_name)
        except BaseException:
            self._leave(name)
            raise
        conn.limits = limits
        self._lent[conn] = name
        return conn

    async def _connect(self, url: Secret, limits: Limits, application_name: str) -> Connection:
        conn = await self._opened(url, limits, application_name)
        try:
            if await _is_direct(conn):
                conn.prepare_threshold = PREPARE_AFTER
        except BaseException:
            await conn.close()
            raise
        return conn

    async def _opened(self, url: Secret, limits: Limits, application_name: str) -> Connection:
        """If the server accepts no more connections, close an idle one of this pool to that server, then try again."""
        made = 0
        for _ in range(_ROOM_TRIES):
            try:
                return await connect(url, limits=limits, application_name=application_name)
            except DatabaseError as exc:
                if exc.code != "too_many_connections":
                    raise
                if made < _MOST_ROOM and await self._make_room(server_identity(url)[:2]):
                    made += 1
                elif not made:
                    raise
            await asyncio.sleep(_ROOM_S)
        return await connect(url, limits=limits, application_name=application_name)

    async def _make_room(self, server: tuple[str, ...]) -> bool:
        there = (conn for conn, name in self._idle.items() if server_identity(Secret(name))[:2] == server)
        if (oldest := next(there, None)) is None:
            return False
        self._forget(oldest)
        await oldest.close()
        return True

    async def give(self, conn: Connection) -> None:
        """Keep a connection for the next use; one that is broken or in a transaction is closed."""
        name = self._lent.pop(conn)
        self._leave(name)
        if not _is_clean(conn):
            await conn.close()
            return
        self._idle[conn] = name
        self._idle_of.setdefault(name, []).append(conn)
        while len(self._idle) > self.kept:
            oldest = next(iter(self._idle))
            self._forget(oldest)
            await oldest.close()

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self.kept = 0
        self._names.stop()
        while self._idle:
            conn = next(iter(self._idle))
            self._forget(conn)
            await conn.close()

    async def _enter(self, name: str) -> None:
        places = self._places.setdefault(name, _Places(asyncio.Semaphore(self.at_once)))
        places.users += 1
        try:
            await places.free.acquire()
        except BaseException:
            self._drop_user(name)
            raise

    def _leave(self, name: str) -> None:
        self._places[name].free.release()
        self._drop_user(name)

    def _drop_user(self, name: str) -> None:
        self._places[name].users -= 1
        if self._places[name].users == 0:
            del self._places[name]

    def _usable(self, name: str) -> Connection | None:
        """Returns the most recently used connection that is still good, and closes those that are not."""
        while kept := self._idle_of.get(name):
            conn = kept[-1]
            self._forget(conn)
            # If the server closed it, there is something to read.
            if not conn.closed and not _has_news(conn) and not self._names.left(conn):
                return conn
            conn.pgconn.finish()
        return None

    def _forget(self, conn: Connection) -> None:
        name = self._idle.pop(conn)
        kept = self._idle_of[name]
        kept.remove(conn)
        if not kept:
            del self._idle_of[name]


async def _is_direct(conn: Connection) -> bool:
    """Whether there is no pooler in between: a pooler answers with another process id than at connect time, and may
    give each transaction another server, which doesn't know the statements prepared before."""
    async with with_deadline(conn):
        found = await (await conn.execute("SELECT pg_catalog.pg_backend_pid()")).fetchone()
    return bool(found and found[0] == conn.info.backend_pid)


def _is_clean(conn: Connection) -> bool:
    return (
        not conn.closed
        and conn.pgconn.transaction_status == TransactionStatus.IDLE
        and conn.pgconn.pipeline_status == PipelineStatus.OFF
    )


def _has_news(conn: Connection) -> bool:
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
