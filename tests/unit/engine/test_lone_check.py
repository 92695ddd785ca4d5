"""When the check beside a failed cycle is due."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.engine.lone_check import is_due
from reconciler.engine.run import CycleContext, Run
from reconciler.model.types import Ignore
from reconciler.planning.audit import Actor
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.examples import NOON, desired, view

LOCKED = KnownStatus("suspended", "paid", locked=True)


def turn(last_known: KnownStatus | None, *, due: bool = False, **more: object) -> Run:
    context = CycleContext(60.0, due=due, retry=True, last_known=last_known)
    return Run(
        "1", "watch", Actor("test"), KeyRing(()), EventLog(io.StringIO()), now=lambda: NOON, turn=context, **more
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last_known", "due", "expected"),
    [
        (LOCKED, False, False),
        (LOCKED, True, True),
        (None, False, True),
        (replace(LOCKED, status="active"), False, True),
        (replace(LOCKED, billing_status="overdue"), False, True),
        (replace(LOCKED, locked=False), False, True),  # the lock could not be followed
    ],
)
def test_once_a_slot_at_news_and_while_the_lock_is_not_followed(
    last_known: KnownStatus | None, due: bool, expected: bool
) -> None:
    assert is_due(desired(), turn(last_known, due=due), view("suspended")) is expected


def test_a_lock_that_suspend_keeps_away_is_not_tried_again() -> None:
    open_still = replace(LOCKED, locked=False)
    assert is_due(replace(desired(), suspend=True), turn(open_still), view("suspended")) is False


def test_an_ignored_lock_is_followed_in_the_next_run_at_the_earliest() -> None:
    """The entry ended at midnight, while this run was in progress."""
    until = NOON.date() - timedelta(days=1)
    wanted = desired(ignore=(Ignore("status/*/is_locked", "a campaign", until),))
    open_still = replace(LOCKED, locked=False)
    assert is_due(wanted, turn(open_still, day=until), view("suspended")) is False
    assert is_due(wanted, turn(open_still, day=NOON.date()), view("suspended")) is True
