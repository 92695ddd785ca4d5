"""The simulated fleet's tables change exactly as real ones do under the real statements."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from reconciler.database.statements import query
from reconciler.model.secret import Secret
from reconciler.workers.job_queue import open_queue
from tests.simulation.fleet_tables import Tables
from tests.support.harness import run_sql

START = 1_800_000_000.0
OWN_CLOCK = """
CREATE SCHEMA sim;
CREATE TABLE sim.clock (at double precision NOT NULL);
INSERT INTO sim.clock VALUES (1800000000);
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT to_timestamp(at) FROM sim.clock';
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT sim.now()';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = sim, pg_catalog, public', current_database()); END $$;
"""
ROWS = """
SELECT instance, digest, stored, interval_s, view, place, heard, failures, trouble, own_check, usage_due, fights,
       standing, drift, outcome, error, message, extract(epoch FROM due_at)::float8 AS due_at,
       extract(epoch FROM slot_at)::float8 AS slot_at,
       extract(epoch FROM declared_at)::float8 AS declared_at, extract(epoch FROM ended_at)::float8 AS ended_at,
       extract(epoch FROM last_success)::float8 AS last_success
FROM fivrec_fleet.instances ORDER BY instance
"""
JOBS = """
SELECT lock AS instance, queueing_lock, status::text, attempts, args ->> 'digest' AS digest, worker_id
FROM procrastinate_jobs ORDER BY lock, status
"""
FETCH = """
UPDATE procrastinate_jobs SET status = 'doing', worker_id = %(worker)s WHERE id = (
  SELECT id FROM procrastinate_jobs WHERE status = 'todo'
    AND lock NOT IN (SELECT lock FROM procrastinate_jobs WHERE status = 'doing') ORDER BY priority DESC, id LIMIT 1)
RETURNING queueing_lock
"""
DOING = "SELECT id FROM procrastinate_jobs WHERE lock = %(instance)s AND status = 'doing'"


RARE = ["declare", "withdraw", "forget", "pull_in", "enqueue", "recover", "clock", "beat"]


@dataclass
class Both:
    """Applies the same operations to a real queue and to the simulated one."""

    conn: psycopg.Connection[dict[str, Any]]
    chance: random.Random
    now: float = START
    beats: dict[int, float] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    """Where the two disagree about how a cycle begins."""
    ours: Tables = field(init=False)

    def __post_init__(self) -> None:
        self.ours = Tables(lambda: self.now, self.beats.get)

    def ask(self, name: str, **values: Any) -> None:
        statement = query("fleet", name)
        self.conn.execute(statement, values)
        self.ours.ask(name, values)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.conn.execute("UPDATE sim.clock SET at = %s", (self.now,))

    def beat(self, worker: int) -> None:
        self.beats[worker] = self.now
        self.conn.execute(
            "INSERT INTO procrastinate_workers (id, last_heartbeat) OVERRIDING SYSTEM VALUE VALUES (%s, now())"
            " ON CONFLICT (id) DO UPDATE SET last_heartbeat = now()",
            (worker,),
        )

    def fetch(self, worker: int) -> None:
        """The order of jobs due at the same time is undefined: follow the real queue's."""
        for row in self.conn.execute(FETCH, {"worker": worker}).fetchall():
            self.ours.take(self.ours.todo[row["queueing_lock"]], worker)

    def end(self, *, how: str) -> None:
        """End somebody's cycle, return it, or end it for a worker whose job has been given to another."""
        doing = sorted(job.instance for job in self.ours.jobs.values() if job.status == "doing")
        if not doing:
            return
        instance = self.chance.choice(doing)
        own = next(job.id for job in self.ours.jobs.values() if job.instance == instance and job.status == "doing")
        (row,) = self.conn.execute(DOING, {"instance": instance}).fetchall()
        theirs = row["id"]
        if how == "give back":
            self.conn.execute(query("fleet", "give_back"), {"job": theirs})
            self.ours.give_back(job=own)
        else:
            strayed = 10_000_000 if how == "stray" else 0
            self.begin(instance, theirs + strayed, own + strayed)
            values = self.ended(instance)
            self.conn.execute(query("fleet", "end_turn"), {**values, "job": theirs + strayed})
            self.ours.end_turn(**values, job=own + strayed)
        if how != "stray":
            self.conn.execute("DELETE FROM procrastinate_jobs WHERE id = %s", (theirs,))
            self.ours.finish(job=own)

    def begin(self, instance: str, theirs: int, own: int) -> None:
        values = {"instance": instance, "digest": "d3", "stored": False, "rollout": self.chance.random() < 0.2}
        (row,) = self.conn.execute(query("fleet", "begin_turn"), {**values, "job": theirs}).fetchall()
        (simulated,) = self.ours.begin_turn(**values, job=own)
        for name in simulated.keys() & row.keys():
            if row[name] != simulated[name] and name not in ("slot", "now"):
                self.begun.append(f"{instance} begins with {name} {row[name]} and {simulated[name]}")

    def ended(self, instance: str) -> dict[str, Any]:
        chance, well = self.chance, self.chance.random() < 0.5
        slot = self.now + chance.uniform(0, 900)
        told = {"instance": instance, "heard": True, "usage_due": not well, "failures": 0 if well else 2, "well": well}
        texts = {"trouble": None, "own_check": "c1", "fights": None, "standing": json.dumps({"status": "active"})}
        texts["drift"] = chance.choice([None, "{}"])
        digest = chance.choice(["d1", "d2"])
        end = {"outcome": "in_sync", "error": None, "message": None, "slot": slot, "due": slot - 1, "digest": digest}
        return {**told, **texts, **end}

    def differences(self) -> list[str]:
        found = [*self.begun]
        theirs = {row.pop("instance"): row for row in self.conn.execute(ROWS).fetchall()}
        if theirs.keys() != self.ours.instances.keys():
            return [f"{sorted(theirs)} and {sorted(self.ours.instances)}"]
        for name, row in theirs.items():
            for column, value in row.items():
                own = getattr(self.ours.instances[name], column)
                same = abs(value - own) < 1e-3 if isinstance(value, float) and own not in (None, inf) else value == own
                if not same:
                    found.append(f"{name}.{column}: {value} and {own}")
        jobs = [tuple(row.values()) for row in self.conn.execute(JOBS).fetchall()]
        own_jobs = sorted(
            (job.instance, job.queueing_lock, job.status, job.attempts, job.args["digest"], job.worker)
            for job in self.ours.jobs.values()
        )
        if sorted(jobs, key=lambda row: (row[0], row[2])) != sorted(own_jobs, key=lambda row: (row[0], row[2])):
            found.append(f"{jobs} and {own_jobs}")
        return found


