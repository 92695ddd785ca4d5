"""Two writers of one field: detected, left alone, later resumed. Needs no clock."""

from __future__ import annotations

import pytest

from reconciler.model.changes import Accepted, Cause, Change, Create, FieldChange, Update
from reconciler.model.types import Ignore, Key, Resource
from reconciler.planning.flapping import Flapping
from reconciler.planning.plan import Plan

SALES = Key("queue", "Sales")
REASON = "fought over: corrected more than 3 times in 10 minutes"


def corrected(*fields: str, cause: Cause = "drift", key: Key = SALES) -> Plan:
    row = Resource(key, {})
    changes: tuple[Change, ...] = (
        Update(key, tuple(FieldChange(name, "x", "y") for name in fields), "manifest", cause, row, row),
    )
    return Plan("a", "production", changes)


def test_the_fourth_correction_in_10_minutes_is_flapping() -> None:
    fights = Flapping()
    found = [
        fights.corrected(corrected("description", *rest), at) for at, rest in enumerate([["is_active"], [], [], []])
    ]
    assert found == [(), (), (), ("queue/Sales/description",)]
    assert fights.ignores() == (Ignore("queue/Sales/description", REASON),)


def test_three_in_10_minutes_are_none_however_often_that_comes() -> None:
    fights = Flapping()
    assert not any(fights.corrected(corrected("description"), at * 201.0) for at in range(100))
    assert fights.held == ()


def test_changes_by_manifest_or_connect_are_not_flapping() -> None:
    fights = Flapping()
    assert not any(fights.corrected(corrected("status", cause="intent"), at) for at in range(10))


def test_a_row_that_keeps_being_deleted_is_left_alone() -> None:
    fights, key = Flapping(), Key("queue", "V[I]P*")
    plan = Plan("a", "production", (Create(key, (), "manifest", "drift", Resource(key, {})),))
    for at in range(4):
        fights.corrected(plan, at)
    assert fights.held == ("queue/V[I]P*",)
    assert fights.ignores() == (Ignore("queue/V[[]I]P[*]", REASON),)


def test_a_schema_is_never_left_broken() -> None:
    fights = Flapping()
    for at in range(9):
        fights.corrected(corrected("version", key=Key("schema", "fivrec")), at)
    assert fights.held == ()


@pytest.mark.parametrize(
    ("kind", "field"), [("status", "is_locked"), ("status", "status"), ("environment", "isolation")]
)
def test_the_lock_and_row_security_are_corrected_every_time(kind: str, field: str) -> None:
    fights = Flapping()
    plan = corrected(field, key=Key(kind, "a"))
    found = [fights.corrected(plan, at) for at in range(9)]
    assert found == [(), (), (), (f"{kind}/a/{field}",), (), (), (), (), ()]
    assert (fights.held, fights.ignores()) == ((), ())


def test_a_lock_an_older_fivrec_left_alone_is_corrected_again() -> None:
    memory = {"corrected": {}, "held": {"status/a/is_locked": 1.0, "queue/Sales/description": 1.0}}
    assert Flapping.remembered(memory).held == ("queue/Sales/description",)


def test_it_is_over_when_the_field_agreed_for_10_minutes() -> None:
    fights = Flapping()
    for at in range(4):
        fights.corrected(corrected("description"), at)
    differs = Plan("a", "production", (), accepted=(Accepted(SALES, "description", REASON),))
    agrees = Plan("a", "production", ())
    assert fights.seen(differs, 500.0) == ()
    assert fights.seen(agrees, 1099.0) == ()
    assert fights.seen(agrees, 1100.0) == ("queue/Sales/description",)
    assert (fights.held, fights.corrected(corrected("description"), 1101.0)) == ((), ())


def test_a_new_manifest_is_a_new_intent() -> None:
    fights = Flapping()
    for at in range(4):
        fights.corrected(corrected("description"), at)
    fights.clear()
    assert (fights.held, fights._corrected) == ((), {})
