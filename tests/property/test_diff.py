"""diff for any desired and observed state: applied once, nothing is left; equal inputs give byte-equal output.

Apply is simulated on a dictionary: it does to resources what sql/kinds does to rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.changes import Change, Create, Deactivate, Remove, Update
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds import plan as plans
from reconciler.model.secret import Secret
from reconciler.model.types import (
    Applied,
    ConnectPlan,
    ConnectView,
    Desired,
    Ignore,
    InstanceStatus,
    Key,
    Managed,
    Resource,
    Snapshot,
    State,
)
from reconciler.planning.plan import Plan, applied_after, build_plan
from reconciler.planning.report import InstanceReport, Report, as_json
from tests.support.examples import INSTANCE, NOON, desired

TODAY = date(2026, 10, 1)
FEW = st.sampled_from(["a", "b", "c", "d"])
"""So few that names often coincide."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
UNMANAGED = st.sampled_from(["keep", "deactivate", "remove"])


@st.composite
def queues(draw: st.DrawFn, *, declared: bool) -> list[Resource]:
    names = draw(st.lists(st.text(max_size=3) | FEW, unique=True, max_size=5))
    return [
        Resource(
            Key("queue", name),
            {
                "description": draw(st.none() | FEW),
                "is_active": draw(st.booleans() if declared else st.none() | st.booleans()),
            },
            renamed_from=draw(st.none() | FEW) if declared else None,
            row_id=None if declared else name,
            referenced=False if declared else draw(st.booleans()),
        )
        for name in names
    ]


@st.composite
def connect_plans(draw: st.DrawFn) -> list[ConnectPlan]:
    maybe = st.none() | st.sampled_from(["x", "y"])
    return [
        ConnectPlan(
            plan_id,
            draw(FEW),
            draw(st.integers(0, 2)),
            "monthly",
            draw(st.lists(FEW, max_size=2)),
            stripe_product_id=draw(maybe),
            stripe_price_id=draw(maybe),
            is_active=draw(st.booleans()),
        )
        for plan_id in draw(st.lists(FEW, unique=True, max_size=4))
    ]


def admin(email: str, password: str, *, on_create: bool = False, renamed_from: str | None = None) -> Resource:
    fields = {"name": "A", "password": Secret(password), "role": "admin"}
    kept = frozenset({"password"} if on_create else ())
    return Resource(Key("admin", email), fields, on_create=kept, renamed_from=renamed_from)


@st.composite
def manifests(draw: st.DrawFn) -> Desired:
    settings = draw(st.dictionaries(FEW, JSON, max_size=3))
    managed = {
        "queue": Managed(tuple(draw(queues(declared=True))), draw(UNMANAGED)),
        "setting": Managed(tuple(Resource(Key("setting", name), {"value": value}) for name, value in settings.items())),
        "admin": Managed(
            (admin(draw(FEW), draw(FEW), on_create=draw(st.booleans()), renamed_from=draw(st.none() | FEW)),)
        ),
    }
    ignored = draw(st.lists(st.sampled_from(["queue/a", "queue/*/description", "plan/*/price", "*/b/*"]), max_size=2))
    return replace(
        desired(plans_from_connect=True, plans_unmanaged=draw(st.sampled_from(["keep", "deactivate"]))),
        managed=managed,
        ignore=tuple(Ignore(pattern, "accepted") for pattern in ignored),
    )


