"""Pipelines that send all their statements together: one write to the socket, one wait for the answers.

psycopg's own pipelines send each statement by itself and wait for the socket twice before the next, which took a fifth
of a check's CPU time. Here statements stay in psycopg's queue until the pipeline ends, or a result is fetched; then all
go into libpq's buffer. Order, errors and results are psycopg's.

A connection also carries its bounds: how long things may take, and how much may be read at once. libpq takes any amount
of data into memory, and an app's role that fills its tables must not end, or hold up for minutes, a process that serves
other instances. 100,000 queues with their records are some 40 MB, 200,000 rows and 800,000 parts of JSON.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import AsyncConnection, AsyncCursor, AsyncPipeline, OperationalError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.generators import send

from reconciler.model.records import dataclass

MOST_BYTES: Final = 128 * 1024 * 1024
"""What one pipeline may receive."""

MOST_ROWS: Final = 300_000
"""What one statement may return."""

MOST_PARTS: Final = 3_000_000
"""The items and keys of all JSON values that one statement may return: each is an object in Python."""

_BYTES_RECEIVED = struct.Struct("=128xQ")
"""Where Linux's tcp_info has `tcpi_bytes_received`."""


class TooMuchDataError(OperationalError):
    """A reading exceeds one of the bounds above."""


def _received(descriptor: int) -> int:
    """Returns the bytes that a TCP connection received since it began; 0 if the system does not say: not Linux, or a
    Unix socket."""
    if sys.platform != "linux":
        return 0
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        return int(_BYTES_RECEIVED.unpack(info)[0])
    except (OSError, struct.error):
        return 0
    finally:
        connection.detach()  # the descriptor is libpq's


async def fetch_all(cursor: AsyncCursor[Any]) -> list[Any]:
    """Returns a statement's rows. Raises TooMuchDataError."""
    if cursor.rowcount > MOST_ROWS:
        raise TooMuchDataError
    return await cursor.fetchall()


def json_loader(loads: Callable[[bytes], Any]) -> type[Loader]:
    """Returns a loader of JSON columns: psycopg makes one for each statement, which counts the parts."""

    class Bounded(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._left = MOST_PARTS

        def load(self, data: Buffer) -> Any:
            text = bytes(data)
            self._left -= text.count(b",") + text.count(b"[") + text.count(b"{")
            if self._left < 0:
                raise TooMuchDataError
            return loads(text)

    return Bounded


class _AtOnce(AsyncPipeline):
    def _communicate_gen(self) -> Generator[Any, Any, None]:
        """Called after each statement: sends nothing yet."""
        yield from ()

    def _fetch_gen(self, *, flush: bool) -> Generator[Any, Any, None]:
        """Called at the end, or when a result is fetched."""
        while self.command_queue:
            self.command_queue.popleft()()
        if not flush:  # a Sync is on its way, and nothing else sends it
            yield from send(self.pgconn)
        yield from self._bounded(super()._fetch_gen(flush=flush))

    def _bounded(self, fetching: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        at_first, ready = _received(self.pgconn.socket), None
        while True:
            try:
                wanted = fetching.send(ready)
            except StopIteration:
                return
            ready = yield wanted
            if _received(self.pgconn.socket) - at_first > MOST_BYTES:
                self.pgconn.finish()
                raise TooMuchDataError


_FITS = hasattr(AsyncPipeline, "_communicate_gen") and hasattr(AsyncPipeline, "_fetch_gen")
"""If psycopg's pipelines work differently, they are used as they are: slower, but just as correct."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take.

    `lock_wait_s`: waiting for another run of the instance, or for a row or table lock of the app. `statement_ms`,
    `idle_ms`, `transaction_ms`: the server's own limits per statement, between two statements, and for each half
    (reading, writing) of a transaction that holds the lock (PostgreSQL 17 and newer). `total_s`: one read or write,
    whatever the network does. `migrate_s`: a write that migrates big tables. If a link freezes, the command ends after
    total_s and a connection attempt: within 30 s.
    """

    lock_wait_s: float = 2
    statement_ms: int = 15_000
    idle_ms: int = 9_000
    transaction_ms: int = 9_000
    connect_s: int = 5
    total_s: float = 20
    migrate_s: float = 600


DEFAULTS: Final = Limits()


class PipelinedConnection(AsyncConnection[Any]):
    limits = DEFAULTS
    place = "the database"
    """For error messages: once a connection is gone, libpq no longer has its name."""
    holds = False
    """Its login is a superuser, though its sessions begin as another role: guard.sql, `unheld`."""

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        if _FITS and self._pipeline is None:
            self._pipeline = _AtOnce(self)  # psycopg uses an existing one, and removes it at the end
        async with super().pipeline() as opened:
            yield opened
