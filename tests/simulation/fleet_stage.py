"""A fleet on virtual time: schedulers and workers come and go; the queue is cut off, restored, has a wrong clock."""

from __future__ import annotations

import asyncio
import io
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Literal, TypeAlias

from reconciler.engine.run import Run
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import DatabaseError, Refused, UsageError
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog, Level
from reconciler.watch.cycle import Cycle
from reconciler.watch.manifests import ManifestSource
from reconciler.workers.job_queue import Job
from reconciler.workers.manifests import DIFFERS
from reconciler.workers.scheduler import ALL, Scheduler
from reconciler.workers.worker import FleetClock, FleetWorker
from tests.simulation.fleet_process import Client, QueueServer
from tests.simulation.invariants import Life, is_unforeseen, slot_of
from tests.simulation.world import DAY, FakeInstance, World, now, utc_now

Kind: TypeAlias = Literal["scheduler", "worker"]


class FakeSource(ManifestSource):
    """Manifests that change when the test says so."""

    dirty = False

    def changed(self) -> bool:
        was, self.dirty = self.dirty, False
        return was


@dataclass(slots=True)
class Process:
    """`lag`: how long after the others its checkout receives an edit; None if it takes manifests from the queue."""

    kind: Kind
    client: Client
    view: str = "a"
    lag: float | None = None
    service: FleetWorker | Scheduler | None = None
    source: FakeSource | None = None
    looking: asyncio.Event = field(default_factory=asyncio.Event)
    up_since: float = 0.0

    @property
    def works(self) -> bool:
        client = self.client
        waits = client.newer and not client.server.newer  # for `fleet init` of its version
        return not client.dead and not client.cut and client.thawed.is_set() and not waits


