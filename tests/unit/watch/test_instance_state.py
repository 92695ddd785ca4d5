"""What the end of a cycle means for the next one."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest
from reconciler.model.changes import FieldChange, Update
from reconciler.model.types import (
    ConnectView,
    ErrorInfo,
    InstanceStatus,
    Key,
    LastCheck,
    Managed,
    Origin,
    Resource,
)
from reconciler.planning.plan import Plan
from reconciler.planning.report import CycleResult, InstanceReport, Outcome
from reconciler.planning.schedule import phase
from reconciler.planning.status_check import KnownStatus, is_made, is_repeat
from reconciler.support.log import EventLog
from reconciler.watch.concurrency import Limiter
from reconciler.watch.instance_state import InstanceState, find_trouble, new_instance_state
from reconciler.watch.messages import say_end

WELL = CycleResult(KnownStatus("active", "paid"), check_id="own")


def manifest(digest: str = "1") -> Manifest:
    return Manifest("a", {}, {}, Origin("a.yaml", 1, digest), Path())


def report(outcome: Outcome = "in_sync", *, turned: CycleResult | None = WELL, **connect: Any) -> InstanceReport:
    view = ConnectView(**connect) if connect else None
    return InstanceReport("a", "production", outcome, 5, connect=view, turned=turned)


def fresh(interval: float = 60.0, position: int = 0) -> InstanceState:
    return new_instance_state(manifest(), interval, 1000.0 + interval * phase(position), 1000.0)


def test_the_first_recorded_check_is_the_startup_check() -> None:
    one = fresh()
    assert one.check_type == "startup"
    one.end(report("failed", turned=None), 1001.0)
    assert one.check_type == "startup"
    assert (one.end(report(), 1003.0), one.check_type) == (1060.0, "scheduled")


def test_failures_back_off_but_never_past_the_next_slot() -> None:
    one = fresh()
    one.end(report(), 1000.0)
    waits = [one.end(report("degraded"), 1001.0) - 1001.0 for _ in range(5)]
    assert [low <= wait <= 2 * low for low, wait in zip((1, 2, 4, 8, 16), waits, strict=True)] == [True] * 5
    assert [one.end(report("failed", turned=None), 1001.0) for _ in range(50)][-1] == 1060.0


def test_a_long_outage_is_retried_every_5_minutes_for_ever() -> None:
    one = fresh(3600.0)
    now = 1000.0
    for _ in range(1000):
        now, before = one.end(report("failed", turned=None), now), now
        assert 0 < now - before <= 300.0
    assert one.failures == 1000


@pytest.mark.parametrize("healed_by", ["success", "a new manifest"])
def test_backoff_is_reset(healed_by: str) -> None:
    one = fresh(3600.0)
    for _ in range(20):
        one.end(report("failed", turned=None), 1000.0)
    if healed_by == "success":
        one.end(report(), 1000.0)
    else:
        one.adopt(manifest("2"))
    assert one.end(report("failed", turned=None), 1000.0) <= 1002.0


def test_not_converging_is_one_alert_and_retried_soon() -> None:
    one, said = fresh(3600.0), io.StringIO()
    differing = replace(report("failed"), exit_code=1, error=ErrorInfo("not_converged", "these differ: queue/Sales"))
    for ended in (differing, differing, report()):
        say_end(EventLog(said, "json"), one, ended)
        due = one.end(ended, 1000.0)
        assert (due <= 1010.0, one.last_success) == ((False, 1000.0) if ended.error is None else (True, None))
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(event.get("alert"), event["level"]) for event in events] == [
        ("not_converged", "error"),
        (None, "error"),
        ("recovered", "info"),
    ]


DOWN = ErrorInfo("connect_unreachable", "nobody is there")
UNFINISHED = ErrorInfo("adoption_unfinished", "committed, but indexes are not all made yet")


@pytest.mark.parametrize(
    ("outcome", "error", "view", "said"),
    [
        ("changed", UNFINISHED, ConnectView(InstanceStatus("a", "active", "paid", {})), ["adoption_unfinished"]),
        ("degraded", UNFINISHED, ConnectView(status_error=DOWN), ["adoption_unfinished"]),
        ("in_sync", UNFINISHED, None, ["adoption_unfinished"]),
        ("degraded", DOWN, ConnectView(InstanceStatus("a", "active", "paid", {}), plans_error=DOWN), [DOWN.code]),
        ("degraded", DOWN, ConnectView(status_error=DOWN), []),  # the check reported it already
        ("skipped", DOWN, ConnectView(status_error=DOWN), []),
    ],
)
def test_errors_that_leave_a_cycle_incomplete_are_logged(
    outcome: Outcome, error: ErrorInfo, view: ConnectView | None, said: list[str]
) -> None:
    log, one = io.StringIO(), fresh()
    say_end(EventLog(log, "json"), one, replace(report(outcome), exit_code=1, error=error, connect=view))
    assert [json.loads(line)["error"] for line in log.getvalue().splitlines()] == said


def test_an_instance_that_stays_busy_is_reported() -> None:
    log, one = io.StringIO(), fresh(3600.0)
    held = replace(report("busy", turned=None), exit_code=4, error=ErrorInfo("busy", "another run holds a"))
    for _ in range(8):
        one.end(held, 1000.0)
        say_end(EventLog(log, "json"), one, held)
    assert [json.loads(line)["level"] for line in log.getvalue().splitlines()] == ["warning"] * 3


def test_an_instance_that_stays_busy_for_long_is_one_alert_and_its_end_another() -> None:
    """A log line alone reaches nobody: neither the check nor its lock was made for hours."""
    log, one = io.StringIO(), fresh(3600.0)
    held = replace(report("busy", turned=None), exit_code=4, error=ErrorInfo("busy", "another run holds a"))
    for _ in range(20):
        one.end(held, 1000.0)
        say_end(EventLog(log, "json"), one, held)
    one.end(report(), 2000.0)
    say_end(EventLog(log, "json"), one, report())
    alerts = [event for line in log.getvalue().splitlines() if (event := json.loads(line)).get("alert")]
    assert [(alert["alert"], alert.get("error")) for alert in alerts] == [("failing", "busy"), ("recovered", None)]
    assert alerts[0]["message"] == "❌ cannot be reconciled: another run holds a"
    assert alerts[1]["message"] == "✅ recovered: reconciled again (it was busy)"


@pytest.mark.parametrize(
    ("outcome", "code", "soon"),
    [
        ("in_sync", 0, False),
        ("changed", 0, False),
        ("skipped", 0, False),
        ("changed", 1, True),  # committed, and something after it failed
        ("skipped", 5, True),
        ("failed", 78, True),
        ("refused", 3, True),
        ("busy", 4, True),
        ("degraded", 5, True),
    ],
)
def test_what_did_not_do_its_work_is_tried_again_soon(outcome: Outcome, code: int, soon: bool) -> None:
    one = fresh(3600.0)
    assert (one.end(replace(report(outcome), exit_code=code), 1000.0) <= 1002.0) is soon


def test_a_retry_after_shortens_no_wait() -> None:
    one = fresh(3600.0)
    for _ in range(10):
        due = one.end(report("degraded", retry_after_s=1.0), 1000.0)
    assert due > 1100.0


def test_the_first_cycle_belongs_to_its_slot() -> None:
    one = fresh()
    first = one.begin(1000.0)
    assert (first.due, first.fresh_s) == (True, 2.0)
    one.end(report(), 1000.5)
    assert (one.begin(1030.0).due, one.begin(1060.0).fresh_s) == (False, 54.0)


@pytest.mark.parametrize(
    ("interval", "slot"),
    [(600.0, 1060.0), (30.0, 1030.0)],
)
def test_a_new_interval_never_delays_the_next_slots_check(interval: float, slot: float) -> None:
    one = fresh()
    one.end(report(), 1000.0)
    one.adopt_interval(interval, 1000.0 + interval, 1001.0)
    assert one.slot == slot


QUEUE = Resource(Key("queue", "Sales"), {"description": None})
DRIFT = Update(QUEUE.key, (FieldChange("description", "by hand", None),), "manifest", "drift", QUEUE, QUEUE)


def test_unrepaired_drift_counts_until_a_cycle_finds_none() -> None:
    """The kind that had drift stays, at 0: otherwise its gauge would keep the last figure."""
    one, clean = fresh(), Plan("a", "production", ())
    intent = replace(DRIFT, key=Key("queue", "Night"), cause="intent")
    plan = replace(clean, changes=(DRIFT, intent), managed={"setting": Managed(())})
    found = replace(report(), plan=plan, left=True)
    one.end(found, 1000.0)
    assert (one.drift, one.alerted_drift) == ({"setting": 0, "queue": 1}, ("queue/Sales",))
    one.end(report("failed", turned=None), 1001.0)
    assert (one.drift, one.begin(1002.0).alerted_drift) == ({"setting": 0, "queue": 1}, ("queue/Sales",))
    one.end(replace(report(), plan=clean), 1003.0)
    assert (one.drift, one.alerted_drift) == ({"setting": 0, "queue": 0}, ())
    one.end(replace(found, left=False), 1004.0)  # repaired
    assert (one.drift["queue"], one.alerted_drift) == (0, ())


@pytest.mark.parametrize(
    ("outcome", "trouble"), [("failed", "guard"), ("refused", "guard"), ("busy", None), ("changed", None)]
)
def test_a_trouble_is_what_keeps_the_instance_from_being_reconciled(outcome: Outcome, trouble: str | None) -> None:
    assert find_trouble(replace(report(outcome), error=ErrorInfo("guard", "all queues would go"))) == trouble


def test_a_new_manifest_ends_all_fights() -> None:
    one = fresh()
    for now in range(5):
        one.fights.corrected(Plan("a", "production", (DRIFT,)), float(now))
    held = one.fights.held
    one.adopt(manifest("2"))
    assert (held, one.fights.held) == (("queue/Sales/description",), ())


def test_a_suspended_manifest_without_connect_is_retried_soon() -> None:
    one = fresh(3600.0)
    unanswered = replace(report("skipped"), exit_code=5, error=ErrorInfo("connect_unreachable", "nobody is there"))
    assert one.end(unanswered, 1000.0) <= 1002.0
    assert (one.failures, one.last_success) == (1, None)
    assert one.end(report("skipped"), 1002.0) == 4600.0


def test_connects_retry_after_is_honoured_up_to_5_minutes() -> None:
    one = fresh()
    assert one.end(report("degraded", retry_after_s=120.0), 1000.0) == 1120.0
    assert one.end(report("degraded", retry_after_s=1e6), 1000.0) == 1300.0


def test_a_retry_after_for_plans_alone_delays_no_check() -> None:
    one = fresh()
    heard = InstanceStatus("a", "active", "paid", {})
    assert one.end(report("degraded", status=heard, retry_after_s=30.0), 1000.0) == 1030.0
    assert one.end(report("degraded", status=heard, retry_after_s=300.0), 1000.0) == 1060.0


def test_usage_is_reported_once_per_slot_unless_it_failed() -> None:
    one = fresh()
    assert one.begin(1000.0).report_usage is False
    one.end(report(), 1001.0)
    assert one.begin(1060.0).report_usage is True
    one.end(report("failed", turned=None), 1061.0)
    assert one.begin(1062.0).report_usage is True
    one.end(report("degraded", turned=CycleResult(KnownStatus(), check_id="own", usage_queued=True)), 1062.0)
    assert one.begin(1064.0).report_usage is False


def test_a_slots_check_that_could_not_be_recorded_is_its_retrys() -> None:
    one = fresh()
    one.end(report(), 1000.0)
    asked = [one.begin(1060.0).due]
    for begun, ended in ((1062.0, report("failed", turned=None)), (1065.0, report("busy", turned=None))):
        one.end(ended, begun - 0.5)
        asked.append(one.begin(begun).due)
    one.end(report("degraded"), 1065.5)
    assert (asked, one.begin(1068.0).due) == ([True, True, True], False)


def test_a_check_stays_owed_until_it_is_logged_by_any_watch() -> None:
    """The lock follows Connect even if the log of checks accepts no row."""
    one = fresh()
    one.end(report(), 1000.0)
    one.begin(1060.0)
    one.end(report("failed", turned=CycleResult(KnownStatus("active", "paid"))), 1060.5)
    retry = one.begin(1062.0)
    one.end(report("failed", turned=CycleResult(KnownStatus(), checked_ago_s=1.0)), 1062.5)
    assert (retry.due, one.begin(1065.0).due) == (True, False)


def test_a_slot_that_comes_during_a_retry_has_a_turn_of_its_own() -> None:
    one = fresh()
    one.end(report(), 1000.0)
    one.begin(1059.9)
    due = one.end(report(), 1060.2)
    asked = one.begin(1060.2)
    assert (due, asked.due, asked.report_usage, one.end(report(), 1060.4)) == (1060.0, True, True, 1120.0)


def test_a_watch_that_follows_another_one_stays_behind_it() -> None:
    one = fresh()
    one.end(report(), 1000.0)
    assert one.end(report(turned=CycleResult(KnownStatus(), checked_ago_s=20.0)), 1060.0) == 1060.0 + 40.0 + 6.0


@pytest.mark.parametrize("ago_s", [0.0, 2.0, 20.0, 35.0, 50.0])
def test_one_that_followed_another_watch_goes_back_to_its_own_slots(ago_s: float) -> None:
    """Once the other one is gone: within two cycles, and no two checks come within half an interval."""
    one = fresh(position=3)
    own = one.end(report(), 1000.0)
    due = one.end(report(turned=CycleResult(KnownStatus(), checked_ago_s=ago_s)), own)
    dues = [due]
    for _ in range(3):
        one.begin(dues[-1])
        dues.append(one.end(report(), dues[-1] + 0.1))
    assert all(0.4 * 60.0 <= later - due <= 60.0 for due, later in itertools.pairwise(dues))
    assert [abs(later - own - 60.0 * round((later - own) / 60.0)) < 1e-6 for later in dues[-2:]] == [True, True]


@pytest.mark.parametrize(("ago_s", "due"), [(25.0, 6120.0), (40.0, 6090.0 + 20.0 + 6.0)])
def test_a_check_by_a_worker_that_was_lost_moves_no_slot(ago_s: float, due: float) -> None:
    """A check younger than the slot is the slot's own; an older one is another watch's, which is followed."""
    one = InstanceState(manifest(), 60.0, 6000.0, 6060.0, started=True, shared=True)
    one.begin(6090.0)
    assert one.end(report(turned=CycleResult(KnownStatus(), checked_ago_s=ago_s)), 6090.0) == due


def test_nor_does_one_that_was_lost_in_a_retry() -> None:
    one = InstanceState(manifest(), 60.0, 6000.0, 6060.0, started=True, shared=True, failures=3)
    one.begin(6040.0)
    assert one.end(report(turned=CycleResult(KnownStatus(), checked_ago_s=5.0)), 6040.0) == 6060.0


@pytest.mark.parametrize(
    ("check_type", "last", "repeat"),
    [
        ("scheduled", None, False),
        ("scheduled", LastCheck("one", 10.0, "scheduled", success=True), True),
        ("scheduled", LastCheck("one", 10.0, "startup", success=True), True),
        ("scheduled", LastCheck("one", 54.0, "scheduled", success=True), False),
        ("scheduled", LastCheck("one", -86400.0, "scheduled", success=True), False),
        ("scheduled", LastCheck("one", 10.0, "scheduled", success=False), False),
        ("startup", LastCheck("one", 1.0, "scheduled", success=True), False),
        ("startup", LastCheck("one", 1.0, "startup", success=True), True),
    ],
)
def test_a_check_that_another_watch_just_made_is_a_repeat(
    check_type: Any, last: LastCheck | None, repeat: bool
) -> None:
    assert is_repeat(last, check_type, own=None, fresh_s=54.0) is repeat
    assert is_repeat(last, check_type, own="one", fresh_s=54.0) is False


@pytest.mark.parametrize(
    ("last", "made"),
    [
        (None, False),
        (LastCheck("one", 10.0, "scheduled", success=False), True),
        (LastCheck("one", 20.0, "scheduled", success=False), False),
        (LastCheck("one", 10.0, "scheduled", success=True), False),
        (LastCheck("own", 10.0, "scheduled", success=False), False),
        (LastCheck("one", -86400.0, "scheduled", success=False), False),
    ],
)
def test_a_lost_turns_failed_check_is_the_slots(last: LastCheck | None, made: bool) -> None:
    assert is_made(last, "own", slot_age_s=20.0) is made


def test_only_a_slots_own_turn_has_the_age_of_its_slot() -> None:
    one = fresh()
    startup = one.begin(1000.5).slot_age_s
    one.end(report(), 1001.0)
    at_slot = one.begin(1062.0).slot_age_s
    one.end(report("degraded"), 1063.0)
    retry, after_a_pause = one.begin(1065.0).slot_age_s, one.begin(1060.0 + 60 * 7 + 5).slot_age_s
    assert (startup, at_slot, retry, after_a_pause) == (0.0, 2.0, 0.0, 5.0)


def test_a_workers_retry_knows_how_old_its_slot_is() -> None:
    """So it finds the check of a retry that was lost with its worker. A watch's slots begin when the watch does."""
    ages = []
    for shared in (False, True):
        one = fresh()
        one.shared = shared
        one.end(report(), 1000.0)
        one.begin(1060.0)
        one.end(report("degraded"), 1061.0)
        ages.append(one.begin(1065.0).slot_age_s)
    assert ages == [0.0, 5.0]


def test_a_lost_turns_check_owes_no_usage_report() -> None:
    one = fresh()
    one.end(report(), 1000.0)
    one.begin(1060.0)
    one.end(report("degraded", turned=CycleResult(KnownStatus(), "theirs", checked_ago_s=1.0)), 1061.0)
    assert (one.own_check, one.begin(1063.0).report_usage) == ("theirs", False)


async def test_a_turn_that_hangs_gives_its_place_up_once() -> None:
    slots = Limiter(1, patience_s=0.05)
    answers = asyncio.Event()

    async def turn(*, hangs: bool = False) -> None:
        async with slots.held():
            if hangs:
                await answers.wait()

    async with asyncio.timeout(30):
        await slots.take()
        hung = asyncio.create_task(turn(hangs=True))
        for _ in range(3):
            await slots.take()
            await turn()
        assert not hung.done()
        answers.set()
        await hung
        await slots.take()
        async with slots.held(slow=True):
            await slots.take()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await slots.take()
