"""Workers killed and frozen at random: nothing is lost, nothing is done twice, all is in sync at the end.

Short by default. In full: FIVREC_FLEET_CHAOS_S=120 FIVREC_FLEET_CHAOS_INSTANCES=300.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleets import RunningFleet, running_fleet
from tests.support.watching import Watching, until

SECONDS = float(os.environ.get("FIVREC_FLEET_CHAOS_S", "35"))
INSTANCES = int(os.environ.get("FIVREC_FLEET_CHAOS_INSTANCES", "20"))
EVERY_S = int(os.environ.get("FIVREC_FLEET_CHAOS_EVERY_S", "45"))
WORKERS = 3
WORKER = ("worker", "fleet/", "-f", "4", "--keep-connections", "20")  # the tests' server has 200 for all
AUDITED = "SELECT kind, name, action, cause FROM fivrec.audit_log WHERE action <> 'run' ORDER BY seq"
CHECKS = "SELECT created_at FROM status_check_logs ORDER BY created_at"
JOBS = "SELECT count(*) FROM procrastinate_jobs"


@dataclass
class Chaos:
    """Three workers: each step kills and replaces one of them, or freezes it for a while."""

    fleet: RunningFleet
    chance: random.Random
    workers: list[Watching] = field(default_factory=list)
    frozen: dict[int, float] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        self.workers = [self.fleet.start(*WORKER) for _ in range(WORKERS)]

    def step(self) -> None:
        now = time.monotonic()
        for number, until_then in list(self.frozen.items()):
            if now >= until_then:
                del self.frozen[number]
                self.workers[number].process.send_signal(signal.SIGCONT)
        number = self.chance.randrange(WORKERS)
        if number in self.frozen:
            return
        if self.chance.random() < 0.5:
            self.workers[number].process.kill()
            self.workers[number] = self.fleet.start(*WORKER)
            self.done["killed"] += 1
        else:
            self.workers[number].process.send_signal(signal.SIGSTOP)
            self.frozen[number] = now + self.chance.uniform(2, 45)
            self.done["frozen"] += 1

    def end(self) -> None:
        for number in self.frozen:
            self.workers[number].process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_no_job_is_lost_stuck_or_done_twice(
    tmp_path: Path, postgres_url: str, fresh_name: Callable[[], str], record_property: Callable[[str, object], None]
) -> None:
    with running_fleet(tmp_path, postgres_url, fresh_name(), INSTANCES) as fleet:
        chaos = Chaos(fleet, random.Random(7))
        fleet.start("schedule", "fleet/", "--every", f"{EVERY_S}s")
        begun = time.monotonic()
        chaos.begin()
        while time.monotonic() - begun < SECONDS:
            time.sleep(chaos.chance.uniform(2, 6))
            chaos.step()
        chaos.end()
        until(lambda: all_well(fleet), 2 * EVERY_S + 90)
        fleet.stop_all()
        assert fleet.queue_rows("SELECT instance FROM fivrec_fleet.instances WHERE failures > 0") == []
        gaps = longest_gaps(fleet)
        record_property("chaos", f"{dict(chaos.done)} in {time.monotonic() - begun:.0f} s, {INSTANCES} instances")
        record_property("longest time between two checks", f"{max(gaps):.1f} s of {2 * EVERY_S} s")
        twice = {name: found for name, found in fleet.of_each(AUDITED).items() if len(found) != len(set(found))}
        assert twice == {}
        assert max(gaps) <= 2 * EVERY_S
        ended = fleet.fivrec.run("diff", "fleet/", "-o", "json", timeout=300)
        assert (ended.code, ended.json["summary"]["in_sync"]) == (0, INSTANCES)


def all_well(fleet: RunningFleet) -> bool:
    """Whether every instance has had a successful cycle, and a check since the chaos ended, and no job is in
    progress."""
    status = fleet.status()
    found: dict[str, Any] = status["instances"]
    return (found["never"], found["failing"], found["overdue"], status["queue"]["waiting"]) == (0, 0, 0, 0) and (
        status["queue"]["running"] == 0
    )


def longest_gaps(fleet: RunningFleet) -> list[float]:
    found = [[at for (at,) in rows] for rows in fleet.of_each(CHECKS).values()]
    return [(after - before).total_seconds() for times in found for before, after in pairwise(times)] or [0.0]
