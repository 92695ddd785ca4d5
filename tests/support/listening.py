"""Serves any ASGI application on a socket of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from reconciler.support.asgi_server import AppServer, Listen, bound_socket


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
