"""A loop over many instances on kept connections: fivrec watch beside the bare loop, in checks per second."""

from __future__ import annotations

import statistics
import sys
import time

from contenders import bare_fleet, fivrec
from instances import Fleet, build_fleet, create, drop
from measure import Contender
from table import Line, Outcome, Target, ratio

from works.bench import Bench, settle
from works.loops import await_all, count_checks, now, running

AT_ONCE = (4, 16)
EVERY = "1s"  # far more often than a check takes at 1,000 instances: the loop is never idle
FIRST_ROUND_S = 180


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "pooled", bench.count or 1000)
    create(bench.ground, fleet, filled=True)
    settle(bench, fleet)
    found = [bare_fleet("pooled", fleet, at_once, "--keep", str(bench.keep)) for at_once in AT_ONCE]
    if bench.has("watch"):
        watch = ("watch", str(fleet.manifest), "--every", EVERY, "--keep-connections", str(bench.keep))
        found.append(fivrec(bench.program, *watch, env=fleet.env, work=len(fleet)))
    rates: dict[str, list[float]] = {one.name: [] for one in found}
    memory: dict[str, list[int]] = {one.name: [] for one in found}
    costs: dict[str, list[float]] = {one.name: [] for one in found}
    for _ in range(min(bench.rounds, 3)):
        for contender in found:
            speed, held, cost = _watch(bench, fleet, contender)
            costs[contender.name].append(cost)
            rates[contender.name].append(speed)
            memory[contender.name].append(held)
            print(
                f"  {contender.name}: {speed:.0f} checks/s, {cost * 1000:.1f} ms of CPU each",
                file=sys.stderr,
                flush=True,
            )
    drop(bench.ground.server, [one.database for one in fleet.instances])  # 8 MB each, in memory
    middle = {name: statistics.median(values) for name, values in rates.items()}
    limit = max(speed for name, speed in middle.items() if name.startswith("bare"))
    rows = tuple(
        Line(
            name, None, middle[name], statistics.median(memory[name]), f"{middle[name] / limit:.2f} ×",
            statistics.median(costs[name]),
        )
        for name in rates
    )  # fmt: skip
    own = statistics.median(costs["fivrec"]) * 1000 if "fivrec" in costs else None
    targets = (
        Target("fivrec watch ÷ bare loop at its best, checks/s", ratio(middle.get("fivrec"), limit), 1.5, "at least"),
        Target("fivrec watch's own CPU per check, ms", own, 3.7, "at most"),
    )
    kept = min(bench.keep, len(fleet))
    notes = [
        "CPU is that of one check.",
        f"{kept} connections kept; {bench.seconds:g} s a run, after every instance's first check.",
    ]
    if bench.keep < len(fleet):
        notes.append("Fewer are kept than there are instances: a loop that goes round meets each one closed.")
    if len(fleet) < 1000:
        notes.append(f"fivrec checks each instance every {EVERY}: at most {len(fleet)} checks/s can show here.")
    return Outcome("pooled", f"{len(fleet)} instances in a loop, kept connections", rows, targets, tuple(notes))


def _watch(bench: Bench, fleet: Fleet, contender: Contender) -> tuple[float, int, float]:
    """Returns checks per second, the loop's memory at the end, and its CPU seconds per check."""
    server = bench.ground.server
    begun = now(server)
    with running(bench.launcher, contender) as loop:
        await_all(server, fleet, begun, loop, FIRST_ROUND_S)
        since, used = now(server), loop.cpu()
        time.sleep(bench.seconds)
        until, used = now(server), loop.cpu() - used
        held = loop.sample(server).memory
    checks = count_checks(server, fleet, since, until)
    return checks / (until - since).total_seconds(), held, used / max(checks, 1)
