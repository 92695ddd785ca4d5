"""What a worker leaves in the queue's row is what a watch keeps in its process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest
from reconciler.model.types import ErrorInfo, Origin
from reconciler.planning.report import CycleResult, InstanceReport
from reconciler.planning.status_check import KnownStatus
from reconciler.watch.instance_state import InstanceState
from reconciler.workers.job_queue import Job
from reconciler.workers.worker import _ended, _watched

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
    assert (asked.due, asked.retry, asked.report_usage) == (False, True, True)
    retry.end(InstanceReport("a", "production", "in_sync", 5, turned=CycleResult(STANDING, usage_queued=True)), 6003.0)
    assert (retry.slot, retry.begin(6004.0).report_usage) == (6060.0, False)


def test_what_was_said_goes_along_to_the_next_worker() -> None:
    one = _watched(ROW, MANIFEST)
    one.begin(6000.0)
    report = InstanceReport("a", "production", "skipped", 5, turned=CycleResult(STANDING, check_id="other"))
    one.due = one.end(report, 6001.0)
    one.trouble = "guard"
    row = next_row(one, report)
    again = _watched(row, MANIFEST)
    told = {name: getattr(one, name) for name in ("due", "last_success", "last_end")}
    assert {**asdict(again), **told} == asdict(one)
    assert (row["slot"], row["due"], again.standing) == (6060.0, 6060.0, STANDING)
