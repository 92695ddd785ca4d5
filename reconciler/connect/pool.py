"""What the clients of one run share: settings, connections, and places for concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path

from reconciler.connect.transport import PinnedTransport
from reconciler.model.records import dataclass
from reconciler.support.places import held_place

PATIENCE_S = 3.0
"""Seconds after which a request gives its place to the next: a hanging Connect must not delay the waiting ones."""
USUAL_FORKS = 16


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """`total_s` limits one call with all its attempts; after `retry_s` a 5xx or a lost connection counts as failed. A
    Retry-After is honoured within `retry_s`, or up to `retry_after_s` if that is more. `forks`: concurrent requests.
    `patience_s`: how long the plans may hold up the status. `dry`: the embedded Connect keeps nothing."""

    ca_file: str | None
    production: bool
    work_dir: Path
    total_s: float = 30
    tries: int = 3
    retry_s: float = 10
    retry_after_s: float = 10
    backoff_s: float = 0.3
    patience_s: float = PATIENCE_S
    dry: bool = False
    forks: int = USUAL_FORKS
    said: Callable[[str], None] = field(default=lambda _: None)


class Places:
    """Limits the concurrent requests to one address, and so its connections. First come, first served."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(max(1, count))

    def is_free(self) -> bool:
        """Whether a place is free that nobody waits for."""
        return not self._free.locked()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        await self._free.acquire()
        with held_place(self._free, PATIENCE_S):
            yield


class ConnectPool:
    """Connections, trust and places that the clients of one run share. Bound to the event loop that uses it.
    `for_others` is for servers other than Connect: receivers of alerts."""

    def __init__(
        self, ca_file: str | None, forks: int = USUAL_FORKS, said: Callable[[str], None] = lambda _: None
    ) -> None:
        self.transport = PinnedTransport(ca_file, said=said)
        self.for_others = self.transport if ca_file is None else self.transport.for_others()
        self._forks = forks
        self._places: dict[str, Places] = {}

    def places(self, address: str) -> Places:
        return self._places.setdefault(address, Places(self._forks))

    async def aclose(self) -> None:
        await self.transport.aclose()
        await self.for_others.aclose()


@asynccontextmanager
async def open_pool(settings: ConnectSettings) -> AsyncIterator[ConnectPool]:
    pool = ConnectPool(settings.ca_file, settings.forks, settings.said)
    try:
        yield pool
    finally:
        await pool.aclose()
