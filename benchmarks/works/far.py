"""Many instances, a no-op apply of all, with Connect and the database as far away as they are for users."""

from __future__ import annotations

from contenders import bare_fleet, fivrec
from instances import build_fleet, create
from table import Outcome, Target, ratio

from works.bench import (
    CONNECT_AWAY_S,
    DATABASE_AWAY_S,
    HANDSHAKES,
    Bench,
    best_bare,
    compare,
    far_away,
    lines,
    named,
    rate,
    settle,
)

FORKS = 16


def run(bench: Bench) -> Outcome:
    with far_away(bench.ground) as far:
        fleet = build_fleet(far, "far", bench.count or 200)
        create(bench.ground, fleet, filled=True)
        there = settle(bench, fleet)
        apply = ("apply", str(fleet.manifest), "-o", "json", "--forks", str(FORKS))
        ours = fivrec(bench.program, *apply, env=fleet.env, work=len(fleet)) if there else None
        found = (bare_fleet("fleet", fleet, FORKS), ours)
        results = compare(bench, fleet, found, rounds=min(bench.rounds, 5))
    best, mine = best_bare(results), named(results, "fivrec")
    targets = (
        Target("fivrec ÷ bare script at equal forks, instances/s", ratio(rate(mine), best.rate), 1, "at least"),
        Target("TLS handshakes", mine and mine.other(HANDSHAKES), FORKS, "at most"),
    )
    rows = lines(results, best, by=lambda result: result.rate)
    away = f"{CONNECT_AWAY_S * 1000:.0f} ms to Connect, {DATABASE_AWAY_S * 1000:.0f} ms to the database"
    return Outcome("far", f"{len(fleet)} instances, no-op apply, fresh connections, {away}", rows, targets)
