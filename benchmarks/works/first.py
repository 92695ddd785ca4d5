"""First apply: schema, rows and bcrypt on databases that exist and are empty."""

from __future__ import annotations

import contenders
from contenders import bare_fleet, fivrec
from instances import PASSWORD, Fleet, build_fleet, create, drop, part
from measure import Contender, in_turn
from rows import read_content, require_same
from table import Outcome, Target, ratio

from works.bench import Bench, best_bare, lines, named, peers_note, rate

AT_ONCE = (2, 4, 8)
PEERS_DO = 2


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "first", min(bench.count or 20, 50))
    few = part(bench.ground, fleet, min(PEERS_DO, len(fleet)))
    there = bench.has("apply")
    found = (
        *(_bare(bench, fleet, at_once) for at_once in AT_ONCE),
        fivrec(bench.program, "apply", str(fleet.manifest), "-o", "json", env=fleet.env, work=len(fleet))
        if there
        else None,
        contenders.pyinfra(bench.peers, bench.ground, few, rounds=1),
        contenders.ansible(bench.peers, bench.ground, few, rounds=1),
    )
    contents = {}

    def renew(_: Contender) -> None:
        drop(bench.ground.server, [one.database for one in fleet.instances])
        create(bench.ground, fleet, filled=False)

    def look(contender: Contender) -> None:
        last = fleet.instances[contender.work - 1]
        contents[contender.name] = read_content(bench.ground.server, last)

    there_all = [one for one in found if one]
    rounds = min(bench.rounds, 3)
    results = in_turn(bench.launcher, there_all, rounds, before=renew, after=look, meter=bench.meter)
    require_same(contents)
    best = best_bare(results)
    beside = ratio(rate(named(results, "fivrec")), best.rate)
    target = Target("fivrec ÷ bare script at its best, instances/s", beside, 0.95, "at least")
    return Outcome(
        "first",
        f"{len(fleet)} instances, first apply on empty databases, bcrypt 12",
        lines(results, best, by=lambda result: result.rate),
        (target,),
        peers_note(bench, few),
    )


def _bare(bench: Bench, fleet: Fleet, at_once: int) -> Contender:
    return bare_fleet("first", fleet, at_once, "--schema", str(bench.ground.schema), "--password", PASSWORD)
