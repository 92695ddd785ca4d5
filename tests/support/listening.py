"""Serves any ASGI application on a socket of this process, or holds a port on which nobody listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from reconciler.support.asgi_server import AppServer, Listen, bound_socket


@contextmanager
def closed_port() -> Iterator[int]:
    """Yields a port that refuses connections; it is held, so that no other process gets it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@asynccontextmanager
async def listening(app: Any, **settings: Any) -> AsyncIterator[str]:
    ready = asyncio.Event()
    with bound_socket(Listen("127.0.0.1", 0)) as bound:
        server = AppServer(app, Listen("127.0.0.1", 0), bound, lambda _: ready.set(), **settings)
        task = asyncio.create_task(server.serve([bound]))
        await ready.wait()
        try:
            yield server.url
        finally:
            server.should_exit = True
            await task
