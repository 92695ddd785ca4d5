"""Measure a running loop: how many checks it recorded in a period, and which resources it holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psycopg
from instances import Fleet, Instance
from measure import BenchmarkError, Contender, Launcher, stop
from server import TICKS, Server


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of a process and its connections at one moment. `memory` in bytes."""

    memory: int
    descriptors: int
    threads: int
    connections: int


class Loop:
    """A contender that runs until it is stopped."""

    def __init__(self, start: Launcher, contender: Contender) -> None:
        self.contender = contender
        self.start = start
        self.pid, self.out = start.start(contender)

    def require_alive(self) -> None:
        """Raises BenchmarkError with its last output if it has ended."""
        state = _status(self.pid).get("State", "X")
        if state[0] in "XZ":
            run = self.start.wait(self.pid, self.out)
            raise BenchmarkError(f"{self.contender.name} ended early with {run.code}: {run.stderr()[-2000:]}")

    def cpu(self) -> float:
        """Returns the CPU seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def sample(self, server: Server) -> Sample:
        self.require_alive()
        status = _status(self.pid)
        with server.connect() as conn:
            held = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'fivrec\\_bench\\_%'"
            ).fetchone()
        return Sample(
            int(status["VmRSS"].split()[0]) * 1024,
            sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()),
            int(status["Threads"]),
            held[0] if held else 0,
        )


@contextmanager
def running(start: Launcher, contender: Contender) -> Iterator[Loop]:
    if not Path("/proc/self/status").exists():
        raise BenchmarkError("loops are watched through /proc: this work needs Linux")
    loop = Loop(start, contender)
    try:
        yield loop
    finally:
        if _status(loop.pid).get("State", "X")[0] != "X":
            stop(loop.pid)
            start.wait(loop.pid, loop.out)


def count_checks(server: Server, fleet: Fleet, since: datetime, until: datetime) -> int:
    """Returns how many checks were recorded in [since, until), by the database's clock."""

    def count(one: Instance) -> int:
        with psycopg.connect(server.url(one.database)) as conn:
            found = conn.execute(
                "SELECT count(*) FROM status_check_logs WHERE created_at >= %s AND created_at < %s", (since, until)
            ).fetchone()
            return int(found[0]) if found else 0

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(count, fleet.instances))


def now(server: Server) -> datetime:
    with server.connect() as conn:
        found = conn.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'").fetchone()
    if found is None:
        raise BenchmarkError("the server has no clock")
    moment: datetime = found[0]
    return moment


def await_all(server: Server, fleet: Fleet, since: datetime, loop: Loop, limit_s: float) -> None:
    """Wait until every instance was checked once: then connections are open and caches are warm."""
    until = time.monotonic() + limit_s
    waiting = list(fleet.instances)
    while waiting and time.monotonic() < until:
        loop.require_alive()
        time.sleep(0.5)
        moment = now(server)
        while waiting and count_checks(server, _alone(fleet, waiting[-1]), since, moment):
            waiting.pop()
    if waiting:
        raise BenchmarkError(f"{loop.contender.name} did not check {waiting[-1].name} within {limit_s:.0f} s")


def _alone(fleet: Fleet, one: Instance) -> Fleet:
    return replace(fleet, instances=(one,))


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
