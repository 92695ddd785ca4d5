"""A watch lives through days in seconds, with faults drawn from a seed.

`FIVREC_SIM_SEED=17 pytest -m "" tests/simulation` replays a seed that fails; FIVREC_SIM_DAYS and FIVREC_SIM_INSTANCES
make a life longer, FIVREC_SIM_SEEDS sets the number of lives.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.engine.run import Run
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import UsageError
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog, Level
from reconciler.watch.loop import Watch, WatchSettings
from tests.simulation.fleet_stage import FakeSource
from tests.simulation.invariants import Life, is_unforeseen, missing, repeated_alerts, slot_of, wrong_lock
from tests.simulation.shapes import MONTH, QUICK_SEEDS, SEEDS, START, Shape, small_life
from tests.simulation.world import DAY, FakeInstance, World, build_world, now, utc_now
from tests.support.virtual_time import run_virtually


@dataclass
class Stage:
    """One life: its world, what is declared, what was logged, what was found wrong."""

    world: World
    chance: random.Random
    life: Life
    declared: set[str]
    broken: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    slots: set[tuple[str, str, float, float]] = field(default_factory=set)
    looking: asyncio.Event = field(default_factory=asyncio.Event)
    source: FakeSource | None = None
    watch: Watch | None = None

    def load(self, _: Sequence[str]) -> tuple[Manifest, ...]:
        if self.broken:
            raise UsageError("a variable is broken")
        return tuple(self.world.instances[name].manifest() for name in sorted(self.declared))

    async def looks(self) -> AsyncIterator[None]:
        while True:
            await self.looking.wait()
            self.looking.clear()
            if self.chance.random() < 0.1:
                self.looking.set()
                raise ExceptionGroup("unhandled errors in a TaskGroup", [OSError("caf\xe9")])
            yield

    def look(self) -> None:
        if self.source is not None:
            self.source.dirty = True
        self.looking.set()

    def hear(self, record: dict[str, Any]) -> None:
        if "alert" in record:
            self.events.append({**record, "at": now()})
        if is_unforeseen(record):
            self.found.append(f"at {now():.0f}: {record['message']}")

    def note(self, one: FakeInstance, what: str) -> None:
        """Note a usage report, or a scheduled check without news: at most one per slot."""
        assert self.watch is not None
        state = self.watch.instances.get(one.name)
        if state is None:
            return
        slot = one.name, what, state.interval, slot_of(one.begun, state.slot, state.interval)
        if slot in self.slots:
            self.found.append(f"{one.name}: two {what}s of one slot, the second at {now():.0f}")
        self.slots.add(slot)


async def live(stage: Stage) -> None:
    """Run one process after another until the end."""
    while now() < stage.life.end:
        stage.life.restarts.append(now())
        lives = stage.chance.uniform(0.2, 2.0) * DAY * max(1.0, stage.life.shape.days / 10)
        await run_process(stage, min(now() + lives, stage.life.end), graceful=stage.chance.random() < 0.5)
        if now() < stage.life.end:
            gone = now()
            await asyncio.sleep(stage.chance.choice([1.0, 60.0, 4000.0]))
            stage.life.down.append((gone, now()))


async def run_process(stage: Stage, until: float, *, graceful: bool) -> None:
    log = EventLog(io.StringIO(), "json", Level.ERROR, now=utc_now)
    log.listeners.append(stage.hear)
    run = Run("1", "watch", Actor("test"), KeyRing(()), log, now=utc_now)
    held = tuple(stage.world.instances[name].manifest() for name in sorted(stage.declared))
    stage.source = FakeSource((), stage.load, held)
    settings = WatchSettings(forks=4, apply=stage.world.reconcile)
    stage.watch = Watch(stage.source, stage.world.resolve, run, settings)
    stop = asyncio.Event()
    task = asyncio.create_task(stage.watch.run(stop, stage.looks))
    while now() < until and not task.done():
        await asyncio.sleep(min(stage.life.shape.look_s, max(until - now(), 0.001)))
        look_at(stage)
        disturb(stage)
    if graceful:
        stop.set()
    else:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    for other in asyncio.all_tasks() - {asyncio.current_task()}:
        other.cancel()
    await asyncio.sleep(0)


def look_at(stage: Stage) -> None:
    """Check what holds at any moment."""
    watch = stage.watch
    assert watch is not None
    if (trouble := watch.trouble_alive()) is not None:
        stage.found.append(f"at {now():.0f}: {trouble}")
    if len(watch.queue) + watch.running < len(watch.instances):
        stage.found.append(f"at {now():.0f}: {len(watch.instances)} instances, {len(watch.queue)} of them queued")
    if len(asyncio.all_tasks()) > 3 * len(watch.instances) + 20:
        stage.found.append(f"at {now():.0f}: {len(asyncio.all_tasks())} tasks")


def disturb(stage: Stage) -> None:
    """Sometimes edit, add, remove or break manifests."""
    chance, world = stage.chance, stage.world
    if chance.random() > 0.003 * stage.life.shape.look_s / 60:
        return
    name = chance.choice(sorted(world.instances))
    one = world.instances[name]
    match "mend" if stage.broken else chance.choice(["edit", "interval", "remove", "break"]):
        case "edit":
            one.version += 1
        case "interval":
            one.interval = chance.choice(stage.life.shape.intervals)
        case "remove":
            stage.declared ^= {name}
        case "break":
            stage.broken = True
        case "mend":
            stage.broken = False
    one.touched.append(now())
    stage.look()


def violations(seed: int, shape: Shape) -> list[str]:
    world = build_world(seed, START, shape)
    chance = random.Random(seed)
    random.seed(seed)

    async def main() -> Stage:
        stage = Stage(world, chance, Life(shape), set(world.instances))
        world.note = stage.note
        await live(stage)
        return stage

    stage = run_virtually(main(), START)
    found = [*stage.found, *repeated_alerts(stage.events, lambda _: stage.life.restarts)]
    for name in sorted(stage.declared):
        one = world.instances[name]
        edited = max([START, *one.touched])  # what was declared before is no longer known
        found += [*missing(one, stage.life, edited), *wrong_lock(one, stage.life, START)]
    return found


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_a_watch_keeps_its_promises_for_a_busy_day(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = small_life(seed)
    shape.begin(monkeypatch)
    assert violations(seed, shape) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_watch_keeps_its_promises_for_a_month_of_300(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    MONTH.begin(monkeypatch)
    assert violations(seed, MONTH) == []
