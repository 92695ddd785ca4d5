"""report: the document defined by schemas/report.v1, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs
import pytest

from reconciler.model.changes import Accepted, Conflict, Create, Deactivate, FieldChange, Former, Remove, Update
from reconciler.model.errors import ManifestProblem
from reconciler.model.types import ConnectView, ErrorInfo, Key, Value
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport, Outcome, Report, as_json, exit_code
from tests.support.examples import INSTANCE, NOON, queue, view

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas" / "report.v1.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())

SALES = queue("Sales", "we sell")
ADMIN = Key("admin", "a@e.com")
CHANGES = (
    Create(ADMIN, (FieldChange("password", sensitive=True),), "manifest", "new", replace(SALES, key=ADMIN)),
    Update(SALES.key, (FieldChange("description", "x", "y"),), "manifest", "drift", SALES, SALES),
    Deactivate(Key("plan", "p1"), (FieldChange("is_active", None, after=False),), "connect", "intent", SALES),
    Remove(Key("queue", "Z"), (FieldChange("description", "z", None),), "manifest", "new", SALES),
)
CONFLICT = Conflict(Key("status", INSTANCE), "enabled_features.chat", True, None)
FORMER = Former(Key("queue", "Night"), "run-0", NOON)
PLAN = Plan(INSTANCE, "production", CHANGES, (CONFLICT,), (Accepted(SALES.key, "*", "a campaign"),), (FORMER,))
DOWN = ErrorInfo("connect_unreachable", "Fi.V Connect cannot be reached", "check the network")


def ended(outcome: Outcome, code: int = 0, plan: Plan | None = None, **more: Any) -> InstanceReport:
    return InstanceReport(INSTANCE, "production", outcome, 398, exit_code=code, plan=plan, **more)


CHANGED = ended("changed", plan=PLAN, connect=view(), digest=PLAN.digest(), audit_head="a" * 64, notes=("a note",))
CHANGED = replace(CHANGED, since={SALES.key: NOON, ADMIN: NOON})


def document(*instances: InstanceReport, error: ErrorInfo | None = None) -> dict[str, Value]:
    return as_json(Report("diff", "run-1", NOON, 412, instances, error))


def test_the_whole_document() -> None:
    assert document(CHANGED) == {
        "version": 1,
        "command": "diff",
        "run_id": "run-1",
        "started_at": "2026-10-01T12:00:00Z",
        "duration_ms": 412,
        "summary": {
            "instances": 1,
            "in_sync": 0,
            "changed": 1,
            "degraded": 0,
            "failed": 0,
            "refused": 0,
            "busy": 0,
            "skipped": 0,
            "changes": 4,
            "conflicts": 1,
            "causes": {"new": 2, "intent": 1, "drift": 1},
            "former": 1,
        },
        "instances": [
            {
                "instance": INSTANCE,
                "environment": "production",
                "outcome": "changed",
                "duration_ms": 398,
                "connect": {"status": "active", "billing_status": "paid", "response_time_ms": 41},
                "changes": [
                    {
                        "kind": "admin",
                        "name": "a@e.com",
                        "action": "create",
                        "source": "manifest",
                        "cause": "new",
                        "fields": [{"field": "password", "sensitive": True}],
                    },
                    {
                        "kind": "queue",
                        "name": "Sales",
                        "action": "update",
                        "source": "manifest",
                        "cause": "drift",
                        "since": "2026-10-01T12:00:00Z",
                        "fields": [{"field": "description", "before": "x", "after": "y"}],
                    },
                    {
                        "kind": "plan",
                        "name": "p1",
                        "action": "deactivate",
                        "source": "connect",
                        "cause": "intent",
                        "fields": [{"field": "is_active", "before": None, "after": False}],
                    },
                    {
                        "kind": "queue",
                        "name": "Z",
                        "action": "remove",
                        "source": "manifest",
                        "cause": "new",
                        "fields": [{"field": "description", "before": "z", "after": None}],
                    },
                ],
                "conflicts": [
                    {
                        "kind": "status",
                        "name": INSTANCE,
                        "field": "enabled_features.chat",
                        "expected": True,
                        "observed": None,
                    }
                ],
                "former": [{"kind": "queue", "name": "Night", "run_id": "run-0", "at": "2026-10-01T12:00:00Z"}],
                "accepted": [{"kind": "queue", "name": "Sales", "field": "*", "reason": "a campaign"}],
                "digest": PLAN.digest(),
                "audit_head": "a" * 64,
                "notes": ["a note"],
                "error": None,
            }
        ],
        "error": None,
    }


DOCUMENTS = {
    "nothing": document(),
    "changed": document(CHANGED),
    "in sync": document(ended("in_sync", plan=replace(PLAN, changes=(), conflicts=()))),
    "failed": document(ended("failed", 1, error=DOWN)),
    "degraded": document(ended("degraded", 5, PLAN, error=DOWN, connect=ConnectView(status_error=DOWN))),
    "every outcome": document(CHANGED, *(ended(word) for word in ("refused", "busy", "skipped", "failed", "in_sync"))),
    "the run failed": document(error=ErrorInfo("missing_setting", "FIV_APP_API_KEY is not set")),
    "with microseconds": as_json(Report("apply", "run-1", NOON + timedelta(microseconds=1), 0)),
    "from another zone": as_json(Report("apply", "run-1", NOON.astimezone(timezone(timedelta(hours=-3))), 0)),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_documents_are_as_the_schema_says(what: str) -> None:
    parsed = json.loads(json.dumps(DOCUMENTS[what]))
    assert list(VALIDATOR.iter_errors(parsed)) == []
    assert jsonschema_rs.is_valid(SCHEMA, parsed)


def test_missing_settings_are_listed_beside_the_error() -> None:
    problem = ManifestProblem("a.yaml", 3, 1, "the variable FIV_APP_API_KEY is not set")
    run = Report("apply", "run-1", NOON, 0, error=ErrorInfo("missing_setting", "it is not set"), lacking=(problem,))
    assert as_json(run)["error"]["problems"] == [asdict(problem)]


def test_times_are_utc() -> None:
    assert DOCUMENTS["from another zone"]["started_at"] == "2026-10-01T12:00:00Z"
    assert datetime.fromisoformat(DOCUMENTS["with microseconds"]["started_at"]) == NOON + timedelta(microseconds=1)


def places(value: Value, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yields the path of every mapping in the document."""
    if isinstance(value, dict):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def at(value: Value, path: tuple[str | int, ...]) -> Value:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("path", list(places(DOCUMENTS["degraded"])), ids=lambda path: "/".join(map(str, path)) or "/")
