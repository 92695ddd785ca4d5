"""build_plan and digest: one plan, in the order of its writes, identified by its changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from reconciler.model.changes import Conflict, Create, FieldChange, Update
from reconciler.model.kinds.schema import NAME
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectView, ErrorInfo, Key, Resource, Snapshot, Value
from reconciler.planning.plan import Bound, Plan, applied_after, build_plan, build_policies, only_drift, only_status
from reconciler.planning.plan import change_as_json as shown_change
from tests.support.examples import INSTANCE, connect_plan, desired, queue, setting, snapshot, view

TODAY = date(2026, 10, 1)
ADMIN = Resource(Key("admin", "a@e.com"), {"name": "A", "password": Secret("hunter2"), "role": "admin"})


def plan_of(wanted: object, said: ConnectView, seen: Snapshot) -> Plan:
    return build_plan(wanted, said, seen, schema_version=1, today=TODAY)  # type: ignore[arg-type]


def test_without_the_database_everything_is_created_in_order() -> None:
    wanted = desired(queue("b"), queue("a"), setting("locale", "pt-BR"), ADMIN, plans_from_connect=True)
    said = replace(view(chat=True), plans=(connect_plan("p1"),))
    plan = plan_of(wanted, said, Snapshot(None, database_exists=False))
    assert [str(change.key) for change in plan.changes] == [
        "database/app",
        f"schema/{NAME}",
        "setting/locale",
        "admin/a@e.com",
        "queue/a",
        "queue/b",
        "plan/p1",
        f"status/{INSTANCE}",
    ]
    assert {change.action for change in plan.changes} == {"create"}


def test_values_missing_from_connect_stay_as_they_are() -> None:
    wanted = desired(queue("a"), plans_from_connect=True, expect={"status": "active"})
    seen = snapshot(queue("a"), Resource(Key("plan", "p1"), {"name": "x", "is_active": True}))
    failed = ConnectView(status_error=ErrorInfo("x", "x"), plans_error=ErrorInfo("x", "x"))
    plan = plan_of(wanted, failed, seen)
    assert (plan.changes, plan.conflicts, set(plan.managed)) == ((), (), {"queue"})


def test_plans_that_connect_tells_unasked_are_not_managed() -> None:
    said = ConnectView(plans=(connect_plan("p1"),))
    assert plan_of(desired(), said, snapshot()).changes == ()


def test_conflicts_stand_beside_changes() -> None:
    wanted = desired(queue("a"), expect={"billing_status": "paid"})
    plan = plan_of(wanted, view("active", "overdue"), snapshot(queue("a")))
    assert plan.conflicts == (Conflict(Key("status", INSTANCE), "billing_status", "paid", "overdue"),)


@pytest.mark.parametrize(
    ("seen", "fields", "action"),
    [
        (Snapshot(None), (FieldChange("version", None, 3),), "create"),
        (Snapshot(1), (FieldChange("version", 1, 3),), "update"),
        (
            Snapshot(3, missing=("users.environment",)),
            (FieldChange("users.environment", "missing", "present"),),
            "update",
        ),
        (
            Snapshot(2, missing=("queues",)),
            (FieldChange("version", 2, 3), FieldChange("queues", "missing", "present")),
            "update",
        ),
    ],
)
def test_the_schema_is_brought_to_the_version_that_ships(
    seen: Snapshot, fields: tuple[FieldChange, ...], action: str
) -> None:
    (change,) = build_plan(desired(), ConnectView(), seen, schema_version=3, today=TODAY).changes
    assert (str(change.key), change.action, change.fields) == ("schema/fivrec", action, fields)


@pytest.mark.parametrize("version", [3, 4])
def test_a_schema_as_new_or_newer_is_left_alone(version: int) -> None:
    assert build_plan(desired(), ConnectView(), Snapshot(version), schema_version=3, today=TODAY).changes == ()


SALES = queue("Sales", "new")
BASE = Plan(
    INSTANCE,
    "production",
    (
        Update(
            SALES.key, (FieldChange("description", "old", "new"),), "manifest", "drift", SALES, queue("Sales", "old")
        ),
    ),
)


def test_the_digest_is_sixteen_hex_digits_and_always_the_same() -> None:
    assert len(BASE.digest()) == 16
    assert int(BASE.digest(), 16) >= 0
    assert BASE.digest() == replace(BASE, conflicts=(Conflict(SALES.key, "x", 1, 2),)).digest()


def field(**more: Value) -> tuple[Update, ...]:
    (change,) = BASE.changes
    return (replace(change, fields=(replace(change.fields[0], **more),)),)  # type: ignore[arg-type]


OTHERS = {
    "instance": replace(BASE, instance="other"),
    "environment": replace(BASE, environment="development"),
    "no change": replace(BASE, changes=()),
    "before": replace(BASE, changes=field(before="older")),
    "after": replace(BASE, changes=field(after="newer")),
    "type": replace(BASE, changes=field(after=True)),
    "field": replace(BASE, changes=field(field="name")),
    "cause": replace(BASE, changes=(replace(BASE.changes[0], cause="intent"),)),
    "source": replace(BASE, changes=(replace(BASE.changes[0], source="connect"),)),
    "key": replace(BASE, changes=(replace(BASE.changes[0], key=Key("queue", "sales")),)),
    "twice": replace(BASE, changes=BASE.changes * 2),
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_digest_names_exactly_these_changes(what: str) -> None:
    assert OTHERS[what].digest() != BASE.digest()


def test_connects_word_is_no_part_of_the_digest() -> None:
    row = Resource(Key("status", INSTANCE), {})
    locked = Update(row.key, (FieldChange("is_locked", before=False, after=True),), "connect", "intent", row, row)
    assert replace(BASE, changes=(*BASE.changes, locked)).digest() == BASE.digest()


def test_the_digest_changes_with_the_secrets_declared() -> None:
    assert BASE.digest(Bound("one")) != BASE.digest(Bound("other"))


def test_the_digest_changes_with_the_database_and_connect() -> None:
    bound = Bound("s", "d", "c")
    others = (Bound("s"), Bound("s", "d"), replace(bound, database="e"), replace(bound, connect="e"))
    assert len({BASE.digest(one) for one in (bound, *others)}) == len(others) + 1


def test_a_change_is_shown_as_reports_and_saved_plans_hold_it() -> None:
    change = Create(
        ADMIN.key, (FieldChange("name", None, "A"), FieldChange("password", sensitive=True)), "manifest", "new", ADMIN
    )
    assert shown_change(change) == {
        "kind": "admin",
        "name": "a@e.com",
        "action": "create",
        "source": "manifest",
        "cause": "new",
        "fields": [{"field": "name", "before": None, "after": "A"}, {"field": "password", "sensitive": True}],
    }


def test_rows_found_as_declared_are_remembered_as_applied() -> None:
    plan = plan_of(desired(queue("a"), queue("b")), ConnectView(), snapshot(queue("a")))
    assert applied_after(plan) == {Key("queue", "a"): queue("a"), Key("queue", "b"): queue("b")}


def test_drift_alone_leaves_out_what_was_declared_since() -> None:
    """A name changed by hand is drift; a description changed in the manifest is not."""
    declared, row = queue("Sales", "new"), queue("By hand", "old")
    wanted = Update(
        declared.key,
        (FieldChange("name", "By hand", "Sales"), FieldChange("description", "old", "new")),
        "manifest",
        "drift",
        declared,
        row,
    )
    intent = replace(BASE.changes[0], key=Key("queue", "Night"), cause="intent")
    seen = snapshot(last=[queue("Sales", "old")])
    whole = replace(BASE, changes=(wanted, intent), conflicts=(Conflict(SALES.key, "x", 1, 2),))
    drifted = replace(wanted, fields=(FieldChange("name", "By hand", "Sales"),))
    assert only_drift(whole, seen) == replace(BASE, changes=(drifted,))


def test_of_a_check_connects_word_alone_is_kept() -> None:
    plan = plan_of(desired(queue("a")), view("suspended"), snapshot())
    status = only_status(plan)
    assert [str(change.key) for change in plan.changes] == ["queue/a", f"status/{INSTANCE}"]
    assert ([str(change.key) for change in status.changes], [*status.managed]) == ([f"status/{INSTANCE}"], ["status"])


def test_the_policy_for_undeclared_plans_is_remembered_too() -> None:
    wanted = replace(desired(queue("a"), setting("b", 1), plans_from_connect=True), plans_unmanaged="deactivate")
    wanted = replace(wanted, managed={**wanted.managed, "queue": replace(wanted.managed["queue"], unmanaged="remove")})
    assert build_policies(wanted) == {"plan": "deactivate", "queue": "remove"}
