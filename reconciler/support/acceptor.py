"""Accepts connections from a listening socket, up to a limit, even when the process runs out of files.

asyncio itself writes a traceback for each connection that it can't accept, 2,000 times a second.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reconciler.support.http_limits import HEAD_S, LimitedProtocol

SPARES = 4
_MOST = 1024
_LEAST = 8
_PAUSE_S = 0.05
PATIENCE_S = 0.5
"""How long a client may take to send a head, or for the TLS handshake, before it can lose its place to a new one."""
_FILES = Path("/dev/fd")


def connection_limit() -> int:
    """Returns half of the number of files that the process may still open: the rest is for databases and Connect."""
    try:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return _MOST
        used = sum(1 for _ in _FILES.iterdir())
    except OSError:  # a sandbox without /dev/fd, or without prlimit
        return _LEAST
    return max(_LEAST, min(_MOST, (soft - used) // 2))


class Acceptor:
    """`protocol` makes a connection's protocol; `secure` returns the current TLS context, None for plain HTTP; `said`
    is called with what an operator should know."""

    def __init__(
        self,
        protocol: Callable[[], LimitedProtocol],
        secure: Callable[[], ssl.SSLContext | None],
        said: Callable[[str], None],
    ) -> None:
        self._protocol = protocol
        self._secure = secure
        self._said = said
        self._limit = connection_limit()
        self._open: set[LimitedProtocol] = set()
        self._handshakes: dict[asyncio.Task[None], tuple[socket.socket, float]] = {}

    async def run(self, bound: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        bound.settimeout(0)
        try:
            while True:
                try:
                    taken, _ = await loop.sock_accept(bound)
                except OSError as error:
                    if not isinstance(error, ConnectionError):  # else the client was gone before it was accepted
                        self._said(f"no connection can be taken: {(error.strerror or type(error).__name__).lower()}")
                        self._evict()
                        await asyncio.sleep(_PAUSE_S)
                    continue
                self._begin(taken, spare=await self._make_room())
        finally:
            for task in self._handshakes:
                task.cancel()

    async def _make_room(self) -> bool:
        """Wait until there is a place; the slowest client loses its own if need be. Returns True if all others are busy
        and the place is a spare one."""
        await asyncio.sleep(0)  # first begin the connections that were accepted already
        while (held := self._held()) >= self._limit:
            self._said("as many connections are open as the limit allows: the slowest are closed for new ones")
            if self._evict():
                continue
            busy = all(one.waiting_since is None for one in self._open) and not self._handshakes
            if busy and held < self._limit + SPARES:
                return True
            await asyncio.sleep(_PAUSE_S)
        return False

    def _held(self) -> int:
        self._open = {one for one in self._open if not one.transport.is_closing()}
        return len(self._open) + len(self._handshakes)

    def _begin(self, taken: socket.socket, *, spare: bool) -> None:
        task = asyncio.create_task(self._shake_hands(taken, spare=spare))
        self._handshakes[task] = (taken, asyncio.get_running_loop().time())
        task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, taken: socket.socket, *, spare: bool) -> None:
        loop, context, protocol = asyncio.get_running_loop(), self._secure(), self._protocol()
        if spare:
            protocol.set_spare()
        times = {"ssl_handshake_timeout": HEAD_S, "ssl_shutdown_timeout": 1.0} if context else {}
        try:
            await loop.connect_accepted_socket(lambda: protocol, taken, ssl=context, **times)
        except (OSError, asyncio.CancelledError):  # a handshake that failed or took too long is the client's problem
            taken.close()
            return
        if not protocol.transport.is_closing():
            self._open.add(protocol)

    def _evict(self) -> bool:
        """Close the connection that has waited longest for its client. Returns False if none has waited long enough."""
        before = asyncio.get_running_loop().time() - PATIENCE_S
        since, slowest = min(
            ((one.waiting_since, one) for one in self._open if one.waiting_since is not None),
            default=(before, None),
            key=lambda pair: pair[0],
        )
        if slowest is not None and since < before:
            slowest.transport.abort()
            self._open.discard(slowest)
            return True
        for task, (taken, begun) in self._handshakes.items():
            if begun < before:
                del self._handshakes[task]
                task.cancel()
                with suppress(OSError):
                    taken.shutdown(socket.SHUT_RDWR)
                return True
        return False
