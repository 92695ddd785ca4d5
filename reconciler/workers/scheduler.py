"""The fleet's scheduler: who is declared, and each second a job for whoever is due. Any number of them may run.

It keeps nothing: slots are rows of the queue's database, taken there by its clock. It reads no secret.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import FivrecError
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from reconciler.watch.manifests import ManifestSource
from reconciler.watch.supervisor import supervised
from reconciler.workers.common import QueueContact, say_recovered, wait_s
from reconciler.workers.job_queue import QUEUE, TASK, Queue
from reconciler.workers.manifests import stored_rows

TICK_S, CARE_S, TIDY_S = 0.5, 5.0, 3600.0
AT_ONCE = 500
WAITING = 1000
"""So many jobs wait at most; more who are due wait in our own table, where the next one is found by an index."""
ALL = 1_000_000_000


class Scheduler(QueueContact):
    """`keys`, where they are given, sign the manifests that are stored for workers without files of their own."""

    def __init__(
        self, queue: Queue, source: ManifestSource, log: EventLog, *, every_s: float | None, keys: KeyRing | None
    ) -> None:
        super().__init__()
        self.source = source
        self.declared = 0
        self.facts: dict[str, float] = {}
        self._queue = queue
        self._log = log
        self._every_s = every_s
        self._keys = keys

    async def declare(self, manifests: Sequence[Manifest]) -> None:
        """New and changed ones are due at once; those that are gone are due no more. Nothing of theirs is removed."""
        for start in range(0, len(manifests), AT_ONCE):
            some = manifests[start : start + AT_ONCE]
            if self._keys is not None:
                await self._queue.run("store", **stored_rows(some, self._keys))
            await self._queue.run(
                "declare",
                instances=[one.instance for one in some],
                digests=[one.origin.digest for one in some],
                intervals=[self._interval(one) for one in some],
                stored=self._keys is not None,
            )
        gone = await self._queue.rows("forget", instances=[one.instance for one in manifests])
        for row in gone:
            said = "👋 no longer declared, no longer scheduled; its database stays"
            self._log.info("fleet", said, instance=row["instance"])
        self.declared = len(manifests)

    async def enqueue(self, most: int = WAITING) -> int:
        """Jobs for who is due, while fewer than `most` wait. How many."""
        made = len(await self._queue.rows("enqueue_due", most=most, queue=QUEUE, task=TASK))
        self.heard()
        return made

    async def run(self, stop: asyncio.Event, looks: Callable[[], AsyncIterator[None]]) -> None:
        """Until `stop`. A part that ends before is started again."""
        self._log.info("fleet", f"📅 scheduling {self.declared} instances", instances=self.declared)
        async with supervised(self._log, {"schedule": self._tick, "manifests": partial(self._follow, looks)}):
            await stop.wait()
            self.stopping = True

    async def _tick(self) -> None:
        failures, care, tidy = 0, 0.0, 0.0
        while True:
            now = time.monotonic()
            self.beat()
            try:
                await self.enqueue()
                if now >= care:
                    say_recovered(self._log, await self._queue.recover())
                    self.facts = await self._facts()
                    care = now + CARE_S
                if now >= tidy:
                    await self._queue.run("tidy")
                    tidy = now + TIDY_S
                failures = 0
            except FivrecError as exc:
                failures += 1
                self._log.error("fleet", f"❌ {exc.message}", error=exc.code)
            await asyncio.sleep(wait_s(failures) if failures else TICK_S)

    async def _facts(self) -> dict[str, float]:
        """How the queue stands, for the metrics."""
        depth, workers, totals = await self._queue.standing()
        return {**depth, **workers, **totals}

    async def _follow(self, looks: Callable[[], AsyncIterator[None]]) -> None:
        async for manifests in self.source.changes(looks(), self._log):
            await self._declare_at_last(manifests)

    async def _declare_at_last(self, manifests: Sequence[Manifest]) -> None:
        failures = 0
        while True:
            try:
                return await self.declare(manifests)
            except FivrecError as exc:
                failures += 1
                self._log.error("fleet", f"❌ {exc.message}", error=exc.code)
            await asyncio.sleep(wait_s(failures))

    def _interval(self, manifest: Manifest) -> float:
        return self._every_s or manifest.document["config"]["check_interval_minutes"] * 60.0
