"""Simulates a distant server: passes bytes on after a network's delay. Runs as a separate process.

`python delay.py HOST:PORT SECONDS` prints `listening PORT`; ends when stdin closes. SECONDS is a round trip: half of it
each way, and a whole one before the first bytes, which is the cost of TCP's handshake. Nothing is delayed longer than
that: bytes sent close together arrive close together.
"""

from __future__ import annotations

import asyncio
import socket
import sys


class Side(asyncio.Protocol):
    """One end of a connection; writes what it receives to the other end, later."""

    def __init__(self, way: float) -> None:
        self.way = way
        self.last = 0.0
        self.other: Side | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        asyncio.get_running_loop().call_at(self.arrival(), self.other.transport.write, data)  # type: ignore[union-attr]

    def arrival(self) -> float:
        """Returns when bytes sent now arrive: always later than those sent before."""
        self.last = max(asyncio.get_running_loop().time() + self.way, self.last + 1e-6)
        return self.last

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if self.other is not None:
            asyncio.get_running_loop().call_at(self.arrival(), self.other.transport.close)  # type: ignore[attr-defined]


class Client(Side):
    """The client's end. Its first bytes wait for the round trip in which a real connection would be made."""

    def __init__(self, target: tuple[str, int], way: float) -> None:
        super().__init__(way)
        self.target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.last = asyncio.get_running_loop().time() + 3 * self.way
        self.task = asyncio.create_task(self.reach())

    async def reach(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, server = await loop.create_connection(lambda: Side(self.way), *self.target)
        except OSError:
            self.transport.abort()  # type: ignore[attr-defined]
            return
        self.other, server.other = server, self
        for data in self.early:
            self.pass_on(data)


async def serve(target: tuple[str, int], round_trip: float) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    listening = await loop.create_server(lambda: Client(target, round_trip / 2), "127.0.0.1", 0, backlog=1024)
    loop.add_reader(sys.stdin.fileno(), ended.set)
    print("listening", listening.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    asyncio.run(serve((host, int(port)), float(sys.argv[2])))
