"""Many instances, a no-op apply of all, a fresh connection each."""

from __future__ import annotations

import contenders
from contenders import bare_fleet, fivrec
from instances import build_fleet, create, part
from table import Outcome, Target, ratio

from works.bench import Bench, compare, lines, named, peers_note, rate, settle

AT_ONCE = (8, 16, 32)
PEERS_DO = 10  # Ansible takes minutes for more; its rate does not rise with them (FINDINGS: 0.53/s at 10, 0.54/s at 50)


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "fleet", bench.count or 200)
    create(bench.ground, fleet, filled=True)
    few = part(bench.ground, fleet, min(PEERS_DO, len(fleet)))
    there = settle(bench, fleet)
    apply = ("apply", str(fleet.manifest), "-o", "json")
    results = compare(
        bench,
        fleet,
        (
            *(bare_fleet("fleet", fleet, at_once) for at_once in AT_ONCE),
            fivrec(bench.program, *apply, env=fleet.env, work=len(fleet)) if there else None,
            contenders.pyinfra(bench.peers, bench.ground, few, rounds=1),
            contenders.ansible(bench.peers, bench.ground, few, rounds=1),
        ),
        rounds=min(bench.rounds, 5),
    )
    best = max((result for result in results if result.contender.name.startswith("bare")), key=lambda one: one.rate)
    ours = named(results, "fivrec")
    targets = (
        Target("fivrec ÷ bare script at its best, instances/s", ratio(rate(ours), best.rate), 0.8, "at least"),
        Target("fivrec ÷ Ansible, instances/s", ratio(rate(ours), rate(named(results, "ansible"))), 120, "at least"),
    )
    return Outcome(
        "fleet",
        f"{len(fleet)} instances, no-op apply, fresh connections",
        lines(results, best, by=lambda result: result.rate),
        targets,
        peers_note(bench, few),
    )
