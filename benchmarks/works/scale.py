"""Time and memory of a no-op apply from 1 instance to 1,000."""

from __future__ import annotations

from dataclasses import replace

from contenders import bare_fleet, fivrec
from instances import build_fleet, create, part
from measure import Result
from table import MIB, Line, Outcome, Target

from works.bench import Bench, compare, settle

SIZES = (1, 10, 50, 100, 200, 500, 1000)
MOST = 88


def run(bench: Bench) -> Outcome:
    largest = bench.count or SIZES[-1]
    sizes = [size for size in SIZES if size <= largest]
    fleet = build_fleet(bench.ground, "scale", sizes[-1])
    create(bench.ground, fleet, filled=True)
    there = settle(bench, fleet)
    found = []
    for size in sizes:
        some = part(bench.ground, fleet, size)
        found.append(replace(bare_fleet("fleet", some, 16), name=f"bare, {size}"))
        if there:
            ours = fivrec(bench.program, "apply", str(some.manifest), "-o", "json", env=some.env, work=size)
            found.append(replace(ours, name=f"fivrec, {size}"))
    results = compare(bench, fleet, found, rounds=min(bench.rounds, 3))
    by_size = {result.contender.work: result for result in results if result.contender.name.startswith("fivrec")}
    rows = tuple(
        Line(result.contender.name, result.seconds, result.rate, result.memory, cpu=result.cpu) for result in results
    )
    points = tuple(_point(result) for result in results)
    return Outcome("scale", f"No-op apply of 1 to {sizes[-1]} instances", rows, _targets(by_size), points=points)


def _targets(by_size: dict[int, Result]) -> tuple[Target, ...]:
    if not {100, 1000} <= by_size.keys():
        return ()
    hundred, thousand = by_size[100], by_size[1000]
    return (
        Target("time of 1,000 ÷ 10 × time of 100", thousand.seconds / hundred.seconds / 10, 1.1, "at most"),
        Target("memory at 1,000, MiB", thousand.memory / MIB, MOST, "at most"),
    )


def _point(result: Result) -> dict[str, object]:
    contender = result.contender
    return {
        "contender": contender.name.split(",")[0],
        "instances": contender.work,
        "seconds": result.seconds,
        "rate": result.rate,
        "memory": result.memory,
    }
