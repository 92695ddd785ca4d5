"""Places for turns at once. Hung instances never hold up others: they lose their place, then wait among themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconciler.support.places import held_place

PATIENCE_S = 5.0
SLOW_SHARE = 4
"""So many times the places are there for instances that were slow the last time: a server that is slow for all of its
databases is not asked for all of them at once."""


class Limiter:
    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._free = asyncio.Semaphore(count)
        self._slow = asyncio.Semaphore(count * SLOW_SHARE)

    async def take(self) -> None:
        """Wait for a place. It is given back by `held`, or by `leave` where there is nothing to do."""
        await self._free.acquire()

    def leave(self) -> None:
        self._free.release()

    @asynccontextmanager
    async def held(self, *, slow: bool = False) -> AsyncIterator[None]:
        """Have the place that was taken, for a while at most; one that was slow the last time changes to those of its
        kind at once."""
        if slow:
            self.leave()
            async with self._slow:
                yield
        else:
            with held_place(self._free, self.patience_s):
                yield