def step(both: Both) -> str:
    """Do one random thing that schedulers, workers or clocks do."""
    chance = both.chance
    what = chance.choice(RARE + ["turn"] * len(RARE))
    match what:
        case "declare" | "withdraw" | "forget":
            see_manifests(both, what)
        case "pull_in":
            both.ask("pull_in", longest_retry_s=300.0)
        case "enqueue":
            both.ask("enqueue_due", most=1000, queue="fivrec", task="fivrec.turn")
        case "recover":
            both.ask("recover", task="fivrec.turn", stale_s=30.0, most=2)
        case "clock":
            both.advance(chance.choice([0.5, 20.0, 100.0, 1000.0, 100_000.0, -90_000.0]))
        case "beat":
            both.beat(chance.choice([1, 2]))
        case "turn":
            both.advance(1.0)
            both.ask("enqueue_due", most=1000, queue="fivrec", task="fivrec.turn")
            both.fetch(chance.choice([1, 2]))
            if chance.random() < 0.6:
                both.end(how=chance.choice(["end", "end", "give back", "stray"]))
    return what


def see_manifests(both: Both, what: str) -> None:
    chance = both.chance
    names = [f"i{number}" for number in range(8) if chance.random() < 0.6]
    view = chance.choice(["a", "b"])
    match what:
        case "declare":
            digests = [chance.choice(["d1", "d2"]) for _ in names]
            intervals = [chance.choice([60.0, 900.0]) for _ in names]
            values = {"instances": names, "digests": digests, "intervals": intervals, "view": view, "stored": False}
            values |= {"keep_view": chance.random() < 0.3, "keep_interval": chance.random() < 0.3}
            both.ask("declare", **values, take=chance.random() < 0.7)
        case "withdraw":
            gone, dropped = ([chance.choice(["i1", "i2", "i3"])] for _ in range(2))
            both.ask("withdraw", view=view, declared=names, gone=gone, dropped=dropped, lease_s=120.0)
        case "forget":
            both.ask("forget", view=view, lease_s=120.0)
    both.ask("respread")


@pytest.fixture
async def conn(make_database: Callable[[], Secret]) -> Any:
    url = make_database().reveal()
    run_sql(url, OWN_CLOCK)
    async with open_queue(Secret(url)) as queue:
        await queue.make_schema()
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(4))
async def test_simulated_tables_change_as_the_real_ones(conn: Any, seed: int) -> None:
    both = Both(conn, random.Random(seed))
    both.beat(1)
    both.beat(2)
    done = []
    for _ in range(150):
        done.append(step(both))
        assert (both.differences(), done[-5:]) == ([], done[-5:])
    assert both.ours.instances
