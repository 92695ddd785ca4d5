"""A simulated process's view of the queue: a connection, which may be cut, frozen or killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.errors import DatabaseError
from reconciler.workers.job_queue import FINISH_S, HEARTBEAT_S, LIVES, STALE_S, TABLES, TASK, Job
from tests.simulation.fleet_tables import JobRow, Tables
from tests.simulation.world import now

SLOW_ONES = frozenset({"begin_turn", "end_turn", "declare"})


def _with_more(held: str | None) -> str | None:
    """Returns what a newer version of fivrec would write into a row."""
    return held and json.dumps({**json.loads(held), "of_a_newer_version": [1]})


@dataclass(slots=True)
class QueueServer:
    """The queue's server: its tables, its clock and what is wrong with it."""

    tables: Tables = field(init=False)
    offsets: list[tuple[float, float]] = field(default_factory=list)
    """Pairs: from this time on, the clock is ahead by so many seconds."""
    restored_at: float = 0.0
    trouble: str | None = None
    newer: bool = False
    """Whether `fleet init` of a newer fivrec was run on it."""
    workers: dict[int, Client] = field(default_factory=dict)
    listening: dict[int, Client] = field(default_factory=dict)
    """The processes that work. One that is no longer in `workers` has yet to notice."""
    ids: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.offsets = [(now() - 1, 0.0)]
        self.tables = Tables(self.clock, self.heartbeat, self.wake)

    def clock(self) -> float:
        return now() + self.offsets[-1][1]

    def clock_at(self, at: float) -> float:
        return at + self.offsets[bisect_right(self.offsets, (at, float("inf"))) - 1][1]

    def wake(self) -> None:
        for client in self.listening.values():
            client.awake.set()

    def heartbeat(self, worker: int) -> float | None:
        """Returns the time of the worker's last beat by the server's clock, or None if the worker is gone."""
        client = self.workers.get(worker)
        return None if client is None else self.clock_at(client.last_beat(worker))

    def prune(self) -> None:
        """Remove workers without a heartbeat, as each starting worker does."""
        for worker in list(self.workers):
            if self.clock() - (self.heartbeat(worker) or 0.0) > STALE_S:
                del self.workers[worker]


@dataclass(slots=True)
class Client:
    """One process's `Queue`. `silent_since`: when it was frozen, cut off or killed. `newer`: it runs the next version,
    whose statements the current tables don't know, and whose rows hold more."""

    server: QueueServer
    chance: random.Random
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    turning: asyncio.Event = field(default_factory=asyncio.Event)
    newer: bool = False
    where: str = "queue"
    silent_since: float | None = None
    dead: bool = False
    cut: bool = False
    joined: dict[int, float] = field(default_factory=dict)
    left: dict[int, float] = field(default_factory=dict)
    lost_ends: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.thawed.set()

    def freeze(self) -> None:
        self.thawed.clear()
        self.silent_since = now()

    def thaw(self) -> None:
        self.thawed.set()
        self.silent_since = None
        self.awake.set()

    def last_beat(self, worker: int) -> float:
        since, at = self.joined[worker], now() if self.silent_since is None else self.silent_since
        at = min(at, self.left.get(worker, at))
        return since + (at - since) // HEARTBEAT_S * HEARTBEAT_S

    async def reach(self) -> None:
        """Return once the process runs. Raises DatabaseError if the queue can't be reached."""
        if self.dead:
            raise asyncio.CancelledError
        if not self.thawed.is_set():
            await self.thawed.wait()
        if self.cut or self.server.trouble is not None:
            raise DatabaseError("queue: away", code=self.server.trouble or "database_unreachable")

    async def reach_world(self) -> None:
        """Reach an instance's database: a frozen process reaches nothing, but an unreachable queue hinders nobody."""
        if self.dead:
            raise asyncio.CancelledError
        await self.thawed.wait()

    async def rows(self, name: str, **values: Any) -> list[dict[str, Any]]:
        try:
            if name in SLOW_ONES:
                await asyncio.sleep(self.chance.uniform(0.001, 0.05))
            if name == "end_turn" and not self.thawed.is_set():  # its job may be another worker's before it can report
                self.lost_ends(values["instance"])
            await self.reach()
        except (DatabaseError, asyncio.CancelledError):
            if name == "end_turn":
                self.lost_ends(values["instance"])
            raise
        if name == "begin_turn":
            self.turning.set()
        if self.newer and not self.server.newer:
            raise DatabaseError("queue: its tables are those of an older fivrec", code="schema_missing")
        if self.newer and name == "end_turn":
            values = {**values, **{key: _with_more(values[key]) for key in ("standing", "drift", "fights")}}
        return self.server.tables.ask(name, values)

    async def be_amid_a_turn(self) -> None:
        """Wait until a cycle has just begun, for 15 minutes at most."""
        self.turning.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(900.0):
                await self.turning.wait()
        await asyncio.sleep(self.chance.uniform(0.0, 0.3))

    async def run(self, name: str, **values: Any) -> None:
        await self.rows(name, **values)

    async def recover(self) -> list[str]:
        await self.reach()
        return [row["instance"] for row in self.server.tables.recover(task=TASK, stale_s=STALE_S, most=LIVES)]

    async def version(self) -> int:
        """Returns the version relative to what this process knows."""
        await self.reach()
        return TABLES + self.server.newer - self.newer

    async def standing(self) -> tuple[dict[str, Any], ...]:
        await self.reach()
        tables = self.server.tables
        return tables.depth(task=TASK)[0], tables.workers(stale_s=STALE_S)[0], tables.totals()[0]

    async def work(self, turn: Callable[[Job], Awaitable[None]], forks: int) -> None:
        """Work like `Queue.work` and Procrastinate's worker. A worker that was pruned learns of it with the next
        job."""
        await self.reach()
        self.server.prune()
        worker = next(self.server.ids)
        self.server.workers[worker] = self.server.listening[worker] = self
        self.joined[worker] = now()
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self.reach()
                if worker not in self.server.workers and self.server.tables.todo:
                    break
                while len(running) < forks and (job := self.server.tables.fetch(worker)) is not None:
                    task = asyncio.create_task(self._take(turn, job))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(lambda _: self.awake.set())
                self.awake.clear()
                await self.awake.wait()
        finally:
            self.server.listening.pop(worker, None)
            if running and not self.dead:
                await asyncio.wait(running, timeout=FINISH_S)
            for task in tuple(running):
                task.cancel()
            self.left[worker] = now()
            if not self.dead and not self.cut and self.server.trouble is None:
                self.server.workers.pop(worker, None)  # otherwise the queue takes it for dead after a while

    async def _take(self, turn: Callable[[Job], Awaitable[None]], row: JobRow) -> None:
        args: Mapping[str, Any] = row.args
        job = Job(row.id, args["instance"], args["digest"], args["stored"], args.get("run"), args.get("wish"))
        try:
            await turn(job)
        except asyncio.CancelledError:
            if not self.dead:
                with suppress(DatabaseError):
                    await self.run("give_back", job=job.id)
                    await self.run("finish", job=job.id)
            raise
        except DatabaseError:
            pass
        with suppress(DatabaseError):
            await self.run("finish", job=job.id)