def test_the_schema_is_strict_everywhere(path: tuple[str | int, ...]) -> None:
    """The schema notices every key that is added or left out."""
    wider = json.loads(json.dumps(DOCUMENTS["degraded"]))
    at(wider, path)["surprise"] = 1
    assert not VALIDATOR.is_valid(wider)
    for key in at(DOCUMENTS["degraded"], path):
        narrower = json.loads(json.dumps(DOCUMENTS["degraded"]))
        del at(narrower, path)[key]
        assert not VALIDATOR.is_valid(narrower), key


def test_a_sensitive_field_cannot_have_a_value() -> None:
    told = json.loads(json.dumps(DOCUMENTS["changed"]))
    told["instances"][0]["changes"][0]["fields"][0]["after"] = "hunter2"
    assert not VALIDATOR.is_valid(told)


def test_codes_of_errors_are_open() -> None:
    assert VALIDATOR.is_valid(document(error=ErrorInfo("some_code_of_tomorrow", "x")))


def test_every_key_of_the_schema_has_a_title_and_a_description() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    bare = []
    for path in places(SCHEMA):
        if not path or path[-1] in ("properties", "$defs") or path[-2:-1] == ("oneOf",):
            continue
        told = at(SCHEMA, path)
        if "$ref" in told:
            told = {**at(SCHEMA, tuple(told["$ref"].removeprefix("#/").split("/"))), **told}
        if not (told.get("title") and told.get("description")):
            bare.append(path)
    assert bare == []


