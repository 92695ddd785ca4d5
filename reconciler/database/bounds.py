"""How much of a database may be read at once. An app's role that fills its tables must not end, or hold up for minutes,
a process that serves other instances too.

100,000 queues with their records are some 40 MB, 200,000 rows and 800,000 parts of JSON.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from psycopg import AsyncCursor, OperationalError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader

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


def received(descriptor: int) -> int:
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
