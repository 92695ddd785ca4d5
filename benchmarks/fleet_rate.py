"""Cycles/s of 1, 2 and 4 workers of the fleet, beside bare Procrastinate jobs that sleep as long as a cycle takes.

python benchmarks/fleet_rate.py -n 200 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import psycopg
from instances import Fleet, build_fleet, create, ground
from server import fast_folder, server
from works.bench import connect_stub

ROOT = Path(__file__).parents[1]
BARE = Path(__file__).parent / "bare" / "queue_sleep.py"
WORKERS = (1, 2, 4)
FORKS = 4
QUEUE = "fivrec_bench_queue"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", dest="count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.05, help="how long Connect takes to answer, in seconds")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fivrec-bench-", dir=fast_folder())))
        database = stack.enter_context(server(1200))
        connect = stack.enter_context(connect_stub("--delay", str(given.delay)))
        laid = stack.enter_context(ground(database, connect.url, ROOT / "sql" / "database-setup-script.sql", folder))
        fleet = build_fleet(laid, "queue", given.count)
        create(laid, fleet, filled=True)
        measure(fleet, database.url(QUEUE), given.rounds)
    return 0


def measure(fleet: Fleet, queue: str, rounds: int) -> None:
    env = {**os.environ, **fleet.env, "FIVREC_QUEUE_URL": queue, "PYTHONPATH": str(ROOT)}
    fivrec = (sys.executable, "-m", "reconciler", "fleet")
    subprocess.run([*fivrec, "init", "-q"], env=env, check=True)
    subprocess.run([*fivrec, "schedule", "--once", "-q", str(fleet.manifest)], env=env, check=True)
    print("| workers | turn, ms | fleet, turns/s | bare, jobs/s | ratio |\n| --- | --- | --- | --- | --- |")
    with psycopg.connect(queue, autocommit=True) as conn:
        for count in WORKERS:
            command = [*fivrec, "worker", str(fleet.manifest), "-f", str(FORKS), "--keep-connections", "1000"]
            listening = [[*command, "--listen", "127.0.0.1:0"] for _ in range(count)]
            with workers(listening, env, conn) as logs:
                drain(conn)
                timed(conn, due)  # opens the connections
                before = turns(logs)
                ours = [len(fleet) / timed(conn, due) for _ in range(rounds)]
                seconds, number = (after - first for after, first in zip(turns(logs), before, strict=True))
                each = seconds / number
            bare = [[sys.executable, str(BARE), queue, str(FORKS)] for _ in range(count)]
            with workers(bare, env, conn):
                fill = sleeping(len(fleet), each)
                timed(conn, fill)
                theirs = [len(fleet) / timed(conn, fill) for _ in range(rounds)]
            rate, other = statistics.median(ours), statistics.median(theirs)
            print(f"| {count} | {each * 1000:.1f} | {rate:.0f} | {other:.0f} | {rate / other:.2f} |", flush=True)


@contextmanager
def workers(
    commands: Sequence[Sequence[str]], env: dict[str, str], conn: psycopg.Connection
) -> Iterator[Sequence[Path]]:
    """Start the processes and wait for their heartbeats; end them with the block."""
    conn.execute("DELETE FROM procrastinate_workers")
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, str(number)) for number in range(len(commands))]
        started = [
            subprocess.Popen(command, env=env, stderr=log.open("wb"), stdout=subprocess.DEVNULL)
            for command, log in zip(commands, logs, strict=True)
        ]
        try:
            until(lambda: scalar(conn, "SELECT count(*) FROM procrastinate_workers") == len(commands))
            yield logs
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(20)


def due(conn: psycopg.Connection) -> None:
    """Make every instance due now, and queue it as the scheduler would."""
    conn.execute("UPDATE fivrec_fleet.instances SET due_at = now()")
    text = (ROOT / "sql" / "queries" / "fleet.sql").read_text().partition("-- name: enqueue_due\n")[2].partition(";")[0]
    conn.execute(text.encode(), {"most": 1_000_000, "queue": "fivrec", "task": "fivrec.turn"})


def sleeping(count: int, seconds: float) -> Callable[[psycopg.Connection], None]:
    def fill(conn: psycopg.Connection) -> None:
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)"
            " SELECT 'bare', 'bare.sleep', 'b' || n, 'b' || n, jsonb_build_object('seconds', %s::float8)"
            " FROM generate_series(1, %s) AS n",
            (seconds, count),
        )

    return fill


def timed(conn: psycopg.Connection, fill: Callable[[psycopg.Connection], None]) -> float:
    begun = time.monotonic()
    fill(conn)
    drain(conn)
    return time.monotonic() - begun


def drain(conn: psycopg.Connection) -> None:
    until(lambda: scalar(conn, "SELECT count(*) FROM procrastinate_jobs") == 0)


def until(ask: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > end:
            raise SystemExit("not within 180 s")
        time.sleep(0.02)


def scalar(conn: psycopg.Connection, query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def turns(logs: Sequence[Path]) -> tuple[float, float]:
    """Returns seconds and number of all cycles, from the workers' metrics."""
    seconds = number = 0.0
    for log in logs:
        (url,) = re.findall(r"health and metrics on (\S+)", log.read_text())
        with urlopen(f"{url}/metrics") as answer:
            page = answer.read().decode()
        seconds += float(re.findall(r"^fivrec_run_duration_seconds_sum (\S+)", page, re.MULTILINE)[0])
        number += float(re.findall(r"^fivrec_run_duration_seconds_count (\S+)", page, re.MULTILINE)[0])
    return seconds, number


if __name__ == "__main__":
    sys.exit(main())