DONE, FAILED, REFUSED, BUSY, PARTLY = (
    ended("in_sync"),
    ended("failed", 1),
    ended("refused", 3),
    ended("busy", 4),
    ended("degraded", 5),
)
TO_CHANGE = ended("changed", plan=replace(PLAN, conflicts=()))
MISSING = ended("failed", 78)

APPLY = [
    ((), 0),
    ((DONE,), 0),
    ((TO_CHANGE,), 0),
    ((DONE, TO_CHANGE), 0),
    ((FAILED,), 1),
    ((FAILED, FAILED), 1),
    ((REFUSED,), 3),
    ((REFUSED, REFUSED), 3),
    ((BUSY,), 4),
    ((BUSY, BUSY), 4),
    ((PARTLY,), 5),
    ((PARTLY, PARTLY), 5),
    ((MISSING,), 78),
    # some are done, and some are not
    ((DONE, FAILED), 5),
    ((DONE, REFUSED), 5),
    ((DONE, BUSY), 5),
    ((DONE, PARTLY), 5),
    ((DONE, MISSING), 5),
    ((TO_CHANGE, FAILED), 5),
    ((PARTLY, FAILED), 5),
    ((DONE, FAILED, BUSY, REFUSED), 5),
    # none is done, and they share no code
    ((FAILED, BUSY), 1),
    ((REFUSED, BUSY), 1),
    ((FAILED, MISSING), 1),
]

DIFF = [
    ((), 0),
    ((DONE,), 0),
    ((TO_CHANGE,), 2),
    ((DONE, TO_CHANGE), 2),
    ((FAILED,), 1),
    ((REFUSED,), 3),
    ((BUSY,), 4),
    ((PARTLY,), 5),
    # 1 takes precedence over 5, and 5 over 2
    ((TO_CHANGE, FAILED), 1),
    ((DONE, FAILED), 1),
    ((PARTLY, FAILED), 1),
    ((PARTLY, TO_CHANGE), 5),
    ((PARTLY, DONE), 5),
    ((REFUSED, TO_CHANGE), 5),
    ((REFUSED, DONE), 5),
    ((REFUSED, PARTLY), 5),
    ((REFUSED, BUSY), 1),
    ((DONE, TO_CHANGE, PARTLY, FAILED), 1),
]


@pytest.mark.parametrize(("ends", "code"), APPLY)
def test_exit_codes_of_apply(ends: tuple[InstanceReport, ...], code: int) -> None:
    assert {exit_code(order) for order in permutations(ends)} == {code}


@pytest.mark.parametrize(("ends", "code"), DIFF)
def test_exit_codes_of_diff(ends: tuple[InstanceReport, ...], code: int) -> None:
    assert {exit_code(order, diff=True) for order in permutations(ends)} == {code}


STRICT = [
    # with a conflict: the code of apply, the code of diff
    (ended("in_sync", plan=replace(PLAN, changes=())), 0, 0),
    (ended("changed", plan=PLAN), 0, 2),
    (ended("degraded", 5, PLAN), 5, 5),
]


@pytest.mark.parametrize(("item", "apply", "diff"), STRICT)
def test_a_conflict_leaves_the_exit_code_and_strict_makes_it_one(item: InstanceReport, apply: int, diff: int) -> None:
    assert (exit_code([item]), exit_code([item], diff=True)) == (apply, diff)
    assert (exit_code([item], strict=True), exit_code([item], diff=True, strict=True)) == (1, 1)


def test_strict_leaves_graver_ends_as_they_are() -> None:
    assert exit_code([ended("refused", 3, PLAN)], strict=True) == 3


def test_a_strict_conflict_among_others_that_are_done_is_partly() -> None:
    assert exit_code([ended("changed", plan=PLAN), DONE], strict=True) == 5


def test_former_rows_fail_only_under_strict() -> None:
    only = ended("in_sync", plan=Plan(INSTANCE, "production", (), former=(FORMER,)))
    assert [exit_code([only], diff=diff, strict=strict) for diff in (True, False) for strict in (True, False)] == [
        1, 0, 1, 0,
    ]  # fmt: skip
