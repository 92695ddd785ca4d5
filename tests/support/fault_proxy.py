"""A TCP proxy that does what networks do: waits, drops, cuts, freezes. Counts round trips and PostgreSQL's messages.

Seeded: the seed replays a failure. `at` lets a test act between two messages. `FaultProxy` lives in a running event
loop; `running_proxy` has a loop and a thread of its own, for tests of commands and of blocking clients.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from reconciler.model.secret import Secret
from tests.support.cut_messages import Message, Messages

Direction: TypeAlias = Literal["to_server", "to_client"]


@dataclass
class Faults:
    """What to do to connections; may be changed at any time, by any thread.

    `delay_s` delays every chunk, with up to `jitter_s` more. `cut_after` ends a connection after that many bytes in
    `cut_direction`, counted over all connections since `arm`. `drop_rate` is the share of new connections that are
    closed at once. `split` passes chunks on in pieces of at most that many bytes. `cut_answer` ends a connection, once,
    instead of passing on the chunk from the server that contains these bytes.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    cut_after: int | None = None
    cut_direction: Direction = "to_server"
    drop_rate: float = 0.0
    split: int | None = None
    refuse: bool = False
    cut_answer: bytes | None = None


@dataclass
class Traffic:
    """`turns` counts round trips: how often the client sent something first or after the server had."""

    connections: int = 0
    to_server: int = 0
    to_client: int = 0
    turns: int = 0
    cuts: int = 0
    chunks: list[tuple[Direction, int]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


Act: TypeAlias = Callable[[], bool]
"""Something to do; returns True if it ends the connection."""


ANYWHERE = ("127.0.0.1", 0)


class FaultProxy:
    """With `messages`, the traffic to the server is PostgreSQL's protocol, and its messages are kept in `traffic`.

    `listen` is the address to listen on; port 0 means any free one.
    """

    def __init__(
        self, host: str, port: int, *, seed: int = 0, messages: bool = False, listen: tuple[str, int] = ANYWHERE
    ) -> None:
        self.target = (host, port)
        self._listen = listen
        self._by_message = messages
        self._at: tuple[int, Act] | None = None
        self.faults = Faults()
        self.traffic = Traffic()
        self.port = 0
        self._random = random.Random(seed)
        self._passing = asyncio.Event()
        self._passing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._armed_at = {"to_server": 0, "to_client": 0}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._listen)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.thaw()
        self.drop_all()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def freeze(self) -> None:
        """Pass nothing on without either side noticing, as when a cable is pulled."""
        self._passing.clear()

    def thaw(self) -> None:
        self._passing.set()

    def drop_all(self) -> None:
        """Reset every open connection (RST; a cut ends with FIN)."""
        for writer in list(self._open):
            _reset(writer)

    def arm(self, cut_after: int, direction: Direction = "to_server") -> None:
        """Cut once, after that many more bytes in that direction."""
        self._armed_at = {"to_server": self.traffic.to_server, "to_client": self.traffic.to_client}
        self.faults.cut_direction = direction
        self.faults.cut_after = cut_after

    def at(self, number: int, act: Act) -> None:
        """Call `act` once that many messages have passed to the server, over all connections."""
        self._at = (number, act)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.traffic.connections += 1
        if self.faults.refuse or self._random.random() < self.faults.drop_rate:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        ends = (writer, server_writer)
        self._open.update(ends)
        last: list[Direction] = ["to_client"]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, "to_server", last, ends))
                group.create_task(self._pump(server_reader, writer, "to_client", last, ends))
        finally:
            for end in ends:
                end.transport.abort()
                self._open.discard(end)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        last: list[Direction],
        ends: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        heard = Messages() if self._by_message and direction == "to_server" else None
        with suppress(OSError):
            while chunk := await reader.read(self.faults.split or 64 * 1024):
                if direction == "to_server" and last[0] == "to_client":
                    self.traffic.turns += 1
                last[0] = direction
                ended = await (self._tell(chunk, heard, writer) if heard else self._pass(chunk, direction, writer))
                if ended:
                    for end in ends:
                        end.transport.abort()
                    return
            if writer.can_write_eof():
                writer.write_eof()

    async def _pass(self, chunk: bytes, direction: Direction, writer: asyncio.StreamWriter) -> bool:
        """Pass a chunk on, subject to the faults. Returns whether the connection ends here."""
        await self._hold()
        kept = self._room(direction, len(chunk))
        spoken = self.faults.cut_answer
        if direction == "to_client" and spoken is not None and spoken in chunk:
            self.traffic.cuts += 1
            self.faults.cut_answer = None
            return True
        writer.write(chunk[:kept])
        self.traffic.chunks.append((direction, kept))
        setattr(self.traffic, direction, getattr(self.traffic, direction) + kept)
        cut = kept < len(chunk) or self._is_due(direction)
        if cut:
            self.traffic.cuts += 1
            self.faults.cut_after = None
        with suppress(OSError):
            await writer.drain()
        return cut

    async def _tell(self, chunk: bytes, heard: Messages, writer: asyncio.StreamWriter) -> bool:
        """Pass a chunk on message by message. Returns whether the connection ends here."""
        for message in heard.feed(chunk):
            if await self._pass(message.raw, "to_server", writer):
                return True
            self.traffic.messages.append(message)
            if self._at and self._at[0] == len(self.traffic.messages):
                _, act = self._at
                self._at = None
                if act():
                    self.traffic.cuts += 1
                    return True
        return False

    async def _hold(self) -> None:
        pause = self.faults.delay_s + self._random.random() * self.faults.jitter_s
        if pause:
            await asyncio.sleep(pause)
        await self._passing.wait()

    def _room(self, direction: Direction, wanted: int) -> int:
        if self.faults.cut_after is None or direction != self.faults.cut_direction:
            return wanted
        passed = getattr(self.traffic, direction) - self._armed_at[direction]
        return max(0, min(wanted, self.faults.cut_after - passed))

    def _is_due(self, direction: Direction) -> bool:
        return (
            self.faults.cut_after is not None
            and self._room(direction, 1) == 0
            and (direction == self.faults.cut_direction)
        )


