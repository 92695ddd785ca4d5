"""The loop: whose turn it is, what the end of a turn means, and what happens when manifests change. Level-triggered.

Times are those of the event loop's clock, which never goes back.

Each turn reads its secrets, the database and Connect again, and goes through `reconcile` like any apply. Instances
share only places and kept connections, so that a slow or hung one delays nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import field
from functools import partial

from reconciler.engine.batch import One
from reconciler.engine.reconcile import reconcile
from reconciler.engine.retention import Keep
from reconciler.engine.run import Run
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import Unforeseen
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, ErrorInfo
from reconciler.planning.schedule import LAST_RETRY_S, DueQueue, Spread, phase
from reconciler.watch.concurrency import Limiter
from reconciler.watch.cycle import Cycle, Observer, build_not_done_report
from reconciler.watch.instance_state import InstanceState, new_instance_state
from reconciler.watch.manifests import ManifestSource
from reconciler.watch.supervisor import Part, supervised

FINISH_S, ROLL_BACK_S = 5.0, 3.0
"""Seconds that running turns get after a signal; those that have not ended then are cancelled and roll back."""
BEAT_S, STUCK_S = 5.0, 60.0
"""Seconds between rounds of the loop when nobody is due. A loop without a round for STUCK_S is stuck."""


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def stuck_loop(last_beat: float) -> str | None:
    """What /healthz says about a loop whose last round was at that time: None, or that it is stuck."""
    silent = loop_time() - last_beat
    return None if silent <= STUCK_S else f"the loop has been stuck for {silent:.0f} s"


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`every_s` replaces the manifests' intervals. `keep`: how long logs are kept. `apply` reconciles one instance; a
    simulation passes its own."""

    forks: int
    every_s: float | None = None
    check_only: bool = False
    keep: Keep = field(default_factory=Keep)
    apply: One = reconcile


