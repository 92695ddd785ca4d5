"""check: which outcomes exit with "attention", and which are failures."""

from __future__ import annotations

import pytest

from reconciler.cli.check import _judged, exit_code
from reconciler.planning.report import InstanceReport, Outcome
from tests.support.examples import INSTANCE, view


def ended(code: int, status: str = "active", billing: str = "paid", outcome: Outcome = "in_sync") -> InstanceReport:
    return _judged(InstanceReport(INSTANCE, "production", outcome, 5, code, connect=view(status, billing)))


WELL, SUSPENDED, OVERDUE, PENDING = (
    ended(0),
    ended(0, "suspended"),
    ended(0, billing="overdue"),
    ended(0, "pending_payment"),
)
UNHEARD = ended(5, outcome="degraded")
FAILED = ended(1, "suspended", outcome="failed")
REFUSED = ended(3, outcome="refused")


def test_a_check_fails_if_connect_cannot_be_reached() -> None:
    assert (UNHEARD.outcome, UNHEARD.exit_code) == ("failed", 1)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([WELL], 0),
        ([SUSPENDED], 6),
        ([OVERDUE], 6),
        ([PENDING, WELL], 6),
        ([UNHEARD], 1),
        ([FAILED], 1),
        ([REFUSED], 3),
        ([SUSPENDED, FAILED], 5),
        ([WELL, UNHEARD], 5),
        ([FAILED, REFUSED], 1),
    ],
)
def test_exit_codes_of_check(ends: list[InstanceReport], code: int) -> None:
    assert exit_code(tuple(ends), strict=False) == code
