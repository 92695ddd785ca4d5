"""What is known of each instance of the fleet: read in the background while somebody looks, so that no page waits for a
slow database. Reads only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime

from reconciler.engine.run import Run
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, ErrorInfo
from reconciler.support.cancellation import end_task
from reconciler.support.places import ask_each
from reconciler.web.overview import Overview, Unserved, read_overview

PAUSE_S = 5.0
WATCHED_S = 60.0
"""Seconds for which the board is kept current after the last look."""
FIRST_S = 0.4
"""Seconds that a page waits for readings to end; those of a small fleet do."""

_AT_ONCE = 8
_ROW_S = 10.0
_SHARE = 4
"""The pause is so many times as long as the reading: reading takes a fifth of the time at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An instance as it was read at `read_at`; None if it was not read yet. `place` is its own file and line; `served`:
    it has a page, and can be checked."""

    overview: Overview
    place: tuple[str, int]
    read_at: datetime | None = None
    served: bool = True


@dataclass(slots=True)
class FleetBoard:
    """`instances` may change during a reading: the served ones count. `unserved` are declared but not served."""

    instances: Mapping[str, Desired]
    unserved: Mapping[str, Unserved]
    run: Run
    _known: dict[str, Entry] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _looked_at: float = 0.0
    _pass_done: asyncio.Event = field(default_factory=asyncio.Event)

    async def entries(self) -> tuple[Entry, ...]:
        """Every instance in order, as it was last read, then those that can't be served. Waits at most FIRST_S for a
        first reading."""
        self.look()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pass_done.wait(), FIRST_S)
        read = [self._entry(item) for item in list(self.instances.values())]
        others = [one for name, one in self.unserved.items() if name not in self.instances]
        return (*read, *map(self._unserved_entry, others))

    def look(self) -> None:
        """Keep the board current for a minute from now on."""
        clock = asyncio.get_running_loop().time()
        idle = self._task is None or self._task.done()
        self._looked_at = clock
        if idle:
            self._pass_done.clear()  # what was read before the pause may be hours old
            self._task = asyncio.create_task(self._keep())

    @property
    def reading(self) -> bool:
        """Whether a first reading is in progress, so that the page should be requested again soon."""
        return not self._pass_done.is_set()

    async def refresh(self, desired: Desired) -> None:
        """Read one instance now, because something was just done to it."""
        bare = Overview(desired.instance, desired.environment.name, desired.labels)
        try:
            async with asyncio.timeout(_ROW_S):
                found = await read_overview(desired, self.run, with_checks=False)
        except TimeoutError:
            found = replace(bare, error=ErrorInfo("timeout", f"the database does not answer within {_ROW_S:g} s"))
        self._known[desired.instance] = Entry(found, desired.origin.declared_at, self.run.now())

    async def aclose(self) -> None:
        if self._task is not None:
            await end_task(self._task)

    def _entry(self, desired: Desired) -> Entry:
        known = self._known.get(desired.instance)
        if known is not None:
            return known
        bare = Overview(desired.instance, desired.environment.name, desired.labels)
        return Entry(bare, desired.origin.declared_at)

    def _unserved_entry(self, one: Unserved) -> Entry:
        """Why it is not served, in addition to what its database says, if that could be read."""
        read = self._known.get(one.overview.instance) if one.known is not None else None
        overview = one.overview if read is None else replace(one.overview, view=read.overview.view)
        return Entry(overview, one.place, self.run.now() if read is None else read.read_at, served=False)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        while clock() - self._looked_at < WATCHED_S:
            began = clock()
            await self._read_all()
            self._pass_done.set()
            await asyncio.sleep(max(PAUSE_S, _SHARE * (clock() - began)))

    async def _read_all(self) -> None:
        known = [one.known for one in self.unserved.values() if one.known is not None]
        served = list({item.instance: item for item in (*known, *self.instances.values())}.values())
        await ask_each(served, self.refresh, _AT_ONCE)
        names = {item.instance for item in served}
        self._known = {name: entry for name, entry in self._known.items() if name in names}
