"""Many instances, a no-op apply of all, a new connection for each, Connect over TLS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import contenders
from contenders import bare_fleet, fivrec
from instances import Fleet, build_fleet, create, part
from measure import Contender
from server import find_programs
from table import Outcome, Target, ratio

from works.bench import Bench, best_bare, compare, lines, named, peers_note, rate, server_cpu, settle

BARE = Path(__file__).parents[1] / "bare"
AT_ONCE = (8, 16, 32)
CLIENTS = 8
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
            _pgbench(bench, fleet),
            fivrec(bench.program, *apply, env=fleet.env, work=len(fleet)) if there else None,
            contenders.pyinfra(bench.peers, bench.ground, few, rounds=1),
            contenders.ansible(bench.peers, bench.ground, few, rounds=1),
        ),
        rounds=min(bench.rounds, 5),
    )
    best, ours, limit = best_bare(results), named(results, "fivrec"), named(results, "pgbench")
    cost = ratio(server_cpu(ours), server_cpu(best))
    targets = (
        Target("fivrec ÷ bare script at its best, instances/s", ratio(rate(ours), best.rate), 1, "at least"),
        Target("fivrec ÷ pgbench -C, instances/s", ratio(rate(ours), rate(limit)), 0.65, "at least"),
        Target("PostgreSQL's CPU an instance, fivrec ÷ bare script", cost, 1.3, "at most"),
        Target("fivrec ÷ Ansible, instances/s", ratio(rate(ours), rate(named(results, "ansible"))), 120, "at least"),
    )
    return Outcome(
        "fleet",
        f"{len(fleet)} instances, no-op apply, fresh connections",
        lines(results, best, by=lambda result: result.rate),
        targets,
        peers_note(bench, few),
    )


def _pgbench(bench: Bench, fleet: Fleet) -> Contender | None:
    """The bare scripts' statements, with a new connection for each repetition: what PostgreSQL itself can do."""
    program = find_programs() / "pgbench"
    if not program.exists():
        print(f"!! SKIPPED: {program}: there is no pgbench", file=sys.stderr, flush=True)
        return None
    alone = build_fleet(bench.ground, "pgbench", 1)
    create(bench.ground, alone, filled=True)
    server, script = bench.ground.server, alone.manifest.with_name("pgbench.sql")
    script.write_text(_statements())
    each = -(-len(fleet) // CLIENTS)
    argv = (
        str(program), "-C", "-n", "-c", str(CLIENTS), "-j", "1", "-t", str(each), "-f", str(script),
        "-h", server.host, "-p", str(server.port), "-U", server.user, alone.instances[0].database,
    )  # fmt: skip
    env = {"PGPASSWORD": server.password}
    return Contender(f"pgbench -C, {CLIENTS} at once", argv, env, each * CLIENTS)


def _statements() -> str:
    """Returns bare/work.py's statements, from a separate process: that module is the scripts', not this program's."""
    code = (
        "import work; log = work.LOG % ('(SELECT id FROM instance_config)', \"'active'\", '2');"
        "seen = work.SEEN % '(SELECT id FROM instance_config)';"
        "print(*('BEGIN', work.LOCK, *work.READS, log, seen, 'COMMIT'), sep=';\\n', end=';\\n')"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=BARE, capture_output=True, text=True, check=True)
    return found.stdout
