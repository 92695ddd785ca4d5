"""The tables of the fleet's queue as `sql/queries/fleet.sql` and Procrastinate change them, in memory.

`tests/integration/workers/test_simulated_tables.py` compares them with the statements on a real server.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf
from typing import Any

from reconciler.planning.schedule import next_slot, phase

KEPT = ("heard", "trouble", "own_check", "usage_due", "standing", "drift", "outcome", "error", "message")
READ = ("interval_s", "place", "heard", "failures", "trouble", "own_check", "usage_due", "fights", "standing", "drift")


@dataclass(slots=True)
class Row:
    instance: str
    digest: str
    stored: bool
    interval_s: float
    view: str
    position: int
    due_at: float
    slot_at: float
    declared_at: float
    place: int | None = None
    heard: bool = False
    failures: int = 0
    trouble: str | None = None
    own_check: str | None = None
    usage_due: bool = False
    fights: str | None = None
    standing: str | None = None
    drift: str | None = None
    outcome: str | None = None
    error: str | None = None
    message: str | None = None
    ended_at: float | None = None
    last_success: float | None = None

    def next_slot(self, now: float) -> float:
        place = self.position if self.place is None else self.place
        return next_slot(self.interval_s * phase(place), self.interval_s, now)


@dataclass(slots=True)
class JobRow:
    id: int
    instance: str
    queueing_lock: str
    args: dict[str, Any]
    priority: int = 0
    status: str = "todo"
    worker: int | None = None
    attempts: int = 0


class _Latest(dict[float, float]):
    """How far ahead an instance of this interval may be due."""

    def __init__(self, longest_retry_s: float) -> None:
        super().__init__()
        self._longest_retry_s = longest_retry_s

    def __missing__(self, interval_s: float) -> float:
        self[interval_s] = found = 5 + max(1.1 * interval_s, self._longest_retry_s)
        return found


@dataclass(slots=True)
class Tables:
    """`now` is the server's clock. `heartbeat` returns a worker's last beat by that clock; None if the worker is gone.
    `changed` is called when there may be a job to take."""

    now: Callable[[], float]
    heartbeat: Callable[[int], float | None] = lambda _: None
    changed: Callable[[], None] = lambda: None
    instances: dict[str, Row] = field(default_factory=dict)
    jobs: dict[int, JobRow] = field(default_factory=dict)
    schedulers: dict[str, float] = field(default_factory=dict)
    results: dict[tuple[str, str], str] = field(default_factory=dict)
    todo: dict[str, JobRow] = field(default_factory=dict)
    """The waiting jobs by queueing lock, of which there is one each."""
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _positions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _times: list[tuple[float, str]] = field(default_factory=list)
    """A heap of times at which instances may be due, to avoid scanning all rows: each time that a row has or had."""
    _uneven: bool = True

    def ask(self, name: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run a statement of fleet.sql by its name."""
        found: list[dict[str, Any]] | None = getattr(self, name)(**values)
        return found or []

    def backup(self) -> tuple[Any, ...]:
        return copy.deepcopy((self.instances, self.jobs, self.schedulers, self.results))

    def restore(self, backup: tuple[Any, ...]) -> None:
        self.instances, self.jobs, self.schedulers, self.results = copy.deepcopy(backup)
        self.todo = {job.queueing_lock: job for job in self.jobs.values() if job.status == "todo"}
        self._times, self._uneven = sorted((row.due_at, row.instance) for row in self.instances.values()), True

    # Statements of a scheduler

    def declare(
        self,
        *,
        instances: Sequence[str],
        digests: Sequence[str],
        intervals: Sequence[float],
        stored: bool,
        view: str,
        keep_view: bool,
        keep_interval: bool,
        take: bool,
    ) -> None:
        now = self.now()
        for name, digest, interval in zip(instances, digests, intervals, strict=True):
            row = self.instances.get(name)
            if row is None:
                self.instances[name] = Row(name, digest, stored, interval, view, next(self._positions), now, now, now)
                self._due(self.instances[name])
                self._uneven = True
                continue
            row.declared_at = now
            if take and not keep_view:
                row.view = view
            every = row.interval_s if keep_interval and row.digest == digest else interval
            if take and (row.digest, row.stored, row.interval_s) != (digest, stored, every):
                self._take(row, digest, every, stored=stored)
            elif row.due_at == inf:
                self._uneven = True
                row.due_at = row.slot_at
                self._due(row)

    def _take(self, row: Row, digest: str, interval: float, *, stored: bool) -> None:
        if row.interval_s != interval:
            row.place, self._uneven = None, True
        row.digest, row.stored, row.interval_s = digest, stored, interval
        self._uneven = self._uneven or row.due_at == inf
        row.failures, row.fights, row.due_at = 0, None, self.now()
        self._due(row)

    def _due(self, row: Row) -> None:
        heappush(self._times, (row.due_at, row.instance))

    def attend(self, *, id: str) -> list[dict[str, Any]]:  # noqa: A002 (the statement's own)
        before, self.schedulers[id] = self.schedulers.get(id), self.now()
        return [{"before": before and str(before), "after": str(self.schedulers[id])}]

    def withdraw(
        self, *, gone: Sequence[str], dropped: Sequence[str], view: str, declared: Sequence[str], lease_s: float
    ) -> list[dict[str, Any]]:
        names, left, once, old = set(declared), set(gone), set(dropped), self.now() - lease_s
        found = []
        for row in self.instances.values():
            if row.instance in names or row.due_at == inf or (row.view != view and row.instance not in once):
                continue
            if (row.view == view and row.instance in left) or row.declared_at < old:
                row.due_at, row.declared_at, self._uneven = inf, self.now(), True
                found.append({"instance": row.instance})
        return found

    def forget(self, *, view: str, lease_s: float) -> None:
        old = self.now() - lease_s
        rows = self.instances.values()
        for name in [row.instance for row in rows if row.due_at == inf and row.view == view and row.declared_at < old]:
            del self.instances[name]

    def respread(self) -> None:
        if not self._uneven:
            return
        self._uneven = False
        of_interval: defaultdict[float, list[Row]] = defaultdict(list)
        for _, row in sorted(self.instances.items()):
            if row.due_at < inf:
                of_interval[row.interval_s].append(row)
        for interval, rows in of_interval.items():
            settled: dict[int, Row] = {}
            movers = []
            for row in rows:
                if row.place is not None and row.place < len(rows) and row.place not in settled:
                    settled[row.place] = row
                else:
                    movers.append(row)
            for row, place in zip(movers, (one for one in range(len(rows)) if one not in settled), strict=False):
                row.place = place
                if row.slot_at > self.now() + interval:
                    row.slot_at = row.next_slot(self.now())

    def pull_in(self, *, longest_retry_s: float) -> None:
        now, latest = self.now(), _Latest(longest_retry_s)
        for row in self.instances.values():
            due, limit = row.due_at, now + latest[row.interval_s]
            if (due > limit or row.slot_at > limit) and due < inf:
                slot = row.next_slot(now)
                row.due_at, row.slot_at = min(due, slot), min(row.slot_at, slot)
                self._due(row)

    def enqueue_due(self, *, most: int, queue: str, task: str) -> list[dict[str, Any]]:
        now, free, found = self.now(), most - len(self.todo), list[dict[str, Any]]()
        while len(found) < free and self._times and self._times[0][0] <= now:
            at, name = heappop(self._times)
            row = self.instances.get(name)
            if row is not None and row.due_at == at:
                row.due_at = now + row.interval_s
                self._due(row)
                found.append({"id": self._queue(row, now)})
        return found

    def _queue(self, row: Row, now: float) -> int:
        args = {"instance": row.instance, "digest": row.digest, "stored": row.stored, "at": now}
        if (waiting := self.todo.get(row.instance)) is not None:
            waiting.args = {**args, "at": waiting.args["at"]}
            return waiting.id
        return self._insert(JobRow(0, row.instance, row.instance, args))

    def _insert(self, job: JobRow) -> int:
        job.id, job.status, job.worker = next(self._ids), "todo", None
        self.jobs[job.id] = self.todo[job.queueing_lock] = job
        self.changed()
        return job.id

    def recover(self, *, task: str, stale_s: float, most: int) -> list[dict[str, Any]]:
        lost = [job for job in self.jobs.values() if job.status == "doing" and self._is_lost(job, stale_s)]
        found = []
        for job in lost:
            del self.jobs[job.id]
            if job.attempts < most and job.queueing_lock not in self.todo:
                self._insert(replace(job, attempts=job.attempts + 1))
                found.append({"instance": job.instance})
        if lost:
            self.changed()
        return found

    def _is_lost(self, job: JobRow, stale_s: float) -> bool:
        beat = None if job.worker is None else self.heartbeat(job.worker)
        return beat is None or abs(self.now() - beat) > stale_s

    def tidy(self) -> None:
        old = self.now() - 86400
        self.schedulers = {key: at for key, at in self.schedulers.items() if at >= old}

    def depth(self, *, task: str) -> list[dict[str, Any]]:
        counted = Counter(job.status for job in self.jobs.values())
        return [{"waiting": counted["todo"], "running": counted["doing"], "oldest_s": 0.0}]

    def workers(self, *, stale_s: float) -> list[dict[str, Any]]:
        return [{"alive": 0, "lost": 0}]

    def totals(self) -> list[dict[str, Any]]:
        return [{"instances": len(self.instances), "failing": 0, "never": 0, "overdue": 0}]

    # Statements of a worker

    def fetch(self, worker: int) -> JobRow | None:
        """Take a job as Procrastinate does: the first waiting one whose instance has none in progress."""
        if not self.todo:
            return None
        busy = {job.instance for job in self.jobs.values() if job.status == "doing"}
        free = [job for job in self.todo.values() if job.instance not in busy]
        if not free:
            return None
        return self.take(min(free, key=lambda one: (-one.priority, one.id)), worker)

    def take(self, job: JobRow, worker: int) -> JobRow:
        job.status, job.worker = "doing", worker
        del self.todo[job.queueing_lock]
        return job

    def finish(self, *, job: int) -> None:
        if job in self.jobs and self.jobs[job].status == "doing":
            del self.jobs[job]
            if self.todo:
                self.changed()

    def give_back(self, *, job: int) -> None:
        held = self.jobs.get(job)
        if held is not None and held.status == "doing" and held.queueing_lock not in self.todo:
            self._insert(replace(held))

    def begin_turn(self, *, job: int, instance: str, digest: str, stored: bool, rollout: bool) -> list[dict[str, Any]]:
        row = self.instances.get(instance)
        own = rollout or row is None
        found: dict[str, Any] = dict.fromkeys((*READ, "slot"))
        if row is not None:
            found = {name: getattr(row, name) for name in READ} | {"slot": row.slot_at}
        found["scheduled"] = row is not None and row.due_at < inf
        found["mine"] = bool(self.is_mine(job=job))
        found["digest"] = digest if own or row is None else row.digest
        return [{**found, "now": self.now(), "stored": stored if own or row is None else row.stored}]

    def is_mine(self, *, job: int) -> list[dict[str, Any]]:
        return [{"id": job}] if job in self.jobs and self.jobs[job].status == "doing" else []

    def end_turn(self, *, job: int, instance: str, **ended: Any) -> None:
        held, row = self.jobs.get(job), self.instances.get(instance)
        if held is None or held.status != "doing" or row is None:
            return
        same = row.digest == ended["digest"]
        for name in KEPT:
            setattr(row, name, ended[name])
        row.ended_at, row.slot_at = self.now(), ended["slot"]
        if ended["well"]:
            row.last_success = row.ended_at
        if same:
            row.failures, row.fights = ended["failures"], ended["fights"]
            if row.due_at < inf:
                row.due_at = ended["due"]
                self._due(row)
