"""checks: how Connect's answer is judged, for every combination of previous state, answer and reachability."""

from __future__ import annotations

from itertools import product

import pytest

from reconciler.model.kinds import status as kind
from reconciler.model.types import NOT_ASKED, ConnectView, ErrorInfo, Key, Resource
from reconciler.planning.status_check import (
    CheckResult,
    KnownStatus,
    alerts,
    judge,
    known_status,
    needs_attention,
    problem,
    status_after,
)
from tests.support.examples import INSTANCE, state, view

DOWN = ErrorInfo("connect_unreachable", "Fi.V Connect cannot be reached")
FAILED = ConnectView(status_error=DOWN, response_time_ms=12)

# status -> (locked after it if unlocked before, locked after it if locked before)
LOCKS = {"active": (False, False), "suspended": (True, True), "pending_payment": (False, True)}
BILLINGS = ("paid", "overdue")
BEFORE = [
    KnownStatus(),
    *(KnownStatus(word, billing, locked) for word, billing, locked in product(LOCKS, BILLINGS, (False, True))),
    *(
        KnownStatus(word, billing, locked, reachable=False)
        for word, billing, locked in product(LOCKS, BILLINGS, (True,))
    ),
]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("billing", BILLINGS)
@pytest.mark.parametrize("word", LOCKS)
def test_every_answer_over_every_standing(word: str, billing: str, before: KnownStatus) -> None:
    locked = LOCKS[word][before.locked]
    assert status_after(before, view(word, billing)) == KnownStatus(word, billing, locked, reachable=True)


@pytest.mark.parametrize("before", BEFORE)
def test_a_failed_check_changes_connects_reachability_only(before: KnownStatus) -> None:
    after = status_after(before, FAILED)
    assert after == KnownStatus(before.status, before.billing_status, before.locked, reachable=False)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("word", LOCKS)
def test_the_plan_writes_the_lock_that_the_standing_says(word: str, locked: bool) -> None:
    managed = kind.from_connect(view(word), "keep")
    assert managed is not None
    written = managed.resources[0].fields.get("is_locked", locked)
    assert written is status_after(KnownStatus("active", "paid", locked), view(word)).locked


def test_a_failed_check_plans_nothing_of_the_status() -> None:
    assert kind.from_connect(FAILED, "keep") is None


TRANSITIONS = [
    # before, after, alerts
    (KnownStatus(), KnownStatus("active", "paid"), ()),
    (KnownStatus(), KnownStatus("suspended", "paid", True), ("suspended",)),
    (KnownStatus(), KnownStatus("pending_payment", "overdue"), ("payment_pending", "overdue")),
    (KnownStatus("active", "paid"), KnownStatus("active", "paid"), ()),
    (KnownStatus("active", "paid"), KnownStatus("suspended", "overdue", True), ("suspended", "overdue")),
    (KnownStatus("active", "paid"), KnownStatus("pending_payment", "paid"), ("payment_pending",)),
    (KnownStatus("active", "paid"), KnownStatus("active", "overdue"), ("overdue",)),
    (KnownStatus("suspended", "overdue", True), KnownStatus("suspended", "overdue", True), ()),
    (KnownStatus("suspended", "paid", True), KnownStatus("pending_payment", "paid", True), ("payment_pending",)),
    (KnownStatus("suspended", "paid", True), KnownStatus("active", "paid"), ("recovered",)),
    (KnownStatus("pending_payment", "overdue"), KnownStatus("active", "overdue"), ()),
    (KnownStatus("active", "overdue"), KnownStatus("active", "paid"), ("recovered",)),
    (KnownStatus("active", "paid"), KnownStatus("active", "paid", reachable=False), ("connect_unreachable",)),
    (KnownStatus("suspended", "paid", True), KnownStatus("suspended", "paid", True, False), ("connect_unreachable",)),
    (KnownStatus("active", "paid", reachable=False), KnownStatus("active", "paid", reachable=False), ()),
    (KnownStatus("active", "paid", reachable=False), KnownStatus("active", "paid"), ("recovered",)),
    (KnownStatus(reachable=False), KnownStatus("active", "paid"), ("recovered",)),
    (
        KnownStatus("active", "paid", reachable=False),
        KnownStatus("suspended", "paid", True),
        ("suspended", "recovered"),
    ),
    (KnownStatus("active", "overdue", reachable=False), KnownStatus("active", "overdue"), ("recovered",)),
]


@pytest.mark.parametrize(("before", "after", "expected"), TRANSITIONS)
def test_alerts_tell_transitions(before: KnownStatus, after: KnownStatus, expected: tuple[str, ...]) -> None:
    assert alerts(before, after) == expected


@pytest.mark.parametrize("standing", BEFORE)
def test_no_standing_alerts_twice(standing: KnownStatus) -> None:
    assert alerts(standing, standing) == ()


@pytest.mark.parametrize(
    ("word", "billing", "attention"),
    [
        ("active", "paid", False),
        ("active", "overdue", True),
        ("suspended", "paid", True),
        ("suspended", "overdue", True),
        ("pending_payment", "paid", True),
        ("pending_payment", "overdue", True),
        (None, None, False),
    ],
)
def test_what_check_ends_with_six_for(word: str | None, billing: str | None, attention: bool) -> None:
    assert needs_attention(KnownStatus(word, billing)) is attention


def test_a_check_that_was_answered_succeeds() -> None:
    assert judge(view("suspended"), "startup") == CheckResult("startup", True, "suspended", None, 41)


def test_a_check_without_an_answer_fails_with_its_error_and_time() -> None:
    assert judge(FAILED, "scheduled") == CheckResult("scheduled", False, None, DOWN, 12)


def test_an_unknown_status_is_a_failed_check_that_keeps_it() -> None:
    odd = ErrorInfo("connect_unknown_status", "Connect answered an unknown status")
    said = ConnectView(status_error=odd, response_time_ms=5, received="frozen")
    assert judge(said, "manual") == CheckResult("manual", False, "frozen", odd, 5)


def test_the_status_problem_comes_before_the_plans_problem() -> None:
    plans = ErrorInfo("connect_http_error", "no plans")
    assert problem(ConnectView(status_error=DOWN, plans_error=plans)) == DOWN
    assert problem(ConnectView(status=view().status, plans_error=plans)) == plans
    assert problem(NOT_ASKED) is None


def stored(**fields: object) -> Resource:
    return Resource(Key("status", INSTANCE), fields)


def test_the_standing_is_read_from_the_row() -> None:
    row = stored(status="suspended", billing_status="overdue", enabled_features={}, is_locked=True)
    assert known_status(state(row), answered=True) == KnownStatus("suspended", "overdue", locked=True)


def test_column_defaults_say_nothing_before_the_first_answer() -> None:
    row = stored(status="active", billing_status="paid", is_locked=False)
    assert known_status(state(row), answered=False) == KnownStatus()


def test_no_row_is_no_standing() -> None:
    assert known_status({}, answered=True, reachable=False) == KnownStatus(reachable=False)
