"""A fleet document with 10,000 CSV rows: validate, render, diff of one instance, and a watch that reads it again."""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import yaml
from contenders import fivrec
from instances import Fleet, build_fleet, create, declared
from measure import BenchmarkError, in_turn
from table import MIB, Outcome, Target, ratio

from works.bench import Bench, lines, named, seconds, settle
from works.loops import Loop, running

ROWS = 10_000
PARTS = 4
QUIET_S, LOOK_S, LIMIT_S = 7.0, 12.0, 120.0
MOST_S, MOST_MIB, AGAIN_S = 3, 250, 0.3


def run(bench: Bench) -> Outcome:
    fleet = build_fleet(bench.ground, "rows", 1)
    create(bench.ground, fleet, filled=True)
    settle(bench, fleet)
    some, whole = _write(bench, fleet, ROWS // PARTS), _write(bench, fleet, ROWS)
    one = ("--limit", fleet.instances[0].name)
    commands = (("validate",), ("render",), ("diff", *one))
    found = [
        replace(fivrec(bench.program, *words, str(path), env=fleet.env), name=f"fivrec {words[0]}, {count:,} rows")
        for words in commands
        for path, count in ((some, ROWS // PARTS), (whole, ROWS))
    ]
    results = in_turn(bench.launcher, found, min(bench.rounds, 3))
    validate, fewer = named(results, f"fivrec validate, {ROWS:,}"), named(results, "fivrec validate, 2,500")
    touched, changed = _turns_again(bench, fleet, whole)
    targets = (
        Target("validate, seconds", seconds(validate), MOST_S, "at most"),
        Target("validate, MiB", validate and validate.memory / MIB, MOST_MIB, "at most"),
        Target(
            f"validate, time ÷ {PARTS} × that of a quarter", _linear(seconds(validate), seconds(fewer)), 1.1, "at most"
        ),
        Target("watch reads the same rows again, CPU seconds", touched, AGAIN_S, "at most"),
        Target("watch reads them with one row changed, CPU seconds", changed, AGAIN_S, "at most"),
    )
    table = tuple(replace(line, rate=None) for line in lines(results, None, by=lambda result: result.seconds))
    notes = (f"CPU of a watch is what it used above that of an idle one in the {LOOK_S:g} s after the change.",)
    return Outcome("rows", f"A fleet document with {ROWS:,} CSV rows", table, targets, notes)


def _linear(whole: float | None, part: float | None) -> float | None:
    found = ratio(whole, part)
    return None if found is None else found / PARTS


def _write(bench: Bench, fleet: Fleet, count: int) -> Path:
    """Write a fleet whose first row is a real instance; the other rows are never used."""
    folder = fleet.manifest.parent / f"csv-{count}"
    folder.mkdir()
    first = fleet.instances[0]
    with (folder / "clients.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("instance", "database", "company", "region"))
        rows.writerow((first.name, first.database, "Nome da Empresa", "south"))
        rows.writerows((f"row-{n:05}", f"row_{n:05}", f"Empresa {n}", "north") for n in range(1, count))
    server = bench.ground.server
    defaults = declared(bench.ground.connect_url)
    defaults["labels"] = {"region": "{{ region }}"}
    defaults["database"] = {"url": server.url("{{ database }}", password=False)}
    defaults["config"] |= {"company_name": "{{ company }}", "instance_key": {"env": first.variable}}
    document = {"version": 1, "defaults": defaults, "instances": {"csv": "clients.csv"}}
    path = folder / "fleet.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return path


def _turns_again(bench: Bench, fleet: Fleet, manifest: Path) -> tuple[float, float]:
    """Returns a watch's CPU for rereading files that were touched, and files in which another instance's row
    changed."""
    listing = manifest.with_name("clients.csv")
    watch = fivrec(bench.program, "watch", str(manifest), "--limit", fleet.instances[0].name, env=fleet.env)
    with running(bench.launcher, replace(watch, codes=frozenset({0, 143}))) as loop:
        _await_quiet(loop)
        idle = _used(loop)
        listing.touch()
        touched = _used(loop)
        listing.write_text(listing.read_text().replace("Empresa 77,", "Empresa 077,"))
        changed = _used(loop)
    print(f"  watch: idle {idle:.2f} s, touched {touched:.2f} s, changed {changed:.2f} s", file=sys.stderr, flush=True)
    return touched - idle, changed - idle


def _await_quiet(loop: Loop) -> None:
    """Wait until the manifests are read and the first cycle is over."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        before = loop.cpu()
        time.sleep(QUIET_S)
        loop.require_alive()
        if loop.cpu() - before < 0.1 and before > 0.2:
            return
    raise BenchmarkError(f"{loop.contender.name} did not come to rest within {LIMIT_S:.0f} s")


def _used(loop: Loop) -> float:
    before = loop.cpu()
    time.sleep(LOOK_S)
    loop.require_alive()
    return loop.cpu() - before
