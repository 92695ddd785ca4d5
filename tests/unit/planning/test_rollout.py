"""rollout: which instances go first, how many at a time, and when it stops."""

from __future__ import annotations

import pytest

from reconciler.planning.report import InstanceReport, Outcome, exit_code
from reconciler.planning.rollout import Rollout, failed, is_amount, share, stop_reason, waves


@pytest.mark.parametrize(
    ("total", "rollout", "sizes"),
    [
        (30, Rollout(), [30]),
        (30, Rollout(canary=1), [1, 29]),
        (30, Rollout(canary=2, serial="10%"), [2, *[3] * 9, 1]),
        (30, Rollout(serial="40%"), [12, 12, 6]),
        (5, Rollout(serial="2"), [2, 2, 1]),
        (5, Rollout(serial="1%"), [1] * 5),  # at least one at a time
        (5, Rollout(serial="0"), [1] * 5),
        (5, Rollout(canary=9, serial="2"), [5]),
        (0, Rollout(canary=1, serial="2"), []),
        (1, Rollout(canary=1), [1]),
    ],
)
def test_waves(total: int, rollout: Rollout, sizes: list[int]) -> None:
    found = list(waves(range(total), rollout))
    assert [len(wave) for wave in found] == sizes
    assert [item for wave in found for item in wave] == list(range(total))


@pytest.mark.parametrize(
    ("amount", "total", "number"), [("5", 10, 5), ("50%", 3, 1), ("5%", 30, 1), ("100%", 7, 7), ("0.5%", 200, 1)]
)
def test_a_share_is_rounded_down(amount: str, total: int, number: int) -> None:
    assert share(amount, total) == number


@pytest.mark.parametrize(
    ("text", "right"),
    [("0", True), ("12", True), ("5%", True), ("0.5%", True), ("100%", True), ("101%", False), ("-1", False),
     ("1.5", False), ("%", False), ("five", False), ("", False), ("5 %", False), ("1e3", False)],
)  # fmt: skip
def test_an_amount_is_a_number_or_a_share(text: str, right: bool) -> None:
    assert is_amount(text) is right


@pytest.mark.parametrize(
    ("failures", "total", "limit", "goes_on"),
    [(0, 30, None, True), (1, 30, None, False), (1, 30, "5%", True), (2, 30, "5%", False), (2, 30, "2", True)],
)
def test_it_stops_if_more_than_allowed_failed(failures: int, total: int, limit: str | None, goes_on: bool) -> None:
    reason = stop_reason(failures, total, Rollout(serial="1", max_fail=limit), canary=False)
    assert (reason is None) is goes_on


def test_an_unstaged_rollout_never_stops() -> None:
    assert stop_reason(29, 30, Rollout(), canary=False) is None


def test_any_failure_of_the_canary_stops() -> None:
    rollout = Rollout(canary=2, max_fail="50%")
    assert stop_reason(1, 30, rollout, canary=True) == "1 of 2 canary instances failed"
    assert stop_reason(1, 30, rollout, canary=False) is None


def test_the_reason_says_how_many_of_how_many() -> None:
    reason = stop_reason(2, 30, Rollout(max_fail="5%"), canary=False)
    assert reason == "2 of 30 instances failed, more than --max-fail 5% allows"


def ended(outcome: Outcome, code: int = 0, *, attempted: bool = True) -> InstanceReport:
    return InstanceReport("a", "production", outcome, 0, code, attempted=attempted)


@pytest.mark.parametrize(
    ("outcome", "bad"),
    [("in_sync", False), ("changed", False), ("skipped", False), ("degraded", True), ("failed", True),
     ("refused", True), ("busy", True)],
)  # fmt: skip
def test_what_counts_as_failed(outcome: Outcome, bad: bool) -> None:
    assert failed(ended(outcome)) is bad


SKIPPED = ended("skipped", attempted=False)


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([ended("changed"), ended("failed", 1), SKIPPED], 5),
        ([ended("failed", 1), SKIPPED], 1),  # the canary failed, nothing was done
        ([ended("refused", 3), SKIPPED], 3),
        ([ended("changed"), SKIPPED], 0),
        ([SKIPPED], 0),
    ],
)
def test_instances_not_attempted_are_neither_done_nor_failed(reports: list[InstanceReport], code: int) -> None:
    assert exit_code(reports) == code
