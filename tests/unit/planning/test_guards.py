"""guard: what an apply refuses until exactly that plan is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from reconciler.model.kinds import plan as plans
from reconciler.model.kinds.development_rows import CONSENTED, NONE_OF_IT
from reconciler.model.types import Applied, ConnectView, EnvironmentSpec, Ignore, Key, Managed, Resource, Unmanaged
from reconciler.planning.guards import refusals, too_many_instances
from reconciler.planning.plan import Plan, build_plan
from tests.support.examples import INSTANCE, NOON, connect_plan, desired, queue, snapshot

TODAY = date(2026, 10, 1)


def judged(
    rows: list[Resource],
    named: list[Resource],
    unmanaged: Unmanaged = "deactivate",
    *,
    applied: Sequence[Resource] = (),
) -> tuple[str, ...]:
    wanted = replace(desired(), managed={"queue": Managed(tuple(named), unmanaged)})
    seen = snapshot(*rows, last=applied)
    return refusals(build_plan(wanted, ConnectView(), seen, schema_version=1, today=TODAY), seen.state)


def queues(count: int, **more: object) -> list[Resource]:
    return [queue(f"q{number:03}", **more) for number in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "going", "refused"),
    [
        (1, 1, True),  # all
        (2, 1, False),
        (2, 2, True),  # all
        (3, 3, True),
        (5, 2, True),  # 40%, and more than one
        (10, 1, False),
        (9, 2, True),  # 22%
        (10, 2, False),  # exactly 20%
        (10, 3, True),  # 30%
        (14, 3, True),  # 21%
        (15, 3, False),  # exactly 20%
        (100, 3, False),  # more than two, but 3%
        (100, 20, False),
        (100, 21, True),
    ],
)
def test_deactivations_are_counted_by_number_and_share(rows: int, going: int, refused: bool) -> None:
    every = queues(rows)
    assert bool(judged(every, every[going:] or [queue("other")])) is refused


def test_the_sentence_says_how_many_of_how_many_and_which() -> None:
    every = queues(10)
    (sentence,) = judged(every, every[3:])
    assert sentence == "3 of 10 active queue rows would be deactivated: q000, q001, q002"


def test_a_long_list_is_cut_and_counted() -> None:
    (sentence,) = judged(queues(14), [queue("other")])
    assert sentence.endswith("q008, q009 and 4 more")


def test_inactive_rows_do_not_count_towards_the_share() -> None:
    active, off = queues(4), [queue(f"z{number}", is_active=False) for number in range(100)]
    assert judged([*active, *off], active[3:]) == ("3 of 4 active queue rows would be deactivated: q000, q001, q002",)


def test_a_row_that_says_nothing_of_active_counts_as_active() -> None:
    every = queues(10, is_active=None)
    (sentence,) = judged(every, [queue(f"q{number:03}", is_active=None) for number in range(3, 10)])
    assert sentence.startswith("3 of 10 active")


def test_an_empty_desired_set_is_refused() -> None:
    assert judged(queues(2), []) == (
        "the desired set of queue rows is empty; 2 of 2 active queue rows would be deactivated: q000, q001",
    )


def test_an_empty_desired_set_over_no_rows_is_let_through() -> None:
    assert judged([], []) == ()


def test_an_empty_desired_set_that_keeps_rows_is_let_through() -> None:
    assert judged(queues(2), [], "keep") == ()


def test_any_removal_is_refused() -> None:
    every = queues(100)
    assert judged(every, every[1:], "remove") == ("1 queue row would be removed: q000",)


def removed(rows: list[Resource], named: list[Resource], own: int) -> tuple[str, ...]:
    """`own`: how many of the rows fivrec knows to have created itself."""
    wanted = replace(desired(), managed={"queue": Managed(tuple(named), "remove", former="remove")})
    last = {row.key: Applied(row.fields, "run-1", NOON, "created") for row in rows[:own]}
    seen = replace(snapshot(*rows), applied=last)
    return refusals(build_plan(wanted, ConnectView(), seen, schema_version=1, today=TODAY), seen.state)


def test_a_few_own_rows_are_removed_unasked_but_not_the_last_one() -> None:
    every = queues(10)
    assert removed(every, every[1:], own=1) == ()
    assert removed(every[:1], [queue("other")], own=1) == (
        "all queue rows that are active would go; 1 of 1 active queue row would be removed: q000",
    )
    both = [*every[1:2], queue("used", referenced=True)]
    assert removed(both, [queue("other")], own=1) == (
        "all queue rows that are active would go; 2 of 2 active queue rows would be removed or deactivated: q001, used",
    )


def test_one_row_of_others_among_them_makes_it_a_removal_of_all() -> None:
    every = queues(100)
    assert removed(every, every[2:], own=1) == ("2 queue rows would be removed: q000, q001",)


def test_refused_removals_do_not_count_as_deactivations_too() -> None:
    every = queues(3)
    assert removed(every, every[2:], own=3) == ("2 queue rows would be removed: q000, q001",)


def test_inactive_rows_declared_inactive_are_not_counted() -> None:
    off = queues(3, is_active=False, description="by hand")
    assert judged([*off, queue("on")], [*queues(3, is_active=False), queue("on")], "keep") == ()


def test_explicit_deactivations_count_like_omitted_rows() -> None:
    assert judged(queues(3), queues(3, is_active=False), "keep") == (
        "all queue rows that are active would go; 3 of 3 active queue rows would be deactivated: q000, q001, q002",
    )
    assert judged(queues(20), [*queues(4, is_active=False), *queues(20)[4:]], "keep") == ()
    assert len(judged(queues(20), [*queues(5, is_active=False), *queues(20)[5:]], "keep")) == 1


def test_rows_reactivated_by_others_are_counted() -> None:
    off = queues(3, is_active=False)
    assert judged(queues(3), off, "keep", applied=off) == (
        "all queue rows that are active would go; 3 of 3 active queue rows would be deactivated: q000, q001, q002",
    )


def test_a_drifted_field_hides_no_deactivation() -> None:
    rows = queues(4, description="edited by hand")
    declared, last = queues(4, is_active=False), queues(4)
    (sentence,) = judged(rows, declared, "keep", applied=last)
    assert sentence.startswith("all queue rows that are active would go; 4 of 4")


def test_no_ignore_entry_waives_the_guard_on_environments() -> None:
    key = Key("environment", INSTANCE)
    wanted = replace(
        desired(Resource(key, {"name": "development", "isolation": "constraints"})),
        environment=EnvironmentSpec("development"),
        ignore=(Ignore("environment/*", "it will be fine"),),
    )
    seen = snapshot(Resource(key, {"name": "production", "isolation": "constraints"}))
    plan = build_plan(wanted, ConnectView(), seen, schema_version=1, today=TODAY)
    assert refusals(plan, seen.state) == (
        (
            f"environment/{INSTANCE} would change from production to development; "
            "of its rows only the declared administrator's moves along"
        ),
    )


def test_unconsented_test_data_is_refused_with_its_counts() -> None:
    rows = [Resource(Key("test_data", name), {"rows": count}) for name, count in (("queues", 5), ("clients", 2))]
    seen = snapshot(*rows)
    wanted = replace(desired(), managed={"test_data": NONE_OF_IT})
    plan = build_plan(wanted, ConnectView(), seen, schema_version=1, today=TODAY)
    assert refusals(plan, seen.state) == ("7 development rows would be deleted: clients 2, queues 5",)


def test_consented_test_data_needs_no_acceptance() -> None:
    rows = Resource(Key("test_data", "queues"), {"rows": 5})
    for managed, found in ((CONSENTED, 0), (NONE_OF_IT, 1)):
        plan = build_plan(
            replace(desired(), managed={"test_data": managed}),
            ConnectView(),
            snapshot(rows),
            schema_version=1,
            today=TODAY,
        )
        assert len(refusals(plan, {rows.key: rows})) == found


def from_connect(rows: list[str], *, inactive: set[str], told: list[str]) -> tuple[str, ...]:
    stored = plans.managed([connect_plan(name, name) for name in rows], "keep", "connect").resources
    said = tuple(connect_plan(name, name, is_active=name not in inactive) for name in told)
    wanted = desired(plans_from_connect=True)
    seen = snapshot(*stored)
    plan = build_plan(wanted, ConnectView(plans=said), seen, schema_version=1, today=TODAY)
    return refusals(plan, seen.state)


def test_all_plans_switched_off_by_connect_are_refused() -> None:
    (sentence,) = from_connect(["a", "b"], inactive={"a", "b"}, told=["a", "b"])
    assert sentence.startswith("all plan rows that are active would go; 2 of 2")


def test_plans_left_out_and_switched_off_count_together() -> None:
    every = [f"p{number}" for number in range(10)]
    (sentence,) = from_connect(every, inactive={"p0", "p1"}, told=every[:9])
    assert sentence == "3 of 10 active plan rows would be deactivated: p0, p1, p9"


def test_no_plans_at_connect_is_an_empty_desired_set() -> None:
    (sentence,) = from_connect(["a"], inactive=set(), told=[])
    assert sentence.startswith("the desired set of plan rows is empty")


def test_one_of_three_plans_may_be_switched_off_by_connect() -> None:
    assert from_connect(["a", "b", "c"], inactive={"a"}, told=["a", "b", "c"]) == ()


def environment(name: str, isolation: str = "constraints") -> Resource:
    return Resource(Key("environment", INSTANCE), {"name": name, "isolation": isolation})


def test_a_change_of_environment_is_refused() -> None:
    seen = snapshot(environment("development"))
    plan = build_plan(desired(environment("production")), ConnectView(), seen, schema_version=1, today=TODAY)
    assert refusals(plan, seen.state) == (
        (
            f"environment/{INSTANCE} would change from development to production; "
            "of its rows only the declared administrator's moves along"
        ),
    )


def test_a_change_of_isolation_is_let_through() -> None:
    seen = snapshot(environment("production"))
    plan = build_plan(
        desired(environment("production", "enforced")), ConnectView(), seen, schema_version=1, today=TODAY
    )
    assert len(plan.changes) == 1
    assert refusals(plan, seen.state) == ()


def test_an_empty_plan_is_let_through() -> None:
    assert refusals(Plan(INSTANCE, "production", ()), {}) == ()


@pytest.mark.parametrize(
    ("changed", "total", "limit", "allowed"),
    [
        (0, 0, "0", True),
        (1, 10, "0", False),
        (5, 10, "5", True),
        (6, 10, "5", False),
        (5, 10, "50%", True),
        (6, 10, "50%", False),
        (1, 3, "33%", False),  # a share is rounded down
        (1, 3, "34%", True),
        (3, 3, "100%", True),
    ],
)
def test_max_changed_is_a_number_or_a_share(changed: int, total: int, limit: str, allowed: bool) -> None:
    names = [f"client-{number}" for number in range(changed)]
    assert (too_many_instances(names, total, limit) is None) is allowed


def test_max_changed_says_what_would_change() -> None:
    assert too_many_instances(["b", "a"], 10, "1") == (
        "2 of 10 instances would change: a, b; that is more than --max-changed 1 allows"
    )
