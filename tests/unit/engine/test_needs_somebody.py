"""needs_somebody: which instances `status --problems` and the fleet's page name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.database.status_queries import CheckLog, LastRun, StatusView
from reconciler.engine.status_and_logs import is_unchecked, needs_somebody
from reconciler.model.changes import Former
from reconciler.model.types import Key, OpenDrift

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
CHECK = CheckLog("1", NOON, "scheduled", True, "active", None, 12)
RUN = LastRun("run-1", NOON, "apply", "ana", None, "in_sync", None, 0, 0)
WELL = StatusView(
    instance="client-abc-123",
    status="active",
    billing_status="paid",
    enabled_features={},
    is_locked=False,
    check_interval_minutes=60,
    connect_api_url="https://connect.example",
    last_status_check=NOON,
    answered=True,
    last_check=CHECK,
    last_run=RUN,
    environment="production",
    declared="production",
)
QUEUE = Key("queue", "Sales")
WRONG = {
    "never applied": None,
    "locked": replace(WELL, is_locked=True),
    "suspended": replace(WELL, status="suspended"),
    "never answered": replace(WELL, status=None),
    "overdue": replace(WELL, billing_status="overdue"),
    "never checked": replace(WELL, last_check=None),
    "a failed check": replace(WELL, last_check=replace(CHECK, success=False, status_received=None)),
    "Connect's word is not followed": replace(WELL, last_check=replace(CHECK, status_received="suspended")),
    "refused": replace(WELL, last_run=replace(RUN, outcome="refused")),
    "drift that stays": replace(WELL, last_run=replace(RUN, open_drift=(OpenDrift(QUEUE, NOON),))),
    "former": replace(WELL, last_run=replace(RUN, former=(Former(QUEUE, "run-0", NOON),))),
    "another environment": replace(WELL, declared="development"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_needs_somebody(what: str) -> None:
    assert needs_somebody(WRONG[what])


@pytest.mark.parametrize("view", [WELL, replace(WELL, last_run=None), replace(WELL, last_run=replace(RUN, drift=1))])
def test_what_needs_nobody(view: StatusView) -> None:
    assert not needs_somebody(view)


@pytest.mark.parametrize(("minutes", "old"), [(120, False), (121, True)])
def test_a_check_is_outdated_after_two_intervals(minutes: int, old: bool) -> None:
    now = NOON + timedelta(minutes=minutes)
    assert is_unchecked(WELL, now) is old
    assert not is_unchecked(replace(WELL, last_check=None), now)
