"""Readings that several calls wait for are made once. No call gets a result that was read before the call came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import field
from typing import Any, Generic, TypeVar

from reconciler.model.records import dataclass

T = TypeVar("T")


@dataclass(slots=True)
class SharedReads(Generic[T]):
    """While a reading is in progress, new callers wait for the next one, and share it."""

    _running: dict[Hashable, asyncio.Task[T]] = field(default_factory=dict)
    _next: dict[Hashable, asyncio.Future[T]] = field(default_factory=dict)

    async def read(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of `read`, begun after this call. Its errors go to everybody who shares it."""
        if key not in self._running:
            return await asyncio.shield(self._begin(key, read))
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiting)

    def _begin(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def reading() -> T:
            return await read()

        task = self._running[key] = asyncio.create_task(reading())
        task.add_done_callback(lambda _: self._ended(key, read))
        return task

    def _ended(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> None:
        del self._running[key]
        waiting = self._next.pop(key, None)
        if waiting is not None:
            self._begin(key, read).add_done_callback(lambda task: _pass_on(task, waiting))


def _pass_on(task: asyncio.Task[Any], waiting: asyncio.Future[Any]) -> None:
    if waiting.done():
        return
    if task.cancelled():
        waiting.cancel()
    elif (error := task.exception()) is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(task.result())
