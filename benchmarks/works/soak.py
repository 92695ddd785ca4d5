"""A long watch with faults at Connect: does it hold more resources at the end than at the start?"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from contenders import fivrec
from instances import Fleet, build_fleet, create
from table import Line, Outcome, Target

from works.bench import Bench, connect_stub, settle
from works.loops import Sample, count_checks, now, running

CYCLES = 10_000
FAULTS = "0.05"
EVERY = "1s"
PAUSE_S = 1.0
LIMIT_S = 1800


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "soak", bench.count or 200)
    title = f"{CYCLES} cycles over {len(fleet)} instances, 5% of Connect's answers a 500"
    if not bench.has("watch"):
        return Outcome("soak", title, (), _targets(()), ("fivrec has no watch (yet): nothing was measured.",))
    create(bench.ground, fleet, filled=True)
    settle(bench, fleet)
    with connect_stub("--faults", FAULTS) as faulty:
        moved = fleet.manifest.with_name("faulty.yaml")
        moved.write_text(fleet.manifest.read_text().replace(fleet.connect_url, faulty.url))
        samples, cycles, took = _watch(bench, replace(fleet, manifest=moved))
    rows = (Line("fivrec watch", took, cycles / took, samples[-1].memory),)
    points = tuple(
        {"memory": one.memory, "descriptors": one.descriptors, "connections": one.connections} for one in samples
    )
    notes = (f"{cycles} checks recorded; {len(samples)} samples; start is their second tenth, end their last.",)
    return Outcome("soak", title, rows, _targets(samples), notes, points)


def _watch(bench: Bench, fleet: Fleet) -> tuple[list[Sample], int, float]:
    server, samples, cycles = bench.ground.server, [], 0
    watch = fivrec(bench.program, "watch", str(fleet.manifest), "--every", EVERY, env=fleet.env)
    watch = replace(watch, codes=frozenset({0, 143}))
    since, begun = now(server), time.monotonic()
    with running(bench.launcher, watch) as loop:
        while cycles < CYCLES and time.monotonic() - begun < LIMIT_S:
            time.sleep(PAUSE_S)
            samples.append(loop.sample(server))
            if len(samples) % 20 == 0:
                cycles = count_checks(server, fleet, since, now(server))
                print(f"  {cycles} cycles, {samples[-1]}", file=sys.stderr, flush=True)
    return samples, cycles, time.monotonic() - begun


def _targets(samples: Sequence[Sample]) -> tuple[Target, ...]:
    tenth = len(samples) // 10
    start, end = samples[tenth : 2 * tenth], samples[-tenth:] if tenth else ()
    if not start:
        grown = connections = descriptors = threads = None
    else:
        grown = 100 * (_median(end, "memory") / _median(start, "memory") - 1)
        connections = _median(end, "connections") - _median(start, "connections")
        descriptors = _median(end, "descriptors") - _median(start, "descriptors")
        threads = _median(end, "threads") - _median(start, "threads")
    return (
        Target("memory's growth, %", grown, 5, "at most"),
        Target("connections more", connections, 0, "at most"),
        Target("file descriptors more", descriptors, 0, "at most"),
        Target("threads more", threads, 0, "at most"),
    )


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(getattr(sample, name) for sample in samples))