@dataclass
class FleetStage:
    world: World
    chance: random.Random
    life: Life
    views: dict[str, set[str]]
    busy: float = 1.0
    server: QueueServer = field(default_factory=QueueServer)
    broken: bool = False
    processes: list[Process] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    forgets: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slots: set[tuple[Any, ...]] = field(default_factory=set)
    versions: dict[str, tuple[float, Manifest]] = field(default_factory=dict)
    disturbed: float = 0.0
    down_since: float | None = None
    deployed_at: float = inf
    """From then on, processes that start may be of a newer version."""

    @property
    def newer_share(self) -> float:
        """Half of them at first, all of them a day later."""
        return 0.5 if now() < self.deployed_at + DAY else 1.0

    def __post_init__(self) -> None:
        self.world.note = self.note
        self.disturbed = self.down_since = now()
        self.life.restarts.append(now())
        for one in self.world.instances.values():
            self.keep_version(one)

    def keep_version(self, one: FakeInstance) -> None:
        manifest = one.manifest()
        self.versions[manifest.origin.digest] = now(), manifest
        one.touched.append(now())
        self.disturbed = now()

    def disturb_all(self) -> None:
        """Note an event that may delay any instance for a moment, and may make a trouble be reported again."""
        self.disturbed = now()
        self.life.restarts.append(now())
        for name in self.world.instances:
            self.forgets[name].append(now())

    def load(self, view: str, paths: Sequence[str]) -> tuple[Manifest, ...]:
        if self.broken:
            raise UsageError("a variable is broken")
        return tuple(self.world.instances[name].manifest() for name in sorted(self.views[view]))

    def hear(self, record: dict[str, Any]) -> None:
        if "alert" in record:
            self.events.append({**record, "at": now()})
        if is_unforeseen(record):
            self.found.append(f"at {now():.0f}: {record['message']}")

    def note(self, one: FakeInstance, what: str) -> None:
        """Note a usage report, or a scheduled check without news: at most one per slot. A queue that was restored from
        a backup, or whose clock was wrong, has other slots."""
        row = self.server.tables.instances.get(one.name)
        if row is None or row.place is None or now() - self.server.restored_at < self.life.shape.settled_s:
            return
        number = slot_of(self.server.clock_at(one.begun), row.slot_at, row.interval_s)
        clocks = sum(at <= one.begun for at, _ in self.server.offsets)
        slot = one.name, what, row.interval_s, number, clocks, self.server.restored_at
        if slot in self.slots:
            self.found.append(f"{one.name}: two {what}s of one slot, the second at {now():.0f}")
        self.slots.add(slot)

    # What holds at any moment

    def see_who_works(self) -> None:
        """Record the periods in which no process could run a cycle."""
        kinds = {one.kind for one in self.processes if one.works and now() - one.up_since < inf}
        if kinds == {"scheduler", "worker"} and self.server.trouble is None:
            if self.down_since is not None:
                self.life.down.append((self.down_since, now()))
                self.disturbed, self.down_since = now(), None
        elif self.down_since is None:
            self.down_since = now()

    def views_at_work(self) -> set[str]:
        """Returns the paths whose scheduler has had time to declare what it reads."""
        settled = now() - self.life.shape.settled_s
        return {one.view for one in self.processes if one.kind == "scheduler" and one.works and one.up_since < settled}

    def see_who_waits(self) -> None:
        """An instance that no scheduler has declared yet, because its paths' only one is away, is not late."""
        for view in self.views.keys() - self.views_at_work():
            for name in self.views[view] - self.server.tables.instances.keys():
                self.world.instances[name].touched.append(now())

    def look_at(self) -> None:
        self.see_who_works()
        self.see_who_waits()
        tables, count = self.server.tables, len(self.world.instances)
        for one in self.processes:
            trouble = one.service.trouble_alive() if one.service is not None and one.works else None
            if trouble is not None and now() - one.up_since > self.life.shape.look_s:
                self.found.append(f"at {now():.0f}: {one.kind}: {trouble}")
        if len(tables.jobs) > 2 * count or len(tables.schedulers) > 100 * (2 + len(self.processes)):
            self.found.append(f"at {now():.0f}: {len(tables.jobs)} jobs, {len(tables.schedulers)} schedulers")
        if len(asyncio.all_tasks()) > 4 * count + 100:
            self.found.append(f"at {now():.0f}: {len(asyncio.all_tasks())} tasks")
        if self.down_since is None and now() - self.disturbed > self.life.shape.settled_s:
            self.found += self.unsettled()

    def unsettled(self) -> list[str]:
        tables, at = self.server.tables, self.server.clock()
        declared = set().union(*(self.views[view] for view in self.views_at_work()))
        rows = tables.instances
        found = [f"{name} is declared, and nobody schedules it" for name in sorted(declared - rows.keys())]
        places: defaultdict[float, list[int | None]] = defaultdict(list)
        for name, row in rows.items():
            if row.due_at < inf:
                places[row.interval_s].append(row.place)
            if name in declared and row.due_at == inf:
                found.append(f"{name} is declared, and withdrawn")
            if row.due_at < inf and row.due_at > at + 1.1 * row.interval_s + 340:
                found.append(f"{name} is due in {row.due_at - at:.0f} s, interval {row.interval_s:.0f}")
        for interval, taken in places.items():
            if set(taken) != set(range(len(taken))):
                found.append(f"places of interval {interval:.0f} are not 0 to {len(taken) - 1}: {taken}")
        return [f"at {now():.0f}: {said}" for said in found]


class Checkout:
    """Where a worker gets its manifests: its own files, which may be behind, or the queue."""

    def __init__(self, stage: FleetStage, process: Process) -> None:
        self._stage, self._process = stage, process

    async def find(self, job: Job, _: Mapping[str, Any]) -> Manifest:
        at, manifest = self._stage.versions[job.digest]
        if self._process.lag is not None and at + self._process.lag > now():
            raise Refused("the job names another manifest", code=DIFFERS)
        return manifest


async def run_process(stage: FleetStage, process: Process, until: float, *, graceful: bool) -> None:
    """Run one process from start to end; in between it may freeze, or lose the queue."""
    stop = asyncio.Event()
    task, process.up_since = asyncio.create_task(_begin(stage, process, stop)), now()
    stage.processes.append(process)
    stage.see_who_works()
    try:
        await _suffer(stage, process, until)
        await process.client.be_amid_a_turn()
    finally:
        process.client.dead = not graceful
        process.client.silent_since = None if graceful else now()
        stage.see_who_works()
        if graceful:
            stop.set()
        else:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        process.client.dead = True
        stage.processes.remove(process)
        stage.see_who_works()


