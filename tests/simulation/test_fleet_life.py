"""A fleet of three workers and two schedulers lives through days in seconds, with faults drawn from a seed.

`FIVREC_SIM_SEED=17 pytest -m "" tests/simulation` replays a seed that fails.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.simulation.fleet_stage import FleetStage, Kind, keep_alive, schedule_some, upgrade
from tests.simulation.invariants import Life, missing, repeated_alerts, wrong_lock
from tests.simulation.shapes import MONTH, QUICK_SEEDS, SEEDS, START, Shape, small_life
from tests.simulation.world import DAY, build_world, now
from tests.support.virtual_time import run_virtually


def edit(stage: FleetStage) -> None:
    """Edit, add, remove, move or break manifests. Processes with their own files see it a moment later."""
    chance = stage.chance
    name = chance.choice(sorted(stage.world.instances))
    one = stage.world.instances[name]
    match "mend" if stage.broken else chance.choice(["edit", "interval", "remove", "move", "break"]):
        case "edit":
            one.version += 1
        case "interval":
            one.interval = chance.choice(stage.life.shape.intervals)
        case "remove":
            stage.views["a"] ^= {name}
            stage.views["b"] -= {name}
        case "move":
            moved = {name} & set().union(*stage.views.values())
            for names in stage.views.values():
                names.symmetric_difference_update(moved)
        case "break":
            stage.broken = True
        case "mend":
            stage.broken = False
    stage.keep_version(one)
    for process in stage.processes:
        asyncio.get_running_loop().call_later(chance.uniform(0, 5), see, process)


def see(process: object) -> None:
    if getattr(process, "source", None) is not None:
        process.source.dirty = True  # type: ignore[attr-defined]
        process.looking.set()  # type: ignore[attr-defined]


async def trouble_the_queue(stage: FleetStage) -> None:
    """Make the queue's server unreachable, restore it from a backup, or give it a wrong clock for a while."""
    chance, server = stage.chance, stage.server
    match chance.choice(["away", "old tables", "restore", "clock"]):
        case "away":
            server.trouble = "database_unreachable"
            server.wake()
            await asyncio.sleep(chance.choice([5.0, 100.0, 2000.0]))
        case "old tables":
            server.trouble = "schema_missing"
            await asyncio.sleep(chance.choice([5.0, 100.0]))
        case "restore":
            backup = server.tables.backup()
            await asyncio.sleep(chance.uniform(0, DAY))
            server.trouble = "database_unreachable"
            await asyncio.sleep(10.0)
            server.tables.restore(backup)
            server.restored_at = now()
            stage.life.shifts.append(now())
        case "clock":
            server.offsets.append((now(), chance.choice([-4000.0, -40.0, 40.0, 4000.0, 100_000.0])))
            stage.life.shifts.append(now())
            stage.disturb_all()
            await asyncio.sleep(chance.choice([10.0, 100.0, 4000.0]))
            server.offsets.append((now(), 0.0))
            stage.life.shifts.append(now())
    server.trouble = None
    server.wake()
    stage.disturb_all()
    stage.see_who_works()


def start(stage: FleetStage, running: set[asyncio.Task[None]], what: Coroutine[Any, Any, None]) -> None:
    """Start a concurrent event. If it fails, that is a violation too."""
    task = asyncio.create_task(what)
    running.add(task)

    def end(_: object) -> None:
        running.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            stage.found.append(f"at {now():.0f}: {fault!r}")

    task.add_done_callback(end)


async def live(stage: FleetStage) -> None:
    processes: set[asyncio.Task[None]] = set()
    troubles: set[asyncio.Task[None]] = set()
    operators: set[asyncio.Task[None]] = set()
    kinds: tuple[tuple[Kind, str], ...] = (*(("worker", "a"),) * 3, *(("scheduler", "a"),) * 2, ("scheduler", "b"))
    if stage.chance.random() < 0.5:
        stage.deployed_at = now() + stage.chance.uniform(0.1, 0.8) * stage.life.shape.days * DAY
        start(stage, operators, upgrade(stage))
    for kind, view in kinds:
        start(stage, processes, keep_alive(stage, kind, view))
    while now() < stage.life.end:
        await asyncio.sleep(stage.life.shape.look_s)
        stage.look_at()
        looks = stage.life.shape.look_s / 60
        if stage.chance.random() < 0.003 * looks:
            edit(stage)
        if stage.chance.random() < 0.0007 * looks and not troubles:
            start(stage, troubles, trouble_the_queue(stage))
        if stage.chance.random() < 0.0007 * looks:
            start(stage, operators, schedule_some(stage))
    tasks = (*processes, *troubles, *operators)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if stage.down_since is not None:
        stage.life.down.append((stage.down_since, now()))


def violations(seed: int, shape: Shape) -> list[str]:
    world = build_world(seed, START, shape)
    chance = random.Random(seed)
    random.seed(seed)
    names = sorted(world.instances)
    views = {"a": set(names[:-2]), "b": set(names[-2:])}

    async def main() -> FleetStage:
        stage = FleetStage(world, chance, Life(shape), views)
        await live(stage)
        return stage

    stage = run_virtually(main(), START)
    found = [*stage.found, *repeated_alerts(stage.events, lambda name: stage.forgets[str(name)])]
    for name in sorted(set().union(*stage.views.values())):
        one = world.instances[name]
        edited = max([START, *one.touched])  # what was declared before is no longer known
        found += [*missing(one, stage.life, edited), *wrong_lock(one, stage.life, START)]
    return found


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_a_fleet_keeps_its_promises_for_a_busy_day(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = small_life(seed)
    shape.begin(monkeypatch)
    assert violations(seed, shape) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_keeps_its_promises_for_a_month_of_300(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    MONTH.begin(monkeypatch)
    assert violations(seed, MONTH) == []
