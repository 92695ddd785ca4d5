"""Readings that several calls wait for are made once. No call gets a result that was read before the call came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import field
from typing import Generic, TypeVar

from reconciler.model.records import dataclass

T = TypeVar("T")


@dataclass(slots=True)
class SharedReads(Generic[T]):
    """While a reading is in progress, new callers wait for the next one, and share it."""

    _running: dict[Hashable, asyncio.Task[T]] = field(default_factory=dict)
    _next: dict[Hashable, asyncio.Task[T]] = field(default_factory=dict)

    async def read(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of `read`, begun after this call. Its errors go to everybody who shares it."""
        shared = self._next.get(key)
        if shared is None:
            running = self._running.get(key)
            if running is None:
                shared = self._begin(key, read)
            else:
                shared = self._next[key] = asyncio.create_task(self._follow(running, key, read))
        return await asyncio.shield(shared)

    def _begin(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def reading() -> T:
            return await read()

        task = self._running[key] = asyncio.create_task(reading())
        task.add_done_callback(lambda _: self._running.pop(key))
        return task

    async def _follow(self, running: asyncio.Task[T], key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        await asyncio.wait([running])
        del self._next[key]  # from here on it is a reading that has begun
        return await self._begin(key, read)
