"""A Connect that misbehaves, byte by byte: does what the emulator is too well behaved to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support.connect_running import TlsFiles

Behaviour: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Misbehaving:
    """`requests` are the heads received, in order; `connections` counts those accepted after the TLS handshake."""

    url: str = ""
    port: int = 0
    connections: int = 0
    requests: list[str] = field(default_factory=list)

    def header(self, name: str, request: int = 0) -> str | None:
        for line in self.requests[request].split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return None


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


STATUS = {
    "instanceId": "client-abc-123",
    "status": "active",
    "billingStatus": "paid",
    "enabledFeatures": {"chat": True, "chatbot": True, "ai_agent": False},
}


def answering(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Sends a whole response; the connection stays open, unless a header says otherwise."""
    given = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content)

    return answer


def raw(data: bytes, *, close: bool = True) -> Behaviour:
    """Sends any bytes at all."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return say


def packed(content: bytes) -> Behaviour:
    return answering(gzip.compress(content), headers={"Content-Encoding": "gzip"})


def dripping(content: bytes, every_s: float) -> Behaviour:
    """Sends one byte at a time: no single read times out, but the response takes very long."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        for byte in content:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every_s)

    return drip


async def hanging(writer: asyncio.StreamWriter) -> None:
    """Accepts a request and never responds."""


def then_closing(behaviour: Behaviour) -> Behaviour:
    """Sends a whole response, then closes the connection without announcing it in the headers."""

    async def close(writer: asyncio.StreamWriter) -> None:
        await behaviour(writer)
        await writer.drain()
        writer.close()

    return close


@asynccontextmanager
async def misbehaving(*behaviours: Behaviour, tls: TlsFiles | None = None) -> AsyncIterator[Misbehaving]:
    """Serve the nth behaviour to the nth request; the last one repeats."""
    seen = Misbehaving()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                seen.requests.append(head)
                length = seen.header("content-length", -1)
                await reader.readexactly(int(length or 0))
                await behaviours[min(len(seen.requests), len(behaviours)) - 1](writer)
                await writer.drain()

    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.cert, tls.key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    seen.port = server.sockets[0].getsockname()[1]
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{seen.port}"
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)
