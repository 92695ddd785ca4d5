"""Start-up: `--help` and `--version` beside a bare click program."""

from __future__ import annotations

from dataclasses import replace

from contenders import bare, fivrec
from measure import in_turn
from table import Outcome, Target, ratio

from works.bench import Bench, lines, named, seconds


def run(bench: Bench) -> Outcome:
    there = bench.has()
    found = []
    for option in ("--help", "--version"):
        found.append(replace(bare("help", option), name=f"bare click {option}"))
        if there:
            found.append(replace(fivrec(bench.program, option), name=f"fivrec {option}"))
    results = in_turn(bench.launcher, found, bench.rounds * 3)
    limit = named(results, "bare click --help")
    targets = []
    for option in ("--help", "--version"):
        ours, theirs = named(results, f"fivrec {option}"), named(results, f"bare click {option}")
        found_ratio = ratio(seconds(ours), seconds(theirs))
        if option == "--help":
            targets.append(Target(f"fivrec {option} ÷ bare click, seconds (issue 1)", found_ratio, 2, "at most"))
        targets.append(Target(f"fivrec {option} ÷ bare click, seconds (issue 4)", found_ratio, 1.5, "at most"))
    rows = lines(results, limit, by=lambda result: result.seconds)
    return Outcome("help", "Start-up", tuple(replace(row, rate=None) for row in rows), tuple(targets))