class Watch:
    """`resolve` returns a manifest with its secrets and real URLs, again at each turn; it may raise FivrecError."""

    def __init__(
        self,
        source: ManifestSource,
        resolve: Callable[[Manifest], Awaitable[Desired]],
        run: Run,
        settings: WatchSettings,
        observer: Observer | None = None,
    ) -> None:
        self.instances: dict[str, InstanceState] = {}
        self.queue = DueQueue()
        self.last_beat = loop_time()
        self.source = source
        self.stopping = False
        self._run = run
        self._settings = settings
        own = (settings.check_only, settings.keep, observer, loop_time, settings.apply)
        self._turning = Cycle(resolve, run, *own, commit=lambda: source.commit)
        self._slots = Limiter(settings.forks)
        self._wake = asyncio.Event()
        self._turns: set[asyncio.Task[None]] = set()
        self._epoch = loop_time()
        self._spread = Spread()
        self._first_round: set[str] = set()
        self._take_up(source.held)
        self._first_round.update(self.instances)

    @property
    def running(self) -> int:
        return len(self._turns)

    async def run(self, stop: asyncio.Event, looks: Callable[[], AsyncIterator[None]]) -> None:
        """Run until `stop`. A part of the loop that ends earlier is restarted."""
        parts: dict[str, Part] = {"turns": self._serve, "manifests": partial(self._follow, looks)}
        async with supervised(self._run.log, parts):
            await stop.wait()
            self.stopping = True
        await self._finish()

    def trouble_alive(self) -> str | None:
        """The answer of /healthz. The results of turns are reported by alerts and metrics."""
        return stuck_loop(self.last_beat)

    def trouble_ready(self) -> str | None:
        """The answer of /readyz: None from the time when every instance has had its first turn until the shutdown
        begins."""
        if self.stopping:
            return "stopping"
        return f"{len(self._first_round)} instances wait for their first turn" if self._first_round else None

    async def _serve(self) -> None:
        """Start the turns of all instances that are due, the one that is due longest first."""
        while True:
            await self._await_due()
            await self._slots.take()
            name = self.queue.pop_due(loop_time())
            if name is None:
                self._slots.leave()
                continue
            one = self.instances[name]
            one.running = True
            one.due = loop_time() + LAST_RETRY_S  # if not even the end of its turn can be noted
            task = asyncio.create_task(self._turn(one), name=name)
            self._turns.add(task)
            task.add_done_callback(self._turns.discard)

    async def _await_due(self) -> None:
        while True:
            self.last_beat = loop_time()
            due = self.queue.next_due()
            left = BEAT_S if due is None else due - loop_time()
            if left <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(min(left, BEAT_S)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _turn(self, one: InstanceState) -> None:
        """Run a turn. However it ends, the instance is scheduled again."""
        begun = loop_time()
        try:
            async with self._slots.held(slow=one.slow):
                begun = loop_time()
                await self._turning.turn(one, lambda _: self._ended(one, begun))
        except Exception as fault:  # noqa: BLE001 (it is logged, and tried again, and the others go on)
            self._ended(one, begun)
            report = build_not_done_report(one.manifest, ErrorInfo.of(Unforeseen.of(fault)))
            self._turning.end(one, report, one.check_type)
        finally:
            self._put_back(one)

    def _ended(self, one: InstanceState, begun: float) -> None:
        one.slow = loop_time() - begun > self._slots.patience_s
        self._first_round.discard(one.manifest.instance)

    def _put_back(self, one: InstanceState) -> None:
        one.running = False
        name = one.manifest.instance
        if self.instances.get(name) is one:
            self.queue.put(name, loop_time() if one.again else one.due)
            one.again = False
            self._wake.set()

    async def _follow(self, looks: Callable[[], AsyncIterator[None]]) -> None:
        """Take up manifests as they change."""
        self._take_up(self.source.held)
        async for manifests in self.source.changes(looks(), self._run.log):
            self._take_up(manifests)

    def _take_up(self, manifests: Sequence[Manifest]) -> None:
        """New and changed manifests get a turn at once; those that are gone get none. Nothing that they created is
        removed."""
        declared = {manifest.instance: manifest for manifest in manifests}
        for name in self.instances.keys() - declared.keys():
            self._let_go(name)
        for name, manifest in declared.items():
            one = self.instances.get(name)
            if one is None:
                self._add(manifest)
            elif one.manifest.origin.digest != manifest.origin.digest:
                self._change(one, manifest)
            else:
                one.manifest = manifest
        self._wake.set()

    def _add(self, manifest: Manifest) -> None:
        name, interval, now = manifest.instance, self._interval(manifest), loop_time()
        first = self._first_slot(interval, self._spread.add(name, interval))
        self.instances[name] = new_instance_state(manifest, interval, first, now)
        self.queue.put(name, now)

    def _change(self, one: InstanceState, manifest: Manifest) -> None:
        interval, now = self._interval(manifest), loop_time()
        if interval != one.interval:
            self._close_gap(manifest.instance)
            first = self._first_slot(interval, self._spread.add(manifest.instance, interval))
            one.adopt_interval(interval, first, now)
        one.adopt(manifest)
        one.again = one.running
        if not one.running:
            self.queue.put(manifest.instance, now)

    def _let_go(self, name: str) -> None:
        del self.instances[name]
        self.queue.remove(name)
        self._first_round.discard(name)
        self._close_gap(name)
        self._run.log.info("watch", "👋 no longer declared, no longer watched; its database stays", instance=name)

    def _close_gap(self, name: str) -> None:
        """An instance that moves to another position keeps its next slot; later slots are those of the position."""
        moved = self._spread.remove(name)
        if moved is not None:
            other, position = moved
            self.instances[other].first = self._first_slot(self.instances[other].interval, position)

    def _first_slot(self, interval: float, position: int) -> float:
        return self._epoch + interval * phase(position)

    def _interval(self, manifest: Manifest) -> float:
        return self._settings.every_s or manifest.document["config"]["check_interval_minutes"] * 60.0

    async def _finish(self) -> None:
        """Let running turns end; then cancel the rest, which roll back."""
        if self._turns:
            await asyncio.wait(self._turns, timeout=FINISH_S)
        for task in self._turns:
            task.cancel()
        if self._turns:
            await asyncio.wait(self._turns, timeout=ROLL_BACK_S)