@st.composite
def views(draw: st.DrawFn) -> ConnectView:
    words = st.sampled_from(["active", "suspended", "pending_payment"])
    features = draw(st.dictionaries(FEW, st.booleans(), max_size=2))
    status = InstanceStatus(INSTANCE, draw(words), draw(st.sampled_from(["paid", "overdue"])), features)  # type: ignore[arg-type]
    told = draw(st.none() | connect_plans())
    return ConnectView(
        status=draw(st.none() | st.just(status)),
        plans=None if told is None else tuple(told),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    rows = draw(queues(declared=False))
    for number, plan in enumerate(draw(connect_plans())):
        (row,) = plans.managed((plan,), "keep", "connect").resources
        row_id = draw(st.just(plan.id) | st.just(f"row-{number}"))
        rows.append(replace(row, key=Key("plan", row_id), source="manifest"))
    rows += [
        Resource(Key("setting", name), {"value": value})
        for name, value in draw(st.dictionaries(FEW, JSON, max_size=3)).items()
    ]
    rows += [admin(email, "a") for email in draw(st.lists(FEW, unique=True, max_size=2))]
    remembered = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return Snapshot(
        draw(st.none() | st.integers(1, 3)),
        {row.key: row for row in rows},
        {row.key: Applied(row.fields, "run-1", NOON) for row in remembered},
    )


def observe(wanted: Desired, said: ConnectView, seen: Snapshot) -> Plan:
    return build_plan(wanted, said, seen, schema_version=3, today=TODAY)


def applied_to(state: State, changes: Sequence[Change]) -> State:
    """Returns the rows after all changes."""
    rows = dict(state)
    for change in changes:
        match change:
            case Create():
                rows[change.key] = replace(change.desired, on_create=frozenset(), renamed_from=None)
            case Update():
                row = rows.pop(change.observed.key)
                key = row.key if change.key.kind == "plan" else change.key
                assert key not in rows, "two rows of one name"
                fields = {
                    name: value for name, value in change.desired.fields.items() if name not in change.desired.on_create
                }
                rows[key] = replace(row, key=key, fields={**row.fields, **fields})
            case Deactivate():
                active = BY_NAME[change.key.kind].active
                assert active is not None
                row = rows[change.key]
                rows[change.key] = replace(row, fields={**row.fields, active: False})
            case Remove():
                del rows[change.key]
    return rows


def after(plan: Plan, seen: Snapshot) -> Snapshot:
    rows = applied_to(seen.state, [change for change in plan.changes if change.key.kind not in ("database", "schema")])
    gone = {change.key for change in plan.changes if isinstance(change, Deactivate | Remove)}
    kept = {key: last for key, last in seen.applied.items() if key not in gone}
    new = {key: Applied(resource.fields, "run-2", NOON) for key, resource in applied_after(plan).items()}
    return replace(seen, schema_version=3, state=rows, applied={**kept, **new}, database_exists=True)


@given(manifests(), views(), snapshots())
def test_second_apply_is_empty(wanted: Desired, said: ConnectView, seen: Snapshot) -> None:
    first = observe(wanted, said, seen)
    assert observe(wanted, said, after(first, seen)).changes == ()


@given(manifests(), views(), snapshots())
def test_rows_that_no_change_names_are_untouched(wanted: Desired, said: ConnectView, seen: Snapshot) -> None:
    plan = observe(wanted, said, seen)
    named = {change.observed.key for change in plan.changes if not isinstance(change, Create)}
    left = after(plan, seen).state
    for key, row in seen.state.items():
        if key not in named:
            assert left[key] == row


@given(manifests(), views(), snapshots())
def test_a_row_is_changed_once_at_most(wanted: Desired, said: ConnectView, seen: Snapshot) -> None:
    plan = observe(wanted, said, seen)
    rows = [change.observed.key for change in plan.changes if not isinstance(change, Create)]
    made = [change.key for change in plan.changes]
    assert len(set(rows)) == len(rows)
    assert len(set(made)) == len(made)


@given(manifests(), views(), snapshots())
def test_referenced_rows_are_never_removed_unknown_is_not_absent(
    wanted: Desired, said: ConnectView, seen: Snapshot
) -> None:
    plan = observe(wanted, said, seen)
    assert not [change for change in plan.changes if isinstance(change, Remove) and change.observed.referenced]
    if said.plans is None:
        assert not [change for change in plan.changes if change.key.kind == "plan"]
    if said.status is None:
        assert not [change for change in plan.changes if change.key.kind == "status"]


def as_bytes(plan: Plan) -> bytes:
    item = InstanceReport(plan.instance, plan.environment, "changed", 1, plan=plan, digest=plan.digest())
    return json.dumps(as_json(Report("diff", "run-1", NOON, 1, (item,)))).encode()


@given(manifests(), views(), snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_does_not_show(
    wanted: Desired, said: ConnectView, seen: Snapshot, chance: random.Random
) -> None:
    rows, remembered = list(seen.state.items()), list(seen.applied.items())
    chance.shuffle(rows)
    chance.shuffle(remembered)
    kinds = list(wanted.managed.items())
    chance.shuffle(kinds)
    told = None if said.plans is None else tuple(chance.sample(said.plans, len(said.plans)))
    one = observe(wanted, said, seen)
    other = observe(
        replace(wanted, managed=dict(kinds)),
        replace(said, plans=told),
        replace(seen, state=dict(rows), applied=dict(remembered)),
    )
    assert as_bytes(one) == as_bytes(other)


@given(manifests(), views(), snapshots())
def test_changes_are_sorted_by_kind_then_name(wanted: Desired, said: ConnectView, seen: Snapshot) -> None:
    keys = [(BY_NAME[change.key.kind].order, change.key.name) for change in observe(wanted, said, seen).changes]
    assert keys == sorted(keys)


@given(manifests(), views(), snapshots())
def test_no_secret_reaches_the_report(wanted: Desired, said: ConnectView, seen: Snapshot) -> None:
    secret = Secret("hunter2-the-secret")
    resources = tuple(
        replace(item, fields={**item.fields, "password": secret}) for item in wanted.managed["admin"].resources
    )
    hidden = replace(wanted, managed={**wanted.managed, "admin": Managed(resources)})
    assert secret.reveal().encode() not in as_bytes(observe(hidden, said, seen))
