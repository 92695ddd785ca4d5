"""An instance's outcome, in its report and in the row of its last run."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest

from reconciler.engine.commit import with_error
from reconciler.engine.last_run import ended_row, last_run_row
from reconciler.engine.lone_check import has_no_place
from reconciler.engine.reports import build_failed_report, build_report
from reconciler.engine.run import Run
from reconciler.model.changes import Cause, FieldChange, Update
from reconciler.model.errors import Busy, FivrecError, Interrupted, Refused
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, ConnectView, Desired, ErrorInfo, Snapshot
from reconciler.planning.audit import Actor
from reconciler.planning.plan import Plan
from reconciler.planning.report import Outcome
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.examples import INSTANCE, NOON, desired, queue, snapshot, view

RUN = Run("1", "apply", Actor("ana"), KeyRing(()), EventLog(io.StringIO()), lambda: NOON)
CHECK = replace(RUN, command="check", check_only=True)
WHOLE = desired(whole=True)
CONNECTED = replace(WHOLE, connect=ConnectTarget("https://connect.example", Secret("k")))
DOWN = ErrorInfo("connect_unreachable", "nobody is there")
SAME = Plan(INSTANCE, "production", ())


def changed(name: str, cause: Cause) -> Update:
    row = queue(name)
    return Update(row.key, (FieldChange("description", "x", None),), "manifest", cause, row, row)


PLAN = replace(SAME, changes=(changed("Night", "drift"), changed("Sales", "intent")))


@pytest.mark.parametrize(
    ("wanted", "said", "plan", "outcome", "code"),
    [
        (CONNECTED, view(), SAME, "in_sync", 0),
        (CONNECTED, view(), PLAN, "changed", 0),
        (CONNECTED, ConnectView(status_error=DOWN), PLAN, "degraded", 5),
        (CONNECTED, replace(view(), plans_error=DOWN), SAME, "degraded", 5),
        (WHOLE, ConnectView(status_error=DOWN), SAME, "in_sync", 0),  # the manifest has no Connect to ask
        (replace(CONNECTED, suspend=True), view(), PLAN, "skipped", 0),
        (replace(CONNECTED, suspend=True), ConnectView(status_error=DOWN), PLAN, "skipped", 5),
    ],
)
def test_an_instance_that_was_compared(
    wanted: Desired, said: ConnectView, plan: Plan, outcome: Outcome, code: int
) -> None:
    report = build_report(wanted, time.monotonic(), said, plan)
    assert (report.outcome, report.exit_code, report.error) == (outcome, code, DOWN if code else None)


@pytest.mark.parametrize(
    ("error", "outcome", "code", "shown"),
    [
        (Refused("no", code="guard"), "refused", 3, True),
        (Busy("held"), "busy", 4, False),
        (FivrecError("no", code="database_unreachable"), "failed", 1, False),
        (Interrupted(15), "skipped", 143, False),
    ],
)
def test_an_instance_that_was_not_done(error: FivrecError, outcome: Outcome, code: int, shown: bool) -> None:
    """A change refused by a guard is shown, and its drift still counts."""
    report = build_failed_report(WHOLE, time.monotonic(), error, view(), PLAN)
    assert (report.outcome, report.exit_code, report.plan is PLAN, report.left) == (outcome, code, shown, shown)


def test_what_failed_after_the_commit_makes_it_a_failure() -> None:
    report = build_report(CONNECTED, time.monotonic(), view(), PLAN)
    after = with_error(report, ErrorInfo("adoption_unfinished", "not all made"))
    assert (after.outcome, after.exit_code) == ("changed", 1)
    assert with_error(report, None) is report


@pytest.mark.parametrize(
    ("outcome", "made", "changes", "left"),
    [
        ("changed", True, 2, 0),
        ("degraded", True, 2, 0),  # the manifest's part is done
        ("refused", True, 0, 1),
        ("failed", True, 0, 1),
        ("changed", False, 0, 1),
        ("skipped", False, 0, 1),
    ],
)
def test_drift_is_on_record_until_a_run_puts_it_back(outcome: Outcome, made: bool, changes: int, left: int) -> None:
    row = last_run_row(WHOLE, RUN, PLAN, outcome, made=made)
    assert row is not None
    assert (row.changes, row.drift) == (changes, 1)
    assert [item["name"] for item in row.open_drift or ()] == ["Night"][:left]


def test_a_run_that_did_not_look_leaves_what_the_last_one_found() -> None:
    for wanted, run in ((desired(), RUN), (WHOLE, CHECK)):
        row = last_run_row(wanted, run, PLAN, "changed")
        assert row is not None
        assert (row.drift, row.open_drift, row.former) == (None, None, None)


def test_a_check_that_changes_nothing_is_no_run() -> None:
    assert last_run_row(WHOLE, CHECK, SAME, "in_sync") is None
    assert last_run_row(WHOLE, RUN, SAME, "in_sync") is not None
    away = FivrecError("away", code="database_unreachable")
    assert ended_row(WHOLE, CHECK, None, away) is None
    row = ended_row(WHOLE, RUN, None, away)
    assert row is not None
    assert (row.outcome, row.error, row.open_drift) == ("failed", "database_unreachable", None)


@pytest.mark.parametrize(
    ("code", "found", "none"),
    [
        ("guard", snapshot(), False),
        ("guard", None, False),
        ("guard", Snapshot(1), True),  # no row of the instance yet
        ("stale_plan", snapshot(), True),  # exactly one plan was to be applied
        ("schema_newer", snapshot(), True),
        ("foreign_code", snapshot(), True),
        ("foreign_schema", snapshot(), True),
        ("wrong_instance", snapshot(), True),
        ("instance_not_configured", snapshot(), False),  # the row belongs to the app
        ("schema_missing", snapshot(), False),
        ("database_read_only", snapshot(), False),  # a trigger may have raised it
    ],
)
def test_the_error_decides_whether_a_check_can_be_recorded(code: str, found: Snapshot | None, none: bool) -> None:
    assert has_no_place(FivrecError("no", code=code), found) is none
