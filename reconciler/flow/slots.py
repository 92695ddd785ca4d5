"""Places for turns at once. One that takes long gives its place up, so that hung instances never hold up others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_S = 5.0


class Slots:
    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience_s = patience_s

    async def take(self) -> None:
        """Wait for a place. It is given back by `held`, or by `leave` where there is nothing to do."""
        await self._free.acquire()

    def leave(self) -> None:
        self._free.release()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Have the place that was taken, for a while at most."""
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self.leave()

        timer = asyncio.get_running_loop().call_later(self._patience_s, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
