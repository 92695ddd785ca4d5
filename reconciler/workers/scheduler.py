"""The fleet's scheduler: declares instances, and each second queues a job for each instance that is due. Any number of
schedulers may run.

Keeps nothing itself: slots are rows of the queue's database, scheduled by that server's clock. Reads no secret.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import FivrecError
from reconciler.model.types import ErrorInfo
from reconciler.planning.schedule import LAST_RETRY_S
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog, counted
from reconciler.watch.loop import loop_time
from reconciler.watch.manifests import ManifestSource
from reconciler.watch.supervisor import supervised
from reconciler.workers.common import ANSWERS, QueueContact, say_recovered, wait_s
from reconciler.workers.job_queue import QUEUE, TASK, Queue
from reconciler.workers.manifests import stored_rows

if TYPE_CHECKING:
    from reconciler.watch.metrics import InstanceFacts

TICK_S, CARE_S, TIDY_S = 0.5, 5.0, 3600.0
ROWS_S, OLD_S = 10.0, 120.0
"""Seconds between readings of the metrics' rows, for all schedulers together; and seconds for which old rows are shown
if they can't be read."""
DECLARE_S, LEASE_S = 30.0, 120.0
"""Seconds between a scheduler's declarations of its instances; and seconds after which an instance that nobody declared
is forgotten."""
AT_ONCE = 500
WAITING = 1000
"""The most jobs that wait at once; other instances that are due wait in our own table, where an index finds the next
one."""
ALL = 1_000_000_000


