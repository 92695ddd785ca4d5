"""saved: a saved plan holds what a report shows, and names how it differs from another plan."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.model.changes import Change, Create, Deactivate, FieldChange, Update
from reconciler.model.secret import Secret
from reconciler.model.types import Key, Resource
from reconciler.planning.plan import Bound, Plan
from reconciler.planning.saved_plan import (
    SavedInstance,
    SavedPlan,
    as_document,
    from_document,
    run_digest,
    save,
    staleness,
)
from tests.support.examples import INSTANCE, NOON, queue

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas" / "plan.v1.schema.json").read_text())
MANIFEST = "a" * 64
SALES = queue("Sales", "Vendas")
SECRET = "hunter2-the-secret"
ADMIN = Resource(Key("admin", "a@e.com"), {"name": "A", "password": Secret(SECRET), "role": "admin"})

UPDATED = Update(SALES.key, (FieldChange("description", "x", "Vendas"),), "manifest", "drift", SALES, SALES)
CREATED = Create(ADMIN.key, (FieldChange("password", sensitive=True),), "manifest", "new", ADMIN)
BOUND = Bound("s", "d" * 16, "c" * 16)
OFF = Deactivate(Key("plan", "p1"), (FieldChange("is_active", True, after=False),), "connect", "intent", SALES)


def plan(*changes: Change, environment: str = "production") -> Plan:
    return Plan(INSTANCE, environment, changes)


def saved(*changes: Change) -> SavedInstance:
    return save(plan(*changes), manifest=MANIFEST, bound=BOUND)


def stale(then: SavedInstance, now: Plan, manifest: str = MANIFEST, **bound: str) -> tuple[str, ...]:
    return staleness(then, now, manifest=manifest, bound=replace(BOUND, **bound))


def test_the_same_plan_is_not_stale() -> None:
    assert stale(saved(CREATED, UPDATED, OFF), plan(CREATED, UPDATED, OFF)) == ()


def test_an_empty_plan_is_not_stale_while_it_is_empty() -> None:
    assert stale(saved(), plan()) == ()
    assert stale(saved(), plan(UPDATED)) == ("queue/Sales: update is needed now and was not planned",)


def test_changes_already_made_are_named() -> None:
    assert stale(saved(UPDATED), plan()) == ("queue/Sales: update was planned, there is nothing to do now",)


def changed(change: Update, **more: Any) -> Update:
    return replace(change, fields=(replace(change.fields[0], **more),))


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (
            changed(UPDATED, before="y"),
            'queue/Sales/description: the database had "x" when planned, and has "y" now',
        ),
        (
            changed(UPDATED, after="z"),
            'queue/Sales/description: the manifest said "Vendas" when planned, and "z" now',
        ),
        (
            changed(replace(UPDATED, source="connect"), after=None),
            'queue/Sales/description: Connect said "Vendas" when planned, and null now',
        ),
        (replace(UPDATED, cause="intent"), "queue/Sales: the cause was drift when planned, and is intent now"),
        (
            Deactivate(SALES.key, UPDATED.fields, "manifest", "drift", SALES),
            "queue/Sales: the action was update when planned, and is deactivate now",
        ),
        (
            replace(UPDATED, fields=(*UPDATED.fields, FieldChange("is_active", False, after=True))),
            "queue/Sales/is_active: differs now, and did not then",
        ),
    ],
)
def test_a_field_that_changed_says_who_changed_it(now: Change, sentence: str) -> None:
    assert sentence in stale(saved(UPDATED), plan(now))


def test_a_changed_manifest_is_stale_despite_equal_changes() -> None:
    assert stale(saved(UPDATED), plan(UPDATED), manifest="b" * 64) == ("the manifest changed since it was planned",)


def test_a_changed_secret_is_stale_despite_equal_changes() -> None:
    found = stale(saved(CREATED), plan(CREATED), secrets="other")
    assert found == ("a declared secret changed since, or the file was edited",)


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        ({"database": "0" * 16}, "the database is not the one that it was planned for"),
        ({"connect": "0" * 16}, "Connect's address is not the one that it was planned for"),
    ],
)
def test_another_target_is_stale_despite_equal_changes(bound: dict[str, str], sentence: str) -> None:
    assert stale(saved(UPDATED), plan(UPDATED), **bound) == (sentence,)
    assert stale(saved(), plan(), **bound) == (sentence,)


def test_an_old_plan_without_a_target_is_held_to_the_rest() -> None:
    older = save(plan(UPDATED), manifest=MANIFEST, bound=Bound("s"))
    assert (older.database, older.connect) == ("", "")
    assert stale(older, plan(UPDATED)) == ()
    assert stale(older, plan(UPDATED), secrets="other") != ()


def test_to_take_the_target_out_of_a_saved_plan_is_found() -> None:
    assert stale(replace(saved(UPDATED), database="", connect=""), plan(UPDATED)) == (
        "a declared secret changed since, or the file was edited",
    )


def test_another_environment_is_stale() -> None:
    (sentence, *_) = stale(saved(UPDATED), plan(UPDATED, environment="development"))
    assert sentence == "the environment was production when planned, and is development now"


def test_another_order_is_stale() -> None:
    assert stale(saved(UPDATED, OFF), plan(OFF, UPDATED)) != ()


def test_any_edit_of_a_saved_plan_is_found() -> None:
    """Replaces every value in the document, one by one, by another of its type."""
    original = saved(CREATED, UPDATED, OFF)
    document = as_document(SavedPlan("r", NOON, "0.1.0", None, (original,)))
    tried = 0
    for path in list(paths(document["instances"][0])):
        edited = json.loads(json.dumps(document))
        edit(edited["instances"][0], path)
        (instance,) = from_document(edited).instances
        if path != ("instance",):  # found otherwise: the instance is not in the plan
            assert stale(instance, plan(CREATED, UPDATED, OFF)) != (), path
            tried += 1
    assert tried >= 20


def paths(node: Any, above: tuple[Any, ...] = ()) -> Any:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not isinstance(node, dict | list):
        yield above
    for key, child in children:
        yield from paths(child, (*above, key))


def edit(node: Any, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        node = node[key]
    value = node[path[-1]]
    node[path[-1]] = not value if isinstance(value, bool) else "edited"


def test_the_document_is_valid_and_comes_back_the_same() -> None:
    whole = SavedPlan(
        "run-1", datetime(2026, 10, 1, 12, tzinfo=UTC), "0.1.0", "c" * 40, (saved(CREATED, UPDATED, OFF),)
    )
    document = json.loads(json.dumps(as_document(whole)))
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    assert from_document(document) == whole


def test_no_secret_is_in_it() -> None:
    assert SECRET not in json.dumps(as_document(SavedPlan("r", NOON, "0.1.0", None, (saved(CREATED),))))


def test_the_digest_of_a_run_ignores_the_order_of_changes() -> None:
    one, other = saved(UPDATED), replace(saved(OFF), instance="other")
    quiet = replace(saved(), instance="quiet")
    assert run_digest((one, other)) == run_digest((quiet, other, one))
    assert run_digest((one, other)) != run_digest((one,))
    assert run_digest((one,)) != run_digest((replace(one, digest="0" * 16),))
