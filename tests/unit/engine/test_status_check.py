"""A run and the checks before it: which check is recorded, and what is news. All but the reading is pure."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from reconciler.database.store import Writes
from reconciler.engine.run import CycleContext, Run
from reconciler.engine.status_check import (
    build_cycle_result,
    check_to_record,
    failed_check,
    find_alerts,
    recall_check,
)
from reconciler.engine.writes import check_row
from reconciler.model.secret import Secret
from reconciler.model.types import (
    ConnectTarget,
    ConnectView,
    Desired,
    ErrorInfo,
    Ignore,
    Key,
    LastCheck,
    Resource,
    Snapshot,
)
from reconciler.planning.audit import Actor
from reconciler.planning.plan import Plan, build_plan
from reconciler.planning.status_check import KnownStatus, judge
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.examples import INSTANCE, NOON, snapshot, view
from tests.support.examples import desired as bare

DESIRED = replace(bare(), connect=ConnectTarget("embedded:", Secret("k")))
SUSPENDED = replace(DESIRED, suspend=True)
IGNORING = replace(DESIRED, ignore=(Ignore("status/*", "a campaign"),))
DOWN = ConnectView(status_error=ErrorInfo("connect_unreachable", "nobody is there"))
ACTIVE = KnownStatus("active", "paid")
OTHER = LastCheck("other", 10.0, "scheduled", success=True)
OWN = replace(OTHER, id="own")


def run_of(turn: CycleContext | None = None) -> Run:
    log = EventLog(io.StringIO())
    return Run("1", "watch", Actor("test"), KeyRing(()), log, lambda: NOON, check_type="scheduled", turn=turn)


def turn(last_known: KnownStatus | None = ACTIVE, **more: Any) -> Run:
    return run_of(replace(CycleContext(54.0, "own", last_known=last_known, slot_age_s=20.0), **more))


def seen(status: str = "active", billing: str = "paid", *, locked: bool = False, **more: Any) -> Snapshot:
    fields = {"status": status, "billing_status": billing, "enabled_features": {}, "is_locked": locked}
    return replace(snapshot(Resource(Key("status", INSTANCE), fields)), **more)


def plan_of(desired: Desired, said: ConnectView, found: Snapshot) -> Plan:
    return build_plan(desired, said, found, schema_version=1, today=date(2026, 10, 1))


def is_recorded(run: Run, said: ConnectView, found: Snapshot, desired: Desired = DESIRED) -> bool:
    return check_to_record(desired, run, said, found, plan_of(desired, said, found)) is not None


def told(run: Run, said: ConnectView, found: Snapshot, desired: Desired = DESIRED, **more: Any) -> list[str]:
    how = {"checked": True, "made": True, **more}
    return [item.name for item in find_alerts(desired, run, said, found, plan_of(desired, said, found), **how)]


class TestRecorded:
    def test_a_manual_run_checks_even_right_after_another_check(self) -> None:
        assert is_recorded(run_of(), view(), seen(last_check=OTHER))

    def test_without_connect_no_check_is_recorded(self) -> None:
        assert not is_recorded(run_of(), ConnectView(), seen(), bare())

    @pytest.mark.parametrize(("said", "recorded"), [(view(), False), (view("suspended"), True), (DOWN, False)])
    def test_another_watchs_recent_check_is_repeated_only_for_news(self, said: ConnectView, recorded: bool) -> None:
        assert is_recorded(turn(), said, seen(last_check=OTHER)) is recorded

    @pytest.mark.parametrize(
        ("last", "due", "said", "recorded"),
        [
            (OWN, False, view(), False),
            (OWN, False, view("suspended"), True),
            (OWN, False, DOWN, True),
            (replace(OWN, success=False), False, DOWN, False),
            (OWN, True, view(), True),
            (replace(OWN, id="older", age_s=99.0), False, view(), True),
        ],
    )
    def test_a_retry_within_the_slot_records_news_alone(
        self, last: LastCheck, due: bool, said: ConnectView, recorded: bool
    ) -> None:
        assert is_recorded(turn(retry=True, due=due), said, seen(last_check=last)) is recorded

    @pytest.mark.parametrize(("said", "recorded"), [(DOWN, False), (view(), True)])
    def test_a_slots_failed_check_stands_for_another_one(self, said: ConnectView, recorded: bool) -> None:
        assert is_recorded(turn(), said, seen(last_check=replace(OTHER, success=False))) is recorded


class TestTold:
    def test_a_status_already_in_the_row_is_not_alerted(self) -> None:
        assert told(run_of(), view("suspended"), seen()) == ["suspended"]
        assert told(run_of(), view("suspended"), seen("suspended", locked=True)) == []

    def test_a_check_that_another_made_tells_nothing(self) -> None:
        assert told(run_of(), view("suspended"), seen(), checked=False) == []

    @pytest.mark.parametrize(
        "found", [seen(last_check=replace(OTHER, success=False)), seen(reachable=False, last_check=OTHER)]
    )
    def test_connect_answers_again_after_a_failed_check(self, found: Snapshot) -> None:
        assert told(run_of(), view(), found) == ["recovered"]
        assert told(run_of(), DOWN, found) == []

    def test_what_somebody_wrote_into_the_row_is_no_transition(self) -> None:
        assert told(turn(), view(), seen("suspended", locked=True), made=False) == []

    @pytest.mark.parametrize(("unalerted", "alerts"), [(True, ["suspended"]), (False, [])])
    def test_news_found_by_the_app_is_alerted_once(self, unalerted: bool, alerts: list[str]) -> None:
        assert told(turn(), view("suspended"), seen("suspended", locked=True, unalerted=unalerted)) == alerts

    @pytest.mark.parametrize("desired", [SUSPENDED, IGNORING])
    def test_a_status_not_written_is_known_from_the_last_cycle(self, desired: Desired) -> None:
        last_known = KnownStatus("suspended", "paid")
        found = seen(last_check=OWN, last_received="active")
        assert told(turn(last_known), view("suspended"), found, desired) == []
        assert told(turn(last_known), view(), found, desired) == ["recovered"]
        assert told(turn(last_known), view(billing="overdue"), found, desired) == ["overdue"]

    @pytest.mark.parametrize("desired", [SUSPENDED, IGNORING])
    def test_and_after_a_check_of_others_by_the_log(self, desired: Desired) -> None:
        found = seen(last_check=OTHER, last_received="suspended")
        assert told(turn(), view("suspended", "overdue"), found, desired) == []
        assert told(turn(), view(), seen(last_check=OTHER, last_received="active"), desired) == []

    def test_by_hand_the_billing_is_known_by_the_last_alert(self) -> None:
        found = seen(last_received="active", alerted_billing="overdue")
        assert told(run_of(), view(billing="overdue"), found, SUSPENDED) == []
        assert told(run_of(), view(), found, SUSPENDED) == ["recovered"]

    @pytest.mark.parametrize(("said", "alerts"), [(view(), ["recovered"]), (DOWN, ["connect_unreachable"])])
    def test_a_trouble_ends_with_a_complete_answer_of_connect(self, said: ConnectView, alerts: list[str]) -> None:
        assert told(turn(recorded="guard"), said, seen()) == alerts
        half = replace(view(), plans_error=ErrorInfo("connect_nonsense", "half a list"))
        assert told(turn(recorded="guard"), half, seen()) == []

    @pytest.mark.parametrize(("desired", "words"), [(SUSPENDED, "(suspend: true)"), (IGNORING, "(ignored)")])
    def test_a_lock_that_is_not_followed_is_reported(self, desired: Desired, words: str) -> None:
        said, found = view("suspended"), seen()
        (alert,) = find_alerts(desired, run_of(), said, found, plan_of(desired, said, found), checked=True, made=False)
        assert alert.message == f"⚠️ instance suspended at Fi.V Connect; access is not locked {words}"


class TestNextTurn:
    def result(self, run: Run, found: Snapshot, desired: Desired = DESIRED, *, own: bool = False) -> Any:
        check = check_row(judge(view("suspended"), "scheduled")) if own else None
        plan = plan_of(desired, view("suspended"), found)
        return build_cycle_result(
            desired, run, view("suspended"), found, plan, writes=Writes(run_id="1", check=check), alerts=()
        )

    def test_a_manual_run_has_no_result_for_a_next_cycle(self) -> None:
        assert self.result(run_of(), seen(), own=True) is None

    @pytest.mark.parametrize(("desired", "locked"), [(DESIRED, True), (SUSPENDED, False), (IGNORING, False)])
    def test_the_result_has_the_status_and_whether_it_locked(self, desired: Desired, locked: bool) -> None:
        found = self.result(turn(), seen(), desired, own=True)
        assert found.standing == KnownStatus("suspended", "paid", locked=locked)

    def test_its_own_check_is_of_no_other_watch(self) -> None:
        assert self.result(turn(), seen(last_check=OTHER), own=True).checked_ago_s is None
        assert self.result(turn(), seen(last_check=OWN)).checked_ago_s is None

    @pytest.mark.parametrize("desired", [SUSPENDED, IGNORING])
    def test_an_outage_keeps_the_last_status_that_was_not_written(self, desired: Desired) -> None:
        found, last_known = seen(last_check=OWN, last_received="suspended"), KnownStatus("suspended", "overdue")
        plan = plan_of(desired, DOWN, found)
        result = build_cycle_result(desired, turn(last_known), DOWN, found, plan, writes=Writes(run_id="1"), alerts=())
        assert result is not None
        assert result.standing == replace(last_known, reachable=False)

    @pytest.mark.parametrize(("age", "adopted"), [(10.0, "other"), (30.0, None)])
    def test_a_check_of_others_is_the_slots_if_it_is_younger(self, age: float, adopted: str | None) -> None:
        found = self.result(turn(), seen(last_check=replace(OTHER, age_s=age)))
        assert (found.check_id, found.checked_ago_s) == (adopted, age)


@pytest.mark.parametrize(
    ("run", "said", "recorded"),
    [
        (run_of(), DOWN, True),
        (run_of(), view(), False),
        (turn(), DOWN, True),
        (turn(due=False), DOWN, True),  # it is news
        (turn(replace(ACTIVE, reachable=False)), DOWN, True),  # once per slot
        (turn(replace(ACTIVE, reachable=False), due=False), DOWN, False),
        (turn(None, due=False), DOWN, True),
    ],
)
def test_a_failed_run_records_its_check_once_per_slot_or_if_news(run: Run, said: ConnectView, recorded: bool) -> None:
    assert (failed_check(DESIRED, run, said) is not None) is recorded


@pytest.mark.parametrize(
    ("run", "last", "known"),
    [
        (turn(), OTHER, OTHER),
        (turn(), replace(OTHER, age_s=-3600.0), LastCheck("own", 20.0, "scheduled", success=True)),
        (
            turn(replace(ACTIVE, reachable=False)),
            replace(OTHER, age_s=-3600.0),
            LastCheck("own", 20.0, "scheduled", success=False),
        ),
        (turn(), replace(OWN, age_s=-3600.0), replace(OWN, age_s=-3600.0)),
        (turn(own_check=None), replace(OTHER, age_s=-3600.0), None),
        (run_of(), replace(OTHER, age_s=-3600.0), replace(OTHER, age_s=-3600.0)),
    ],
)
async def test_a_check_of_others_from_the_future_says_nothing_of_now(
    run: Run, last: LastCheck, known: LastCheck | None
) -> None:
    found = seen(last_check=last)
    recalled = await recall_check(None, DESIRED, run, view(), found)  # type: ignore[arg-type]
    assert recalled.last_check == known
