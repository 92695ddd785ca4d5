"""The loop: whose turn it is, what a turn's end means, what became of the manifests. Level-triggered.

Each turn reads its secrets, the database and Connect anew and goes through `reconcile` as any apply does. Instances
share nothing but places and kept connections, so that a slow or hung one delays nobody.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from reconciler.adapters.manifests import Manifest
from reconciler.core.model import CheckType, Desired, Problem
from reconciler.core.report import InstanceReport
from reconciler.core.schedule import DueQueue
from reconciler.errors import FivrecError
from reconciler.flow import watch_words as words
from reconciler.flow.manifest_source import ManifestSource
from reconciler.flow.many import within
from reconciler.flow.reconcile import reconcile
from reconciler.flow.retention import Keep, prune
from reconciler.flow.run import Run
from reconciler.flow.slots import Slots
from reconciler.flow.usage import send_waiting
from reconciler.flow.watched import Watched, watched

FINISH_S, ROLL_BACK_S = 5.0, 3.0
"""After a signal turns may end for so long; what has not ended then is cancelled, and rolls back."""
PRUNE_S = 3600.0


class Observer(Protocol):
    """Who is told of the turns' ends; the metrics are one."""

    def turn_ended(self, report: InstanceReport, check_type: CheckType) -> None: ...
    def usage_sent(self, sent: int, *, failed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`every_s` replaces the manifests' intervals. `keep`: how long logs are kept."""

    forks: int
    every_s: float | None = None
    check_only: bool = False
    keep: Keep = field(default_factory=Keep)


class Watch:
    """`resolve` gives a manifest its secrets and real URLs, anew at each turn; it may raise FivrecError."""

    def __init__(
        self,
        source: ManifestSource,
        resolve: Callable[[Manifest], Awaitable[Desired]],
        run: Run,
        settings: WatchSettings,
        observer: Observer | None = None,
    ) -> None:
        self.instances: dict[str, Watched] = {}
        self.queue = DueQueue()
        self.last_end = self.started = time.monotonic()
        self.source = source
        self.stopping = False
        self._resolve = resolve
        self._run = run
        self._settings = settings
        self._observer = observer
        self._slots = Slots(settings.forks)
        self._wake = asyncio.Event()
        self._turns: set[asyncio.Task[None]] = set()
        self._count = 0
        self._first_round: set[str] = set()
        self._take_up(source.held)
        self._first_round.update(self.instances)

    @property
    def running(self) -> int:
        return len(self._turns)

    async def run(self, stop: asyncio.Event, looks: AsyncIterator[None]) -> None:
        """Until `stop`. A part of the loop that fails ends it all: a live process with a dead watch is worse."""
        parts = [asyncio.create_task(self._serve()), asyncio.create_task(self._follow(looks))]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, *parts], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stopping = True
            for part in (stopped, *parts):
                part.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
            await self._finish()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    def trouble_alive(self) -> str | None:
        """What /healthz says: None, or that no turn ended in 3 intervals."""
        if not self.instances:
            return None
        patience = 3 * min(one.interval for one in self.instances.values())
        silent = time.monotonic() - max(self.last_end, self.started)
        return None if silent <= patience else f"no turn ended for {silent:.0f} s, which is more than 3 intervals"

    def trouble_ready(self) -> str | None:
        """What /readyz says: None once every instance had its first turn, and until the end begins."""
        if self.stopping:
            return "stopping"
        return f"{len(self._first_round)} instances wait for their first turn" if self._first_round else None

    async def _serve(self) -> None:
        """Give turns to whoever is due, the longest due first."""
        while True:
            await self._await_due()
            await self._slots.take()
            name = self.queue.pop_due(time.monotonic())
            if name is None:
                self._slots.leave()
                continue
            one = self.instances[name]
            one.running = True
            task = asyncio.create_task(self._turn(one), name=name)
            self._turns.add(task)
            task.add_done_callback(partial(self._turn_ended, one))

    async def _await_due(self) -> None:
        while True:
            due = self.queue.next_due()
            left = None if due is None else due - time.monotonic()
            if left is not None and left <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _turn(self, one: Watched) -> None:
        async with self._slots.held(slow=one.slow):
            begun = time.monotonic()
            check_type = one.check_type
            run = replace(self._run, id=str(uuid.uuid4()), check_type=check_type, turn=one.begin(begun))
            report, desired = await self._reconcile(one, run)
            one.slow = time.monotonic() - begun > self._slots.patience_s
            self._ended(one, report, check_type)
            if desired is not None:
                await self._afterwards(one, desired, run, report)

    async def _reconcile(self, one: Watched, run: Run) -> tuple[InstanceReport, Desired | None]:
        started = time.monotonic()
        try:
            desired = await self._resolve(one.manifest)
        except FivrecError as exc:
            return _unresolved(one.manifest, exc, started), None
        desired = replace(desired, ignore=(*desired.ignore, *one.fights.ignores()))
        if self._settings.check_only:
            desired, run = replace(desired, managed={}, plans_from_connect=False), replace(run, check_only=True)
        return await within(reconcile, desired, run, started), desired

    def _ended(self, one: Watched, report: InstanceReport, check_type: CheckType) -> None:
        now = self.last_end = time.monotonic()
        one.due = one.end(report, now)
        words.say_end(self._run.log, one, report)
        if report.plan is not None:
            if report.outcome in ("changed", "degraded") or report.turned is not None:
                words.say_fights(self._run.log, one, one.fights.corrected(report.plan, now))
            words.say_peace(self._run.log, one, one.fights.seen(report.plan, now))
        if self._observer is not None:
            self._observer.turn_ended(report, check_type)
        self._first_round.discard(report.instance)

    async def _afterwards(self, one: Watched, desired: Desired, run: Run, report: InstanceReport) -> None:
        """What need not be part of the transaction: usage reports that wait, and old rows."""
        try:
            heard = report.connect is not None and report.connect.status is not None
            if desired.usage_report and heard and not self._settings.check_only:
                async with asyncio.timeout(run.timeout_s):
                    sent = await send_waiting(desired, run)
                words.say_usage(run.log, desired, sent)
                if self._observer is not None:
                    self._observer.usage_sent(sent.sent, failed=sent.problem is not None)
            if self._settings.keep and time.monotonic() >= one.next_prune:
                async with asyncio.timeout(run.timeout_s):
                    more = await prune(desired, run, self._settings.keep)
                one.next_prune = time.monotonic() + (0 if more else PRUNE_S)
        except FivrecError as exc:
            run.log.warning("watch", f"⚠️ {exc.message}", instance=desired.instance, error=exc.code)
        except TimeoutError:
            run.log.warning("watch", "⚠️ usage and retention took too long", instance=desired.instance, error="timeout")

    def _turn_ended(self, one: Watched, task: asyncio.Task[None]) -> None:
        """Also of a turn that failed where it should not: it is said, and tried again, and the others go on."""
        self._turns.discard(task)
        one.running = False
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._ended(one, _failed(one.manifest, words.unforeseen(fault)), one.check_type)
        name = one.manifest.instance
        if self.instances.get(name) is one:
            self.queue.put(name, time.monotonic() if one.again else one.due)
            one.again = False
            self._wake.set()

    async def _follow(self, looks: AsyncIterator[None]) -> None:
        """Take manifests up as they change."""
        async for _ in looks:
            if not await asyncio.to_thread(self.source.changed):
                continue
            before = self.source.trouble
            manifests = await asyncio.to_thread(self.source.reload)
            words.say_manifests(self._run.log, before, self.source.trouble)
            self._take_up(manifests)

    def _take_up(self, manifests: Sequence[Manifest]) -> None:
        """New and changed ones get a turn at once; those that are gone get none. Nothing of theirs is removed."""
        now = time.monotonic()
        declared = {manifest.instance: manifest for manifest in manifests}
        for name in self.instances.keys() - declared.keys():
            del self.instances[name]
            self.queue.remove(name)
            self._first_round.discard(name)
            self._run.log.info("watch", "👋 no longer declared, no longer watched; its database stays", instance=name)
        for name, manifest in declared.items():
            one = self.instances.get(name)
            if one is None:
                self.instances[name] = watched(manifest, self._interval(manifest), self._count, now)
                self._count += 1
                self.queue.put(name, now)
            elif one.manifest.origin.digest != manifest.origin.digest:
                one.adopt(manifest, self._interval(manifest), now)
                one.again = one.running
                if not one.running:
                    self.queue.put(name, now)
            else:
                one.manifest = manifest
        self._wake.set()

    def _interval(self, manifest: Manifest) -> float:
        return self._settings.every_s or manifest.document["config"]["check_interval_minutes"] * 60.0

    async def _finish(self) -> None:
        """Turns that are under way may end; then they are cancelled, and roll back."""
        if self._turns:
            await asyncio.wait(self._turns, timeout=FINISH_S)
        for task in self._turns:
            task.cancel()
        if self._turns:
            await asyncio.wait(self._turns, timeout=ROLL_BACK_S)


def _unresolved(manifest: Manifest, exc: FivrecError, started: float) -> InstanceReport:
    problem = Problem(exc.code, exc.message, exc.hint)
    return replace(_failed(manifest, problem), duration_ms=round((time.monotonic() - started) * 1000))


def _failed(manifest: Manifest, problem: Problem) -> InstanceReport:
    environment = manifest.document["environment"]["name"]
    return InstanceReport(manifest.instance, environment, "failed", 0, exit_code=1, error=problem)
