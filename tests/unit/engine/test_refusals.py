"""What stops a run before any guard counts changes."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from reconciler.engine.guards import (
    configured_as,
    refuse_another,
    refuse_stale,
    refuse_unknown_drift,
    saved_instances,
)
from reconciler.engine.run import Run
from reconciler.model.errors import ConnectError, FivrecError, Refused
from reconciler.model.types import Applied, ConnectView, ErrorInfo, Key, SealedKey, Snapshot
from reconciler.planning.audit import Actor
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport, Outcome
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from tests.support.examples import INSTANCE, NOON, desired, snapshot

PLAN = Plan(INSTANCE, "production", ())


def test_an_answer_for_another_instance_ends_the_run() -> None:
    another = ErrorInfo("connect_wrong_instance", "it answered for client-b")
    with pytest.raises(ConnectError, match="client-b") as raised:
        refuse_another(ConnectView(status_error=another))
    assert raised.value.code == another.code
    refuse_another(ConnectView(status_error=ErrorInfo("connect_timeout", "no answer")))


@pytest.mark.parametrize(("exists", "code"), [(True, "instance_not_configured"), (False, "database_missing")])
def test_drift_is_unknown_if_nothing_was_applied(exists: bool, code: str) -> None:
    with pytest.raises(FivrecError) as raised:
        refuse_unknown_drift(desired(), Snapshot(None, database_exists=exists))
    assert raised.value.code == code
    refuse_unknown_drift(desired(), replace(snapshot(), applied={Key("queue", "a"): Applied({}, "1", NOON)}))


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"applied": ["other"]}, "other"),
        ({"applied": ["other"], "owner": INSTANCE}, None),  # its row names the owner
        ({"applied": ["other", INSTANCE]}, None),
        ({"applied": ["other"], "audit_key": SealedKey(INSTANCE, "x")}, None),
        ({"applied": ["other"], "audit_key": SealedKey("other", "x")}, "other"),
        ({"applied": []}, None),
    ],
)
def test_a_database_without_its_row_is_whose_the_record_says(known: dict[str, Any], name: str | None) -> None:
    applied = {Key("config", one): Applied({}, "1", NOON) for one in known["applied"]}
    assert configured_as(Snapshot(1, **{**known, "applied": applied}), INSTANCE) == name


@pytest.mark.parametrize(
    ("outcome", "saved"),
    [("in_sync", 1), ("changed", 1), ("degraded", 1), ("skipped", 1), ("failed", 0), ("refused", 0), ("busy", 0)],
)
def test_the_plan_of_what_could_not_be_compared_is_not_saved(outcome: Outcome, saved: int) -> None:
    report = InstanceReport(INSTANCE, "production", outcome, 5, plan=PLAN)
    assert len(saved_instances([desired()], [report])) == saved


def test_an_instance_that_no_plan_was_made_for_is_not_applied() -> None:
    run = Run("1", "apply", Actor("ana"), KeyRing(()), EventLog(io.StringIO()), lambda: NOON, saved={})
    with pytest.raises(Refused, match=f"no plan was made for {INSTANCE}") as caught:
        refuse_stale(PLAN, desired(), run, ConnectView())
    assert "--limit or --changed-since, give the same here" in str(caught.value.hint)  # as to plan again the same way
    refuse_stale(PLAN, desired(), replace(run, saved=None), ConnectView())
