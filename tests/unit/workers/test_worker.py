"""A worker stores in the queue's row what a watch keeps in its process."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.run import Run
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec, ErrorInfo, Origin
from reconciler.planning.audit import Actor
from reconciler.planning.report import CycleResult, InstanceReport
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from reconciler.watch.cycle import Cycle
from reconciler.watch.instance_state import InstanceState
from reconciler.workers.common import ANSWERS
from reconciler.workers.job_queue import Job, forward_logs
from reconciler.workers.worker import FleetClock, FleetWorker, _ended, _watched
from tests.support.virtual_time import run_virtually

JOB = Job(1, "a", "digest", stored=False)
MANIFEST = Manifest("a", {}, {}, Origin("a.yaml", 1, "digest"), Path())
FAILED = InstanceReport("a", "production", "failed", 5, 1, error=ErrorInfo("database_unreachable", "away"))
DEGRADED = InstanceReport("a", "production", "degraded", 5, 5, error=ErrorInfo("connect_unreachable", "nobody"))
STANDING = KnownStatus("suspended", "overdue", locked=True, reachable=False)
ROW: dict[str, Any] = {
    "interval_s": 60.0,
    "place": 0,
    "slot": 6000.0,
    "heard": True,
    "usage_due": False,
    "failures": 0,
    "own_check": "own",
    "trouble": None,
    "standing": None,
    "drift": None,
    "fights": None,
}


def next_row(one: InstanceState, report: InstanceReport) -> dict[str, Any]:
    return {**ROW, **_ended(JOB, one, report), "slot": one.slot}


@pytest.mark.parametrize("report", [FAILED, DEGRADED])
def test_a_slot_that_fails_owes_its_usage_report_to_the_retry(report: InstanceReport) -> None:
    one = _watched({**ROW, "failures": 3}, MANIFEST)
    at_slot = one.begin(6000.0)
    one.due = one.end(report, 6001.0)
    retry = _watched(next_row(one, report), MANIFEST)
    asked = retry.begin(6003.0)
    assert (at_slot.due, at_slot.report_usage) == (True, True)
    assert (asked.due, asked.retry, asked.report_usage) == (True, True, True)
    retry.end(InstanceReport("a", "production", "in_sync", 5, turned=CycleResult(STANDING, usage_queued=True)), 6003.0)
    assert (retry.slot, retry.begin(6004.0).report_usage) == (6060.0, False)


@pytest.mark.parametrize(("check_id", "owed"), [(None, True), ("own", False)])
def test_a_check_that_could_not_be_recorded_is_the_next_workers(check_id: str | None, owed: bool) -> None:
    one = _watched(ROW, MANIFEST)
    at_slot = one.begin(6000.0)
    report = replace(FAILED, turned=CycleResult(STANDING, check_id))
    one.due = one.end(report, 6001.0)
    retry = _watched(next_row(one, report), MANIFEST).begin(6003.0)
    assert (retry.due, retry.usage_id == at_slot.usage_id or not owed) == (owed, True)


def test_a_slots_usage_report_has_one_id_for_all_its_turns() -> None:
    """So a report that a lost cycle queued is not queued again; Connect counts each id once."""
    lost, retry = _watched(ROW, MANIFEST), _watched({**ROW, "slot": 6060.0, "usage_due": True}, MANIFEST)
    following = _watched({**ROW, "slot": 6060.0}, MANIFEST)
    ids = [one.begin(at).usage_id for one, at in ((lost, 6000.5), (retry, 6040.0), (following, 6061.0))]
    assert (ids[0] == ids[1], ids[0] == ids[2], InstanceState(MANIFEST, 60.0, 0.0, 60.0).begin(61.0).usage_id) == (
        True,
        False,
        None,
    )


def test_reported_troubles_pass_to_the_next_worker() -> None:
    one = _watched(ROW, MANIFEST)
    one.begin(6000.0)
    report = InstanceReport("a", "production", "skipped", 5, turned=CycleResult(STANDING, check_id="other"))
    one.due = one.end(report, 6001.0)
    one.trouble = "guard"
    one.next_look, one.database_problems = 27600.0, frozenset({"backup", "status"})
    row = next_row(one, report)
    again = _watched(row, MANIFEST)
    told = {name: getattr(one, name) for name in ("due", "last_success", "last_end")}
    assert {**asdict(again), **told} == asdict(one)
    assert (row["slot"], row["due"], again.standing) == (6060.0, 6060.0, STANDING)


def test_fields_added_by_a_newer_worker_are_left_out() -> None:
    known = asdict(STANDING)
    row = {**ROW, "standing": json.dumps({**known, "since": 1}), "drift": json.dumps({"left": {"queue": 1}, "by": "x"})}
    one = _watched({**row, "fights": json.dumps({"corrected": {}, "held": {}, "by": "x"})}, MANIFEST)
    older = _watched({**ROW, "standing": json.dumps({"status": "active"})}, MANIFEST)
    assert (one.standing, one.drift, one.fights.held) == (STANDING, {"queue": 1}, ())
    assert older.standing == KnownStatus("active")


class ListQueue:
    """A queue with one cycle to hand out. `given` and `mine`: whether the job is the worker's at the beginning and at
    the end; `row` holds what differs."""

    def __init__(self, *, mine: bool, given: bool = True, **row: Any) -> None:
        self.mine = mine
        self.row = {**ROW, **row}
        self.given = given
        self.ran: list[str] = []

    async def rows(self, name: str, **_: Any) -> list[dict[str, Any]]:
        if name == "is_mine":
            return [{"id": JOB.id}] if self.mine else []
        return [{**self.row, "now": 6000.0, "mine": self.given, "digest": JOB.digest, "scheduled": True}]

    async def run(self, name: str, **_: Any) -> None:
        self.ran.append(name)


class OneManifest:
    async def find(self, *_: Any) -> Manifest:
        return MANIFEST


def turned_by(queue: ListQueue, took_s: float, stream: io.StringIO | None = None) -> tuple[list[str], list[Any], int]:
    """Returns what a worker writes into the queue, which alerts it raises, and how many cycles it runs."""
    turns = []

    async def resolve(_: Manifest) -> Desired:
        return Desired("a", EnvironmentSpec("production"), DatabaseSpec(Secret("")), None, managed={})

    async def fail(*_: Any) -> InstanceReport:
        turns.append(1)
        await asyncio.sleep(took_s)
        return FAILED

    async def main() -> list[Any]:
        log, heard, clock = EventLog(stream or io.StringIO(), "json"), [], FleetClock()
        log.listeners.append(lambda event: heard.append(event.get("alert")) if "alert" in event else None)
        run = Run("1", "fleet worker", Actor("test"), KeyRing(()), log, now=lambda: datetime.now(UTC))
        worker = FleetWorker(queue, OneManifest(), Cycle(resolve, run, clock=clock, apply=fail), clock, 1)  # type: ignore[arg-type]
        await worker.turn(JOB)
        return heard

    heard = run_virtually(main())
    return queue.ran, heard, len(turns)


@pytest.mark.parametrize(("took_s", "mine", "told"), [(40.0, False, False), (40.0, True, True), (1.0, False, True)])
def test_a_worker_that_lost_its_turn_tells_nothing_of_it(took_s: float, mine: bool, told: bool) -> None:
    assert turned_by(ListQueue(mine=mine), took_s) == ((["end_turn"], ["failing"], 1) if told else ([], [], 1))


def test_a_job_lost_before_its_cycle_is_not_run() -> None:
    assert turned_by(ListQueue(mine=True, given=False), 1.0) == ([], [], 0)


def test_an_unreadable_row_is_reported_and_ends_no_other() -> None:
    log = io.StringIO()
    assert turned_by(ListQueue(mine=True, standing="{"), 1.0, log) == ([], [], 0)
    assert [(one["instance"], one["error"]) for one in map(json.loads, log.getvalue().splitlines())] == [
        ("a", "internal")
    ]


def test_a_worker_logs_once_that_the_queue_answers_again() -> None:
    log, answers = io.StringIO(), iter([True, False, False, True, True])

    class Flapping(ListQueue):
        async def recover(self) -> list[str]:
            if not next(answers):
                raise DatabaseError("the queue is away", code="database_unreachable", hint="see whether it runs")
            return []

        async def rows(self, name: str, **_: Any) -> list[dict[str, Any]]:
            return [{"waiting": 0, "running": 0, "oldest_s": 0.0}]

    async def main() -> None:
        run = Run("1", "fleet worker", Actor("test"), KeyRing(()), EventLog(log, "json"), now=lambda: datetime.now(UTC))
        worker = FleetWorker(Flapping(mine=True), OneManifest(), Cycle(None, run), FleetClock(), 1)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError):  # no answer is left
            await worker._care()

    run_virtually(main())
    said = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(one["level"], one["message"]) for one in said] == [
        ("error", "❌ the queue is away (see whether it runs)"),
        ("error", "❌ the queue is away (see whether it runs)"),
        ("info", ANSWERS),
    ]


def test_logs_of_the_queues_client_quote_no_exception() -> None:
    said: list[str] = []
    forward_logs(said.append)
    raised = ValueError("\n    Database error: a row\n")
    for words, more in (("listener error: %r", (raised,)), ("discarding connection", ()), ("failed\n%s", ("a row",))):
        logging.getLogger("procrastinate.worker").warning(words, *more)
    logging.getLogger("procrastinate").handlers = []
    assert said == ["listener error", "discarding connection", "failed"]
