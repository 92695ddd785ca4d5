"""One instance, a no-op apply, the whole process."""

from __future__ import annotations

import contenders
from contenders import bare, fivrec
from instances import build_fleet, create, write_single
from table import MIB, Outcome, Target, ratio

from works.bench import Bench, compare, lines, named, seconds, settle


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "one", 1)
    create(bench.ground, fleet, filled=True)
    manifest, env = write_single(bench.ground, fleet)
    there = settle(bench, fleet)
    results = compare(
        bench,
        fleet,
        (
            bare("one", "--instance", fleet.instances[0].name, env=env),
            fivrec(bench.program, "apply", str(manifest), "-o", "json", env=env) if there else None,
            contenders.pyinfra(bench.peers, bench.ground, fleet, rounds=bench.rounds),
            contenders.ansible(bench.peers, bench.ground, fleet, rounds=min(bench.rounds, 3)),
        ),
    )
    limit, ours = named(results, "bare"), named(results, "fivrec")
    beside = ratio(seconds(ours), seconds(limit))
    targets = (
        Target("fivrec ÷ bare script, seconds", beside, 1, "at most"),
        Target("fivrec's memory, MiB", ours and ours.memory / MIB, 66, "at most"),
        Target(
            "ansible-playbook ÷ fivrec, seconds",
            ratio(seconds(named(results, "ansible")), seconds(ours)), 10, "at least",
        ),
        Target("pyinfra ÷ fivrec, seconds", ratio(seconds(named(results, "pyinfra")), seconds(ours)), 1.5, "at least"),
    )  # fmt: skip
    return Outcome(
        "one",
        "One instance, no-op apply, whole process",
        lines(results, limit, by=lambda result: result.seconds),
        targets,
    )