def _begin(stage: FleetStage, process: Process, stop: asyncio.Event) -> Coroutine[Any, Any, None]:
    log = EventLog(io.StringIO(), "json", Level.ERROR, now=utc_now)
    log.listeners.append(stage.hear)
    if process.kind == "worker":
        worker = process.service = _build_worker(stage, process, log)
        return worker.run(stop)
    held = tuple(stage.world.instances[name].manifest() for name in sorted(stage.views[process.view]))
    process.source = FakeSource((process.view,), partial(stage.load, process.view), held)
    scheduler = Scheduler(process.client, process.source, log, every_s=None, keys=None)  # type: ignore[arg-type]
    process.service = scheduler
    return scheduler.run(stop, partial(_looks, stage, process))


async def _suffer(stage: FleetStage, process: Process, until: float) -> None:
    chance, client = stage.chance, process.client
    while now() < until:
        await asyncio.sleep(max(0.001, min(chance.expovariate(1 / DAY), until - now())))
        if now() >= until:
            return
        length = chance.choice([3.0, 20.0, 100.0, 1000.0])
        await client.be_amid_a_turn()
        if chance.random() < 0.5:
            client.freeze()
        else:
            client.cut, client.silent_since = True, now()
        stage.see_who_works()
        await asyncio.sleep(length)
        client.cut = False
        client.thaw()
        process.up_since = now()
        stage.see_who_works()


def _build_worker(stage: FleetStage, process: Process, log: EventLog) -> FleetWorker:
    client, clock = process.client, FleetClock()
    client.lost_ends = lambda instance: stage.forgets[instance].append(now())
    run = Run("1", "fleet worker", Actor("test"), KeyRing(()), log, now=utc_now)
    apply = partial(stage.world.reconcile, pause=client.reach_world)
    turning = Cycle(stage.world.resolve, run, clock=clock, apply=apply)
    return FleetWorker(client, Checkout(stage, process), turning, clock, 4)  # type: ignore[arg-type]


async def _looks(stage: FleetStage, process: Process) -> AsyncIterator[None]:
    while True:
        await process.looking.wait()
        process.looking.clear()
        await process.client.thawed.wait()
        if stage.chance.random() < 0.1:
            process.looking.set()
            raise ExceptionGroup("unhandled errors in a TaskGroup", [OSError("caf\xe9")])
        yield


async def keep_alive(stage: FleetStage, kind: Kind, view: str = "a") -> None:
    """Run one process after another until the end."""
    chance = stage.chance
    while now() < stage.life.end:
        process = Process(kind, Client(stage.server, chance), view, chance.choice([None, 0.0, 60.0]))
        process.client.newer = stage.deployed_at <= now() and chance.random() < stage.newer_share
        until = min(now() + chance.uniform(0.1, 3.0) * DAY, stage.life.end)
        if now() < stage.deployed_at:
            until = min(until, stage.deployed_at + chance.uniform(0.0, 0.5) * DAY)
        await run_process(stage, process, until, graceful=chance.random() < 0.5)
        if now() < stage.life.end:
            await asyncio.sleep(chance.choice([1.0, 60.0, 1000.0]))


async def upgrade(stage: FleetStage) -> None:
    """Roll out a newer version; its `fleet init` runs before, with or after its first processes."""
    await asyncio.sleep(max(0.0, stage.deployed_at + stage.chance.choice([-3600.0, 60.0, 4000.0]) - now()))
    stage.server.newer = True
    stage.disturb_all()
    stage.see_who_works()
    for process in stage.processes:
        process.up_since = max(process.up_since, now()) if process.client.newer else process.up_since


async def schedule_some(stage: FleetStage) -> None:
    """Run `fleet schedule --limit … --once`, as an operator does beside the other schedulers."""
    view = stage.chance.choice(sorted(stage.views))
    names = [name for name in sorted(stage.views[view]) if stage.chance.random() < 0.2]
    held = tuple(stage.world.instances[name].manifest() for name in names)
    once = stage.chance.random() < 0.5
    source = ManifestSource((view,), partial(stage.load, view), held, whole=once and stage.chance.random() < 0.5)
    client: Any = Client(stage.server, stage.chance)
    scheduler = Scheduler(
        client, source, EventLog(io.StringIO(), level=Level.ERROR), every_s=None, keys=None, once=once
    )
    with suppress(DatabaseError):
        await scheduler.declare(held)
        await scheduler.enqueue(ALL)
        stage.look_at()
        for _ in range(0 if once else 20):
            await asyncio.sleep(30.0)
            await scheduler.refresh()
            stage.look_at()
