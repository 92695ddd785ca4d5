"""Limit how many turns run at once. A hung instance never delays others: it loses its place, and then competes only
with other hung ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconciler.support.places import held_place

PATIENCE_S = 5.0
SLOW_SHARE = 4
"""Instances that were slow last time get so many times the usual number of places: if a server is slow for all of its
databases, not all of them are asked at once."""


class Limiter:
    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._free = asyncio.Semaphore(count)
        self._slow = asyncio.Semaphore(count * SLOW_SHARE)

    async def take(self) -> None:
        """Wait for a place. `held` gives it back, or `leave` if there is nothing to do."""
        await self._free.acquire()

    def leave(self) -> None:
        self._free.release()

    @asynccontextmanager
    async def held(self, *, slow: bool = False) -> AsyncIterator[None]:
        """Hold the place for a limited time. An instance that was slow last time moves to the slow places at once."""
        if slow:
            self.leave()
            async with self._slow:
                yield
        else:
            with held_place(self._free, self.patience_s):
                yield
