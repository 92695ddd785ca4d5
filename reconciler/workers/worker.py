"""A worker of the fleet: takes jobs from the queue and gives each instance the turn that `watch` would give it.

Any number of workers run on any number of machines. What is known between turns is in the queue's database, so that a
turn may follow another worker's. If a worker dies, nothing is lost: another one gets its job within a minute, and if
the turn was already committed, the repeated turn finds nothing to do.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, Protocol

from reconciler.engine.batch import run_within
from reconciler.engine.reconcile import reconcile
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import FivrecError, Unforeseen, as_error
from reconciler.model.records import dataclass
from reconciler.model.types import ErrorInfo
from reconciler.planning.audit import Actor
from reconciler.planning.flapping import Flapping
from reconciler.planning.report import REFUSED, InstanceReport
from reconciler.planning.report_document import as_document
from reconciler.planning.schedule import phase
from reconciler.planning.status_check import KnownStatus
from reconciler.watch.cycle import Cycle, LostTurn, build_not_done_report, build_unresolved_report
from reconciler.watch.instance_state import InstanceState
from reconciler.watch.loop import loop_time
from reconciler.watch.supervisor import supervised
from reconciler.workers.common import ANSWERS, QueueContact, build_problems, say_recovered, wait_s
from reconciler.workers.job_queue import STALE_S, TASK, Job, Queue
from reconciler.workers.manifests import absent

CARE_S = 5.0
STEADY_S = 60.0
MESSAGE = 500


class Manifests(Protocol):
    """Where manifests come from (manifests.py). Raises FivrecError if the manifest is not the one that the job
    names."""

    async def find(self, job: Job, row: Mapping[str, Any]) -> Manifest: ...


@dataclass(slots=True)
class FleetClock:
    """Seconds since 1970 by the clock of the queue's database: the same for all workers, whatever their own clocks
    say."""

    offset: float = 0.0

    def __call__(self) -> float:
        return loop_time() + self.offset

    def set(self, now: float) -> None:
        self.offset = now - loop_time()


class FleetWorker(QueueContact):
    """`turning` uses `clock`. `known` are the instances for which this worker had a turn."""

    def __init__(self, queue: Queue, manifests: Manifests, turning: Cycle, clock: FleetClock, forks: int) -> None:
        super().__init__()
        self.known: dict[str, InstanceState] = {}
        self.depth: Mapping[str, float] = {"waiting": 0, "running": 0, "oldest_s": 0.0}
        self.running = 0
        self._queue = queue
        self._manifests = manifests
        self._turning = turning
        self._clock = clock
        self._forks = forks
        self._log = turning.run.log

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; then running turns may end, or roll back and go to another worker."""
        self._log.info("fleet", f"👷 working, {self._forks} instances at once", forks=self._forks)
        async with supervised(self._log, {"jobs": self._work, "lost jobs": self._care}):
            await stop.wait()
            self.stopping = True

    async def turn(self, job: Job) -> None:
        """One job, from taking it to recording its end."""
        self.running += 1
        begun = loop_time()
        try:
            (row,) = await self._queue.rows(
                "begin_turn",
                job=job.id,
                instance=job.instance,
                digest=job.digest,
                stored=job.stored,
                rollout=job.run is not None,
            )
            self._clock.set(row["now"])
            job = replace(job, digest=row["digest"])
            if not row["mine"]:
                self._say_lost(job)
            elif job.run is not None:
                await self._asked_for(job, row)
            elif row["scheduled"]:  # otherwise it was removed from the schedule meanwhile
                await self._scheduled(job, row, begun)
        except Exception as fault:  # noqa: BLE001 (a row or a job that can't be read; Procrastinate would say nothing)
            said = as_error(fault)
            self._log.error("fleet", f"❌ {said.message}", instance=job.instance, error=said.code)
        finally:
            self.running -= 1

    async def _scheduled(self, job: Job, row: Mapping[str, Any], begun: float) -> None:
        try:
            one = _watched(row, await self._manifests.find(job, row))
        except FivrecError as exc:
            one = _watched(row, absent(job))
            one.begin(self._clock())
            report = _not_found(one.manifest, exc)
            self._turning.end(one, report, one.check_type)
        else:
            turned = await self._turned(job, one, begun)
            if turned is None:
                return
            report = turned
        if (before := self.known.get(job.instance)) is not None:
            one.last_success = one.last_success or before.last_success
        self.known[job.instance] = one
        await self._queue.run("end_turn", **_ended(job, one, report))

    async def _turned(self, job: Job, one: InstanceState, begun: float) -> InstanceReport | None:
        """Run the turn. A turn that fails unexpectedly is logged and retried. Returns None if the turn is another
        worker's."""
        if (before := self.known.get(one.manifest.instance)) is not None:
            one.next_prune = before.next_prune
        mine = partial(self._is_mine, job, begun)
        task = asyncio.create_task(self._turning.turn(one, lambda _: None, mine=mine))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        if (fault := task.exception()) is None:
            return task.result()
        if isinstance(fault, LostTurn):
            self._say_lost(job)
            return None
        report = build_not_done_report(one.manifest, ErrorInfo.of(Unforeseen.of(fault)))
        self._turning.end(one, report, one.check_type)
        return report

    def _say_lost(self, job: Job) -> None:
        self._log.info("fleet", "🧊 the turn took too long, and belongs to another worker now", instance=job.instance)

    async def _is_mine(self, job: Job, begun: float) -> bool | None:
        """Whether a long turn still belongs to this worker: a worker that was frozen or cut off has lost it."""
        if loop_time() - begun < STALE_S:
            return True
        try:
            return bool(await self._queue.rows("is_mine", job=job.id))
        except FivrecError:
            return None

    async def _asked_for(self, job: Job, row: Mapping[str, Any]) -> None:
        """A job of `fivrec fleet apply`: applied like `fivrec apply`, and reported to the waiting command."""
        started = time.monotonic()
        try:
            manifest = await self._manifests.find(job, row)
        except FivrecError as exc:
            report = _not_found(absent(job), exc)
        else:
            report = await self._applied(job, manifest, started)
        said = "" if report.error is None else f": {report.error.message}"
        self._log.info("fleet", f"🚚 rollout {str(job.run)[:8]}: {report.outcome}{said}", instance=job.instance)
        document = json.dumps(as_document(report), ensure_ascii=True)
        await self._queue.run("end_run", job=job.id, run=job.run, instance=job.instance, report=document)

    async def _applied(self, job: Job, manifest: Manifest, started: float) -> InstanceReport:
        wish = job.wish or {}
        run = replace(
            self._turning.run,
            id=str(job.run),
            command="fleet apply",
            actor=Actor(wish["actor"], wish["commit"]),
            accept=frozenset(wish["accept"]),
            adopt=wish["adopt"],
            deep=wish["deep"],
        )
        try:
            desired = await self._turning.resolve(manifest)
        except FivrecError as exc:
            return build_unresolved_report(manifest, exc, started)
        return await run_within(reconcile, desired, run, started)

    async def _work(self) -> None:
        failures = 0
        while True:
            begun = loop_time()
            try:
                if await self.is_behind(self._queue, self._log):  # a turn could neither begin nor end there
                    await asyncio.sleep(CARE_S)
                    continue
                await self._queue.work(self.turn, self._forks)
                message = "the queue could not be asked for a while; this worker starts over"
            except FivrecError as exc:
                message = ErrorInfo.of(exc).words
            failures = 1 if loop_time() - begun > STEADY_S else failures + 1
            self._log.warning("fleet", f"⚠️ {message}")
            await asyncio.sleep(wait_s(failures))

    async def _care(self) -> None:
        """Recover the jobs of lost workers, and read the state of the queue."""
        away = False
        while True:
            self.beat()
            try:
                say_recovered(self._log, await self._queue.recover())
                (self.depth,) = await self._queue.rows("depth", task=TASK)
                self.note_contact()
                if away:
                    self._log.info("fleet", ANSWERS)
                away = False
            except FivrecError as exc:
                away = True
                self._log.error("fleet", f"❌ {ErrorInfo.of(exc).words}", error=exc.code)
            await asyncio.sleep(CARE_S)


