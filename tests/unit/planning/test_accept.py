"""accept: differences that `ignore` entries accept; conflicts with what is expected of Connect."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from reconciler.model.changes import Accepted, Change, Conflict, FieldChange
from reconciler.model.kinds import admin as admins
from reconciler.model.kinds import queue as queues
from reconciler.model.types import Ignore, Key, Managed, Resource, Snapshot
from reconciler.planning.diff import accept, conflicts, diff_kind
from reconciler.planning.plan import build_plan
from tests.support.examples import INSTANCE, desired, queue, snapshot, state, status, view

TODAY = date(2026, 12, 31)
SALES = queue("Sales", "we sell")


def changes(*rows: Resource, unmanaged: str = "keep") -> tuple[Change, ...]:
    return diff_kind(queues.KIND, Managed((SALES,), unmanaged), state(*rows), {})  # type: ignore[arg-type]


def ignore(pattern: str, until: date | None = None) -> Ignore:
    return Ignore(pattern, "a campaign", until)


def test_an_accepted_field_is_no_change() -> None:
    kept, accepted = accept(changes(queue("Sales", "x")), (ignore("queue/Sales/description"),), TODAY)
    assert kept == ()
    assert accepted == (Accepted(SALES.key, "description", "a campaign"),)


def test_an_accepted_field_keeps_its_value_and_others_change() -> None:
    row = queue("Sales", "x", is_active=False)
    (change,), accepted = accept(changes(row), (ignore("queue/Sales/description"),), TODAY)
    assert change.fields == (FieldChange("is_active", False, after=True),)
    assert change.action == "update"
    assert change.desired.fields == {"description": "x", "is_active": True}
    assert accepted == (Accepted(SALES.key, "description", "a campaign"),)


@pytest.mark.parametrize(("days", "accepted"), [(-1, False), (0, True), (1, True)])
def test_acceptance_ends_after_its_last_day(days: int, accepted: bool) -> None:
    entry = ignore("queue/Sales/description", TODAY + timedelta(days=days))
    kept, found = accept(changes(queue("Sales", "x")), (entry,), TODAY)
    assert (kept == ()) is accepted
    assert [item.until for item in found] == [entry.until] * accepted


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("queue/*/description", True),
        ("queue/S?les/*", True),
        ("*/Sales/description", True),
        ("queue/Sales", True),
        ("queue/sales/description", False),
        ("queue/Sales/is_active", False),
        ("queue/Sale", False),
        ("description", False),
    ],
)
def test_patterns_are_shell_wildcards_over_the_whole_path(pattern: str, fits: bool) -> None:
    kept, _ = accept(changes(queue("Sales", "x")), (ignore(pattern),), TODAY)
    assert (kept == ()) is fits


def test_a_missing_row_is_accepted_by_its_name_only() -> None:
    assert accept(changes(), (ignore("queue/Sales"),), TODAY) == ((), (Accepted(SALES.key, "*", "a campaign"),))
    assert accept(changes(), (ignore("queue/Sales/description"),), TODAY) == (changes(), ())


@pytest.mark.parametrize(("pattern", "field"), [("queue/Extra", "*"), ("queue/Extra/is_active", "is_active")])
def test_a_deactivation_is_accepted_by_name_or_field(pattern: str, field: str) -> None:
    found = changes(SALES, queue("Extra"), unmanaged="deactivate")
    assert accept(found, (ignore(pattern),), TODAY) == ((), (Accepted(Key("queue", "Extra"), field, "a campaign"),))


def test_a_rename_is_not_accepted_by_a_field() -> None:
    renamed = queue("Vendas", "new", renamed_from="Sales")
    found = diff_kind(queues.KIND, Managed((renamed,)), state(SALES), {})
    (change,), accepted = accept(found, (ignore("queue/Vendas/*"),), TODAY)
    assert change.fields == (FieldChange("name", "Sales", "Vendas"),)
    assert accepted == (Accepted(renamed.key, "description", "a campaign"),)


def test_nobody_can_accept_a_missing_schema() -> None:
    wanted = desired(SALES, ignore=(ignore("*"),))
    plan = build_plan(wanted, view(), Snapshot(None, database_exists=False), schema_version=3, today=TODAY)
    assert [str(change.key) for change in plan.changes] == ["database/app", "schema/fivrec"]


STATUS = Key("status", INSTANCE)


def test_an_unexpected_answer_of_connect_is_a_conflict() -> None:
    expect = {"status": "active", "billing_status": "paid", "enabled_features": {"chat": True, "ai_agent": True}}
    said = status("suspended", "paid", chat=False, chatbot=True)
    assert conflicts(expect, said, INSTANCE) == (
        Conflict(STATUS, "status", "active", "suspended"),
        Conflict(STATUS, "enabled_features.ai_agent", True, None),
        Conflict(STATUS, "enabled_features.chat", True, False),
    )


def test_without_expectations_there_is_no_conflict() -> None:
    assert conflicts({}, status("suspended", "overdue", chat=False), INSTANCE) == ()


def test_an_unknown_status_is_no_conflict() -> None:
    assert conflicts({"status": "active"}, None, INSTANCE) == ()


def test_a_name_that_looks_like_wildcards_is_its_own_pattern() -> None:
    sales = queue("Sales [BR]", "we sell")
    found = diff_kind(queues.KIND, Managed((sales,)), state(queue("Sales [BR]", "x")), {})
    kept, accepted = accept(found, (ignore("queue/Sales [BR]/description"),), TODAY)
    assert (kept, accepted) == ((), (Accepted(sales.key, "description", "a campaign"),))


@pytest.mark.parametrize(
    ("pattern", "beside_day", "alone"),
    [
        ("queue/Day/*", False, True),
        ("queue/Day/n*e", False, False),
        ("queue/Day/Night", True, True),
        ("queue/Day/Ni*", True, True),
        ("queue/Day/*/*", True, True),
        ("queue/Day/Night/*", True, True),
        ("queue/*", True, True),
    ],
)
def test_a_queues_fields_are_no_queues_whose_names_go_on(pattern: str, beside_day: bool, alone: bool) -> None:
    """If there is a queue Day, queue/Day/* names its fields, not all of the queue Day/Night."""
    day, night = queue("Day", "by day"), queue("Day/Night", "always")
    for both, accepted in ((True, beside_day), (False, alone)):
        declared = Managed((day, night) if both else (night,))
        found = diff_kind(queues.KIND, declared, state(day, queue("Day/Night", "x")), {})
        known = (night.key, day.key) if both else (night.key,)
        kept, _ = accept(found, (ignore(pattern),), TODAY, known)
        assert (kept == ()) is accepted


def test_fields_that_are_accepted_leave_a_longer_name_alone() -> None:
    day = queue("Day", "by day")
    wanted = desired(day, queue("Day/Night", "always"), ignore=(ignore("queue/Day/*"),))
    plan = build_plan(wanted, view(), snapshot(queue("Day", "x")), schema_version=1, today=TODAY)
    assert [str(change.key) for change in plan.changes if change.key.kind == "queue"] == ["queue/Day/Night"]
    assert [str(item.key) for item in plan.accepted] == ["queue/Day"]


def test_a_name_may_be_spelled_otherwise_than_it_is_declared() -> None:
    declared = queue("cafe\u0301", "we sell")
    found = diff_kind(queues.KIND, Managed((declared,)), state(queue("cafe\u0301", "x")), {})
    kept, accepted = accept(found, (ignore("queue/caf\u00e9/description"),), TODAY)
    assert (kept, accepted) == ((), (Accepted(declared.key, "description", "a campaign"),))


def test_the_case_of_an_email_does_not_matter() -> None:
    declared = Resource(Key("admin", "Admin@Example.com"), {"name": "A"})
    row = Resource(declared.key, {"name": "B"})
    found = diff_kind(admins.KIND, Managed((declared,)), state(row), {})
    kept, accepted = accept(found, (ignore("admin/admin@example.com/name"),), TODAY)
    assert (kept, accepted) == ((), (Accepted(declared.key, "name", "a campaign"),))