def through(url: Secret, port: int) -> Secret:
    """Returns the database's URL by way of the proxy on that port."""
    parts = urlsplit(url.reveal())
    user = parts.netloc.rpartition("@")[0]
    return Secret(urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}")))


def server_of(url: Secret) -> tuple[str, int]:
    parts = urlsplit(url.reveal())
    return parts.hostname or "127.0.0.1", parts.port or 5432


@asynccontextmanager
async def proxied(url: Secret, *, seed: int = 0) -> AsyncIterator[tuple[FaultProxy, Secret]]:
    """Start a proxy in front of a database's server. Yields it, and the URL that leads through it."""
    async with FaultProxy(*server_of(url), seed=seed, messages=True) as proxy:
        yield proxy, through(url, proxy.port)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it may be closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ProxyHandle:
    """A proxy that runs in its own thread; its methods may be called from any other."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.port = proxy.port
        self.faults = proxy.faults

    @property
    def traffic(self) -> Traffic:
        return self._proxy.traffic

    def forget(self) -> None:
        """Restart all counts from zero."""
        self._proxy.traffic = Traffic()

    def freeze(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.freeze)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.thaw)

    def drop_all(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.drop_all)

    def arm(self, cut_after: int, direction: Direction = "to_server") -> None:
        self._proxy.arm(cut_after, direction)


@contextmanager
def running_proxy(host: str, port: int, *, seed: int = 0, listen: tuple[str, int] = ANYWHERE) -> Iterator[ProxyHandle]:
    ready = threading.Event()
    handles: list[ProxyHandle] = []
    ended: list[asyncio.Event] = []

    async def run() -> None:
        ended.append(asyncio.Event())
        async with FaultProxy(host, port, seed=seed, listen=listen) as proxy:
            handles.append(ProxyHandle(proxy, asyncio.get_running_loop()))
            ready.set()
            await ended[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield handles[0]
    finally:
        handles[0]._loop.call_soon_threadsafe(ended[0].set)
        thread.join(60)