class Scheduler(QueueContact):
    """`keys`, if given, sign the manifests that are stored for workers without files of their own. With `once`, or an
    incomplete source, nothing is forgotten, and instances that are scheduled keep their interval, unless there is an
    `every_s`."""

    def __init__(
        self,
        queue: Queue,
        source: ManifestSource,
        log: EventLog,
        *,
        every_s: float | None,
        keys: KeyRing | None,
        once: bool = False,
    ) -> None:
        super().__init__()
        self._started = loop_time()
        self._id = str(uuid.uuid4())
        self._attended: str | None = None
        self._digests: dict[str, str] = {}
        self._dropped: set[str] = set()
        self._view = "\n".join(sorted(os.path.abspath(path) for path in source.paths))  # noqa: PTH100 (no link is followed)
        self._forgets = source.whole and not once
        self.source = source
        self.declared = 0
        self._facts: tuple[float, dict[str, float]] = 0.0, {}
        self.shows_instances = False
        self._rows: tuple[float, list[dict[str, Any]]] = 0.0, []
        self._rows_of = 0.0
        self._queue = queue
        self._log = log
        self._every_s = every_s
        self._keys = keys

    async def declare(self, manifests: Sequence[Manifest]) -> None:
        """New and changed instances are due at once; those that are gone are no longer due. Nothing that they created
        is removed."""
        changed = [one for one in manifests if self._digests.get(one.instance) != one.origin.digest]
        await self._write(changed, take=True)
        before, self._digests = self._digests, {one.instance: one.origin.digest for one in manifests}
        self.declared = len(manifests)
        await self.refresh(before.keys() - self._digests.keys())

    async def refresh(self, gone: AbstractSet[str] = frozenset()) -> None:
        """Declare the instances again, so that missing rows come back. Instances that this scheduler no longer
        declares, and those that nobody has declared for a while, get no more turns, and are forgotten if nobody
        declares them again."""
        await self.is_behind(self._queue, self._log)
        await self._write(self.source.held, take=await self._is_restored())
        if self._forgets:
            self._dropped = (self._dropped | gone) - self._digests.keys()
            names = {"view": self._view, "declared": sorted(self._digests), "lease_s": LEASE_S}
            for row in await self._queue.rows("withdraw", gone=sorted(gone), dropped=sorted(self._dropped), **names):
                said = "👋 no longer declared, no longer scheduled; its database stays"
                self._dropped.discard(row["instance"])
                self._log.info("fleet", said, instance=row["instance"])
            if loop_time() - self._started > LEASE_S:
                await self._queue.run("forget", view=self._view, lease_s=LEASE_S)
        await self._queue.run("respread")
        await self._queue.run("pull_in", longest_retry_s=LAST_RETRY_S)

    async def _is_restored(self) -> bool:
        """Whether the queue's database was restored to a state before this scheduler last declared its instances."""
        (row,) = await self._queue.rows("attend", id=self._id)
        last, self._attended = self._attended, row["after"]
        return bool(row["before"] != last)

    async def _write(self, manifests: Sequence[Manifest], *, take: bool) -> None:
        for start in range(0, len(manifests), AT_ONCE):
            some = manifests[start : start + AT_ONCE]
            if self._keys is not None and take:
                await self._queue.run("store", **stored_rows(some, self._keys))
            await self._queue.run(
                "declare",
                instances=[one.instance for one in some],
                digests=[one.origin.digest for one in some],
                intervals=[self._interval(one) for one in some],
                stored=self._keys is not None,
                view=self._view,
                keep_view=not self._forgets,
                keep_interval=not self._forgets and self._every_s is None,
                take=take,
            )

    async def enqueue(self, most: int = WAITING) -> int:
        """Queue jobs for instances that are due, while fewer than `most` wait. Returns how many."""
        made = len(await self._queue.rows("enqueue_due", most=most, queue=QUEUE, task=TASK))
        self.note_contact()
        return made

    async def run(self, stop: asyncio.Event, looks: Callable[[], AsyncIterator[None]]) -> None:
        """Run until `stop`. A part that ends earlier is restarted."""
        self._log.info("fleet", f"📅 scheduling {counted(self.declared, 'instance')}", instances=self.declared)
        async with supervised(self._log, {"schedule": self._tick, "manifests": partial(self._follow, looks)}):
            await stop.wait()
            self.stopping = True

    async def _tick(self) -> None:
        failures, care, tidy, declared = 0, 0.0, 0.0, loop_time() + DECLARE_S
        while True:
            now = loop_time()
            self.beat()
            try:
                await self.enqueue()
                if now >= care:
                    say_recovered(self._log, await self._queue.recover())
                    self._facts = loop_time(), await self._standing()
                    care = now + CARE_S
                await self._read_rows()
                if now >= declared or failures:  # it may have been restored from a backup while it was away
                    await self.refresh()
                    declared = now + DECLARE_S
                if now >= tidy:
                    await self._queue.run("tidy")
                    tidy = now + TIDY_S
                if failures:
                    self._log.info("fleet", ANSWERS)
                failures = 0
            except FivrecError as exc:
                failures += 1
                self._log.error("fleet", f"❌ {ErrorInfo.of(exc).words}", error=exc.code)
                self.beat()  # a queue behind a firewall that drops packets has taken most of a minute by now
            await asyncio.sleep(wait_s(failures) if failures else TICK_S)

    async def _standing(self) -> dict[str, float]:
        depth, workers, totals = await self._queue.standing()
        return {**depth, **workers, **totals}

    def queue_facts(self) -> dict[str, float]:
        """The state of the queue, for the metrics; only its silence if it has not answered for long."""
        at, facts = self._facts
        return {"silence_s": self.silence_s(), **(facts if loop_time() - at <= OLD_S else {})}

    async def _read_rows(self) -> None:
        """The times at which all schedulers read the rows, so that their pages agree: by the wall clock."""
        period = time.time() // ROWS_S
        if self.shows_instances and period != self._rows_of:
            self._rows, self._rows_of = (loop_time(), await self._queue.rows("gauges")), period

    def instance_facts(self) -> Iterator[InstanceFacts]:
        """Every instance of the queue, for the metrics; none if the queue has not answered for long."""
        from reconciler.workers.metrics import build_row_facts

        since_s = loop_time() - self._rows[0]
        yield from (build_row_facts(row, since_s) for row in self._rows[1] if since_s <= OLD_S)

    async def _follow(self, looks: Callable[[], AsyncIterator[None]]) -> None:
        await self._declare_at_last()
        async for _ in self.source.changes(looks(), self._log):
            await self._declare_at_last()

    async def _declare_at_last(self) -> None:
        """The declarations from the files, once the queue can be asked: another scheduler may have declared more in
        between."""
        failures = 0
        while True:
            try:
                return await self.declare(self.source.held)
            except FivrecError as exc:
                failures += 1
                self._log.error("fleet", f"❌ {ErrorInfo.of(exc).words}", error=exc.code)
            await asyncio.sleep(wait_s(failures))
            await self.source.take_up(self._log)

    def _interval(self, manifest: Manifest) -> float:
        return self._every_s or manifest.document["config"]["check_interval_minutes"] * 60.0
