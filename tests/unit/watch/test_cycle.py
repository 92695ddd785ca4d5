"""How the end of a cycle is counted."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from reconciler.connect.errors import ConnectFault
from reconciler.engine.run import Run
from reconciler.manifest.loader import Manifest
from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import (
    ConnectTarget,
    ConnectView,
    Desired,
    ErrorInfo,
    Ignore,
    InstanceStatus,
    Key,
    Origin,
    Resource,
)
from reconciler.planning.audit import Actor
from reconciler.planning.plan import Plan
from reconciler.planning.report import CycleResult, InstanceReport, Outcome
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from reconciler.watch.cycle import Cycle
from reconciler.watch.instance_state import new_instance_state
from tests.support.examples import INSTANCE, desired

QUEUE = Resource(Key("queue", "Sales"), {"description": None})
DRIFT = Update(QUEUE.key, (FieldChange("description", "by hand", None),), "manifest", "drift", QUEUE, QUEUE)


def quiet_run() -> Run:
    return Run("1", "watch", Actor("test"), KeyRing(()), EventLog(io.StringIO()), now=lambda: datetime.now(UTC))


async def unresolvable(_: Manifest) -> Desired:
    raise AssertionError


FOUGHT = ("queue/Sales/description",)


@pytest.mark.parametrize(
    ("outcome", "report_only", "fought"),
    [("changed", False, FOUGHT), ("degraded", False, FOUGHT), ("skipped", False, ()), ("changed", True, ())],
)
def test_only_what_was_written_was_corrected(outcome: Outcome, report_only: bool, fought: tuple[str, ...]) -> None:
    """A suspended manifest shows its drift in every cycle and corrects none of it: that is not flapping."""
    clock: Any = iter(range(100))
    run = replace(quiet_run(), report_only=report_only)
    turning = Cycle(unresolvable, run, clock=lambda: float(next(clock)))
    one = new_instance_state(Manifest("a", {}, {}, Origin("a.yaml", 1, "1"), Path()), 1.0, 1.0, 0.0)
    plan = Plan("a", "production", (DRIFT,))
    for _ in range(5):
        report = InstanceReport(
            "a", "production", outcome, 5, plan=plan, turned=CycleResult(KnownStatus(), check_id="own")
        )
        turning.end(one, report, "scheduled")
    assert one.fights.held == fought


async def applied(wanted: Desired, *, check_only: bool = False, fought: int = 0) -> Desired:
    """Returns the manifest that a cycle passes on, after that many corrections of one field."""
    seen: list[Desired] = []

    async def resolve(_: Manifest) -> Desired:
        return wanted

    async def apply(item: Desired, run: Run) -> InstanceReport:
        seen.append(item)
        return InstanceReport(INSTANCE, "production", "in_sync", 5)

    turning = Cycle(resolve, quiet_run(), check_only=check_only, clock=lambda: 0.0, apply=apply)
    one = new_instance_state(Manifest(INSTANCE, {}, {}, Origin("a.yaml", 1, "1"), Path()), 1.0, 1.0, 0.0)
    for now in range(fought):
        one.fights.corrected(Plan(INSTANCE, "production", (DRIFT,)), float(now))
    await turning.turn(one, lambda _: None)
    return seen[0]


async def test_a_turn_records_the_commit_of_its_manifests() -> None:
    seen: list[str | None] = []

    async def resolve(_: Manifest) -> Desired:
        return desired(QUEUE)

    async def apply(_: Desired, run: Run) -> InstanceReport:
        seen.append(run.actor.git_commit)
        return InstanceReport(INSTANCE, "production", "in_sync", 5)

    one = new_instance_state(Manifest(INSTANCE, {}, {}, Origin("a.yaml", 1, "1"), Path()), 1.0, 1.0, 0.0)
    commits = iter(("c1", "c2-dirty"))
    turning = Cycle(resolve, quiet_run(), clock=lambda: 0.0, apply=apply, commit=lambda: next(commits))
    for _ in range(2):
        await turning.turn(one, lambda _: None)
    assert seen == ["c1", "c2-dirty"]


async def test_flapping_fields_are_added_to_the_ignore_entries() -> None:
    mine = Ignore("queue/Night", "a campaign")
    wanted = replace(desired(QUEUE), ignore=(mine,))
    assert (await applied(wanted)).ignore == (mine,)
    both = (await applied(wanted, fought=5)).ignore
    assert [entry.pattern for entry in both] == ["queue/Night", *FOUGHT]


@pytest.mark.parametrize(("connect", "lacks"), [(None, True), (ConnectTarget("embedded:", Secret("k")), False)])
async def test_a_check_lacks_nothing_if_it_has_a_key(connect: ConnectTarget | None, lacks: bool) -> None:
    missing = MissingSetting("FIV_ADMIN_PASSWORD is not set")
    wanted = replace(desired(QUEUE), connect=connect, lacks=missing)
    checked = await applied(wanted, check_only=True)
    assert (checked.lacks is missing, checked.managed) == (lacks, {})
    assert (await applied(wanted)).lacks is missing


@pytest.mark.parametrize(
    ("plans_error", "told"), [(None, []), (ErrorInfo("connect_nonsense", "half a list"), ["recovered"])]
)
def test_connects_own_recovery_hides_no_end_of_a_trouble(plans_error: ErrorInfo | None, told: list[str]) -> None:
    """A complete check says both in one alert; one without plans is about Connect alone."""
    run, heard = quiet_run(), []
    run.log.listeners.append(lambda event: heard.append(event["alert"]) if "alert" in event else None)
    one = new_instance_state(Manifest("a", {}, {}, Origin("a.yaml", 1, "1"), Path()), 1.0, 1.0, 0.0)
    one.trouble = "database_unreachable"
    view = ConnectView(InstanceStatus("a", "active", "paid", {}), plans_error=plans_error)
    turned = CycleResult(KnownStatus(), check_id="own", alerts=("recovered",))
    outcome: Outcome = "degraded" if plans_error else "in_sync"
    report = InstanceReport("a", "production", outcome, 5, connect=view, turned=turned, error=plans_error)
    Cycle(unresolvable, run, clock=lambda: 0.0).end(one, report, "scheduled")
    assert heard == told


async def test_a_list_of_databases_that_cannot_be_read_says_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect did answer about the status: the message alone would look like a failed check."""

    async def resolve(_: Manifest) -> Desired:
        return desired(QUEUE)

    async def apply(item: Desired, run: Run) -> InstanceReport:
        view = ConnectView(InstanceStatus(INSTANCE, "active", "paid", {}))
        return InstanceReport(INSTANCE, "production", "in_sync", 5, connect=view)

    async def refused(*_: object) -> None:
        raise ConnectFault("Fi.V Connect API returned 404", code="connect_http_error")

    monkeypatch.setattr("reconciler.watch.cycle.find_database_problems", refused)
    run, said = quiet_run(), []
    run.log.listeners.append(lambda event: said.append(event["message"]))
    observer: Any = Mock()
    one = new_instance_state(Manifest(INSTANCE, {}, {}, Origin("a.yaml", 1, "1"), Path()), 1.0, 1.0, 0.0)
    await Cycle(resolve, run, clock=lambda: 0.0, apply=apply, observer=observer).turn(one, lambda _: None)
    assert said == ["⚠️ Connect's list of databases could not be read: Fi.V Connect API returned 404"]