def _watched(row: Mapping[str, Any], manifest: Manifest) -> InstanceState:
    """The instance as the last turn left it, on the queue's clock: seconds since 1970."""
    drift = json.loads(row["drift"]) if row["drift"] else {}
    first = row["interval_s"] * phase(row["place"]) if row["place"] is not None else row["slot"]
    return InstanceState(
        manifest,
        row["interval_s"],
        first,
        row["slot"],
        started=row["heard"],
        usage_due=row["usage_due"],
        check_due=drift.get("check_due", False),
        failures=row["failures"],
        own_check=row["own_check"],
        trouble=row["trouble"],
        standing=_standing(json.loads(row["standing"])) if row["standing"] else None,
        drift=drift.get("left", {}),
        alerted_drift=tuple(drift.get("told", ())),
        next_look=drift.get("next_look", 0.0),
        database_problems=build_problems(drift),
        fights=Flapping.remembered(json.loads(row["fights"])) if row["fights"] else Flapping(),
        shared=True,
    )


def _standing(held: Mapping[str, Any]) -> KnownStatus:
    """Leaves out fields that a worker of a newer fivrec adds."""
    return KnownStatus(**{one.name: held[one.name] for one in fields(KnownStatus) if one.name in held})


def _ended(job: Job, one: InstanceState, report: InstanceReport) -> dict[str, Any]:
    memory = one.fights.memory
    return {
        "job": job.id,
        "instance": job.instance,
        "digest": job.digest,
        "heard": one.started,
        "failures": one.failures,
        "trouble": one.trouble,
        "own_check": one.own_check,
        "usage_due": one.usage_due,
        "fights": json.dumps(memory) if any(memory.values()) else None,
        "standing": json.dumps(asdict(one.standing)) if one.standing else None,
        "drift": _found(one),
        "outcome": report.outcome,
        "error": report.error.code if report.error else None,
        "message": report.error.message[:MESSAGE] if report.error else None,
        "well": one.failures == 0,
        "slot": one.slot,
        "due": one.due,
    }


def _found(one: InstanceState) -> str | None:
    """The column `drift` as JSON: the drift that turns left, what Connect says about the database, and whether a check
    is owed."""
    found: dict[str, Any] = {"left": one.drift, "told": one.alerted_drift} if one.drift else {}
    if one.check_due:
        found["check_due"] = True
    if one.next_look:
        problems = one.database_problems
        found |= {"next_look": one.next_look, "problems": None if problems is None else sorted(problems)}
    return json.dumps(found) if found else None


def _not_found(manifest: Manifest, exc: FivrecError) -> InstanceReport:
    report = build_not_done_report(manifest, ErrorInfo.of(exc))
    return replace(report, outcome="refused", exit_code=REFUSED) if exc.exit_code == REFUSED else report
