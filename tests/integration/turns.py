"""A TCP relay for tests: counts round trips (the client speaks again after the server did), and can fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from reconciler.core.secret import Secret


@dataclass
class Relay:
    """Between a client and the server of `url`."""

    host: str
    port: int
    trips: int = 0
    answered: bool = True
    silent: bool = False
    cut_before: bytes | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._to_server(reader, up_writer))
                group.create_task(self._to_client(up_reader, writer))
        except* (OSError, ConnectionError):
            pass
        finally:
            writer.close()
            up_writer.close()

    async def _to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            if self.answered:
                self.trips += 1
                self.answered = False
            if self.silent:
                await asyncio.sleep(3600)
            writer.write(content)
            await writer.drain()
        writer.close()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            if self.cut_before and self.cut_before in content:
                writer.transport.abort()
                return
            # The server flushes when it is asked to: at the end of what it answers.
            self.answered = True
            writer.write(content)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def relay(url: Secret) -> AsyncIterator[tuple[Relay, Secret]]:
    """A relay before the server of `url`, and the URL that leads through it."""
    parts = urlsplit(url.reveal())
    found = Relay(parts.hostname or "", parts.port or 5432)
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with suppress(asyncio.CancelledError):
            await found.serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    userinfo = parts.netloc.rpartition("@")[0]
    try:
        yield found, Secret(urlunsplit(parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}")))
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
