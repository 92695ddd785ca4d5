"""Which alerts a run raises: transitions only, each once; the end of a trouble by what ended it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconciler.engine.alerts import (
    build_alert,
    find_check_alerts,
    find_drift_alert,
    find_failure_alert,
    report_check,
    say,
    store_alerts,
    with_recovery,
)
from reconciler.engine.run import CycleContext, Run
from reconciler.model.changes import Cause, Create, FieldChange, Update
from reconciler.model.errors import DatabaseError, NotConverged
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, ConnectView, Desired, ErrorInfo, Key, Resource
from reconciler.planning.alerts import Alert
from reconciler.planning.audit import Actor
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.examples import INSTANCE, NOON, desired, queue, view

DESIRED = desired()


def run_of(**turn: Any) -> Run:
    log = EventLog(io.StringIO(), "json")
    known = CycleContext(60.0, **turn) if turn else None
    return Run("1", "watch", Actor("test"), KeyRing(()), log, lambda: NOON, turn=known)


def changed(cause: Cause, name: str = "Sales") -> Update:
    row = queue(name)
    return Update(row.key, (FieldChange("description", "x", None),), "manifest", cause, row, row)


def words(found: tuple[Alert, ...]) -> list[tuple[str, str]]:
    return [(alert.name, alert.message) for alert in found]


LEFT = "🔎 changed by somebody else, and left as it is: queue/Sales"
PUT_BACK = "🔧 changed by somebody else, and put back: queue/Sales"


@pytest.mark.parametrize(
    ("before", "made", "told"),
    [
        ((), True, [("drift_repaired", PUT_BACK)]),
        (("queue/Sales",), True, [("drift_repaired", PUT_BACK)]),  # each repair is an alert, however many
        ((), False, [("drift_found", LEFT)]),
        (("queue/Sales",), False, []),
        (("queue/Night", "queue/Sales"), False, [("drift_found", LEFT)]),  # different drift
    ],
)
def test_unrepaired_drift_is_alerted_once_repaired_drift_each_time(
    before: tuple[str, ...], made: bool, told: list[tuple[str, str]]
) -> None:
    changes = (changed("drift"), changed("intent", "Night"))
    assert words(find_drift_alert(run_of(alerted_drift=before), DESIRED, changes, made=made)) == told


def test_manual_applies_raise_no_alerts() -> None:
    assert find_drift_alert(run_of(), DESIRED, (changed("drift"),), made=True) == ()
    assert find_failure_alert(run_of(), DESIRED, DatabaseError("away", code="database_unreachable")) == ()


@pytest.mark.parametrize(
    ("own", "kind", "made", "told"),
    [
        ("1", "database", True, ["drift_repaired"]),
        ("1", "schema", True, ["drift_repaired"]),
        ("1", "queue", True, []),
        ("1", "database", False, []),
        (None, "database", True, []),  # the first cycle creates it
    ],
)
def test_a_database_that_is_made_again_is_a_loss(own: str | None, kind: str, made: bool, told: list[str]) -> None:
    new = Create(Key(kind, "app"), (), "manifest", "new", Resource(Key(kind, "app"), {}))
    found = find_drift_alert(run_of(own_check=own), DESIRED, (new,), made=made)
    assert [alert.name for alert in found] == told


@pytest.mark.parametrize(
    ("error", "recorded", "told"),
    [
        (DatabaseError("away", code="database_unreachable"), None, ["failing"]),
        (DatabaseError("away", code="database_unreachable"), "database_unreachable", []),
        (DatabaseError("away", code="database_unreachable"), "guard", ["failing"]),
        (NotConverged("these differ", written=True), None, ["not_converged"]),
    ],
)
def test_a_trouble_is_alerted_when_it_begins(error: DatabaseError, recorded: str | None, told: list[str]) -> None:
    found = find_failure_alert(run_of(recorded=recorded), DESIRED, error)
    assert [(alert.name, alert.fields["error"]) for alert in found] == [(name, error.code) for name in told]


def test_the_end_of_a_trouble_is_alerted_with_connects_or_alone() -> None:
    run = run_of(recorded="guard")
    suspended, back = (build_alert(run, INSTANCE, name) for name in ("suspended", "recovered"))
    assert [alert.fields.get("was") for alert in with_recovery(run, DESIRED, (suspended, back))] == [None, "guard"]
    (first, alone) = with_recovery(run, DESIRED, (suspended,))
    assert (first, alone.name, alone.fields["was"]) == (suspended, "recovered", "guard")
    assert alone.message == "✅ recovered: reconciled again (it was guard)"
    assert with_recovery(run_of(due=True), DESIRED, (suspended,)) == (suspended,)


DOWN = ConnectView(status_error=ErrorInfo("connect_timeout", "no answer in 30 s"))
HEARD, UNHEARD = KnownStatus("active", "paid"), KnownStatus("active", "paid", reachable=False)


def connected() -> Desired:
    return Desired(INSTANCE, DESIRED.environment, DESIRED.database, ConnectTarget("embedded:", Secret("k")), managed={})


def test_a_check_that_fails_is_one_event_with_its_alert() -> None:
    run = run_of(due=True)
    found = find_check_alerts(run, connected(), DOWN, HEARD, UNHEARD)
    assert words(found) == [("connect_unreachable", "❌ no answer in 30 s")]
    report_check(run, connected(), DOWN, found, checked=True)
    (line,) = run.log.stream.getvalue().splitlines()  # type: ignore[attr-defined]
    event = json.loads(line)
    assert (event["operation"], event["alert"], event["error"]) == (
        "status_check",
        "connect_unreachable",
        "connect_timeout",
    )


def test_what_tells_nothing_of_connect_is_no_alert_about_it() -> None:
    assert find_check_alerts(run_of(), connected(), ConnectView(), HEARD, UNHEARD) == ()
    assert find_check_alerts(run_of(), DESIRED, DOWN, HEARD, UNHEARD) == ()  # no Connect


@pytest.mark.parametrize("checked", [True, False])
def test_a_check_made_by_another_watch_is_not_logged(checked: bool) -> None:
    run = run_of(due=True)
    report_check(run, connected(), view(), (), checked=checked)
    assert bool(run.log.stream.getvalue()) is checked  # type: ignore[attr-defined]


@pytest.mark.parametrize(("stored", "named"), [(True, True), (False, False)])
def test_only_stored_alerts_are_known_by_their_id(stored: bool, named: bool) -> None:
    """Receivers of an alert that is not stored get an id of their own, which nobody looks up in a database."""
    run = run_of()
    say(run.log, Alert("id-1", "suspended", INSTANCE, "warning", "suspended", NOON, {}, stored=stored))
    assert ("alert_id" in json.loads(run.log.stream.getvalue())) is named  # type: ignore[attr-defined]


async def test_alerts_that_cannot_be_stored_are_raised_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def away(*_: object) -> AsyncIterator[None]:
        raise DatabaseError("nobody is there", code="database_unreachable")
        yield

    monkeypatch.setattr("reconciler.engine.alerts.database", away)
    run = run_of()
    alert = build_alert(run, INSTANCE, "failing")
    assert await store_alerts(DESIRED, run, (alert,)) == (alert,)
