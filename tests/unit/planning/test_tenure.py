"""tenure: what happens to a resource that is no longer declared, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from reconciler.model.changes import Create, FieldChange, Former, Update
from reconciler.model.secret import Secret, Unusable, is_unusable
from reconciler.model.types import (
    Applied,
    ConnectView,
    Desired,
    EnvironmentSpec,
    FormerPolicy,
    Ignore,
    Key,
    Managed,
    Provenance,
    Resource,
    Snapshot,
    Tenure,
)
from reconciler.planning.guards import refusals
from reconciler.planning.plan import Plan, build_plan
from reconciler.planning.tenure import provenance_after, records_after
from tests.support.examples import INSTANCE, NOON, connect_plan, desired, queue, setting, snapshot, state

TODAY = date(2026, 10, 1)
SALES, NIGHT = queue("Sales"), queue("Night", "after ten")


def record(resource: Resource, provenance: Provenance = "created", tenure: Tenure = "declared") -> Applied:
    return Applied(resource.fields, "run-1", NOON, provenance, tenure)


def whole(*resources: Resource, former: FormerPolicy = "deactivate", kind: str = "queue") -> Desired:
    return replace(desired(whole=True), managed={kind: Managed(resources, former=former)})


def seen(rows: Sequence[Resource], **applied: Applied) -> Snapshot:
    kind = rows[0].key.kind
    return replace(snapshot(*rows), applied={Key(kind, name): last for name, last in applied.items()})


def planned(wanted: Desired, found: Snapshot) -> Plan:
    return build_plan(wanted, ConnectView(), found, schema_version=1, today=TODAY)


def actions(plan: Plan) -> list[tuple[str, str, str]]:
    return [(change.action, change.key.name, change.cause) for change in plan.changes]


NIGHT_FORMER = Former(NIGHT.key, "run-1", NOON)


@pytest.mark.parametrize(
    ("policy", "provenance", "live", "found", "former"),
    [
        ("deactivate", "created", NIGHT, [("deactivate", "Night", "intent")], ()),
        ("remove", "created", NIGHT, [("remove", "Night", "intent")], ()),
        ("remove", "created", replace(NIGHT, referenced=True), [("deactivate", "Night", "intent")], ()),
        ("keep", "created", NIGHT, [], (NIGHT_FORMER,)),
        ("deactivate", "adopted", NIGHT, [], (NIGHT_FORMER,)),
        ("deactivate", "created", queue("Night", "edited by hand"), [], (NIGHT_FORMER,)),
        ("deactivate", "created", queue("Night", "after ten", is_active=False), [], (NIGHT_FORMER,)),
    ],
)
def test_a_queue_that_is_no_longer_listed(
    policy: FormerPolicy, provenance: Provenance, live: Resource, found: list[object], former: tuple[Former, ...]
) -> None:
    plan = planned(
        whole(SALES, former=policy), seen([SALES, live], Sales=record(SALES), Night=record(NIGHT, provenance))
    )
    assert (actions(plan), plan.former) == (found, former)


def test_all_of_a_section_that_is_gone_is_shown_and_left() -> None:
    wanted = replace(desired(whole=True), managed={})
    plan = planned(wanted, seen([SALES, NIGHT], Sales=record(SALES), Night=record(NIGHT)))
    assert (plan.changes, [item.key.name for item in plan.former]) == ((), ["Night", "Sales"])


def test_a_part_of_a_manifest_makes_nothing_former() -> None:
    plan = planned(replace(desired(), managed={}), seen([SALES], Sales=record(SALES)))
    assert (plan.changes, plan.former) == ((), ())


def test_plans_are_not_former_while_connect_is_unreachable() -> None:
    row = Resource(Key("plan", "p1"), {"name": "One", "is_active": True})
    unanswered = replace(desired(whole=True, plans_from_connect=True), managed={})
    assert planned(unanswered, seen([row], p1=record(row, "adopted"))).former == ()


def test_what_connect_said_is_not_former_while_it_is_unreachable() -> None:
    row = Resource(Key("status", INSTANCE), {"status": "active", "is_locked": False})
    assert planned(replace(desired(whole=True), managed={}), seen([row], **{INSTANCE: record(row)})).former == ()


def test_plans_that_connect_lists_no_longer_are_former() -> None:
    row = Resource(Key("plan", "p1"), {"name": "One", "is_active": True})
    wanted = replace(desired(whole=True, plans_from_connect=True, plans_unmanaged="keep"), managed={})
    answer = ConnectView(plans=(connect_plan("p2", "Two"),))
    plan = build_plan(wanted, answer, seen([row], p1=record(row)), schema_version=1, today=TODAY)
    assert [item.key.name for item in plan.former] == ["p1"]


def test_plans_of_a_section_that_is_gone_are_former() -> None:
    row = Resource(Key("plan", "p1"), {"name": "One", "is_active": True})
    plan = planned(replace(desired(whole=True), managed={}), seen([row], p1=record(row)))
    assert [item.key.name for item in plan.former] == ["p1"]


def test_a_setting_that_fivrec_created_is_removed() -> None:
    rows = [setting("beta", 1), setting("mine", 2), setting("theirs", 3)]
    found = seen(rows, mine=record(rows[1]), theirs=record(rows[2], "adopted"))
    plan = planned(whole(former="remove", kind="setting"), found)
    assert (actions(plan), [item.key.name for item in plan.former]) == ([("remove", "mine", "intent")], ["theirs"])
    assert refusals(plan, found.state) == ()


def test_own_rows_are_removed_unasked_up_to_the_guards_share() -> None:
    rows = [setting(f"s{number}", number) for number in range(9)]
    found = seen(rows, **{row.key.name: record(row) for row in rows[:2]})
    plan = planned(whole(former="remove", kind="setting"), found)
    assert refusals(plan, found.state) == ("2 setting rows would be removed: s0, s1",)


class TestAdmin:
    OLD = Resource(Key("admin", "old@e.com"), {"name": "A", "password": Secret("hash"), "role": "admin"})
    NEW = Resource(Key("admin", "new@e.com"), {"name": "A", "role": "admin"})

    def plan(self, policy: FormerPolicy, last: Applied) -> Plan:
        found = replace(snapshot(self.OLD, self.NEW), applied={self.OLD.key: last, self.NEW.key: record(self.NEW)})
        return planned(whole(self.NEW, former=policy, kind="admin"), found)

    def test_a_created_one_becomes_an_agent(self) -> None:
        (change,) = self.plan("demote", record(self.OLD)).changes
        shown = [field.shown() for field in change.fields]
        assert (change.cause, shown) == ("intent", [{"field": "role", "before": "admin", "after": "agent"}])

    def test_a_promoted_one_gets_the_role_from_before(self) -> None:
        last = replace(record(self.OLD, "promoted"), before={"role": "supervisor"})
        (change,) = self.plan("demote", last).changes
        assert change.fields[0].after == "supervisor"

    def test_lock_makes_the_password_unusable_too(self) -> None:
        (change,) = self.plan("lock", record(self.OLD)).changes
        assert [field.field for field in change.fields] == ["password", "role"]
        assert is_unusable(change.desired.fields["password"])  # type: ignore[union-attr]

    def test_one_that_was_demoted_is_left_as_it_is(self) -> None:
        demoted = replace(self.OLD, fields={**self.OLD.fields, "role": "agent"})
        last = record(demoted, tenure="retired")
        found = replace(snapshot(demoted, self.NEW), applied={demoted.key: last, self.NEW.key: record(self.NEW)})
        plan = planned(whole(self.NEW, former="demote", kind="admin"), found)
        assert (plan.changes, plan.former) == ((), ())

    def test_a_password_of_ones_own_makes_no_other_administrator(self) -> None:
        last = record(replace(self.OLD, fields={**self.OLD.fields, "password": Secret("the first")}))
        assert len(self.plan("demote", last).changes) == 1

    def test_of_several_of_one_email_none_is_taken_back(self) -> None:
        """Nobody can tell which of them was fivrec's."""
        rows = replace(self.OLD, twins=(self.OLD.fields,))
        found = seen([rows, self.NEW], **{rows.key.name: record(self.OLD)})
        plan = planned(whole(self.NEW, former="demote", kind="admin"), found)
        assert (plan.changes, [item.key for item in plan.former]) == ((), [self.OLD.key])

    def test_an_adopted_one_is_kept_and_shown(self) -> None:
        plan = self.plan("demote", record(self.OLD, "adopted"))
        assert (plan.changes, [item.key for item in plan.former]) == ((), [self.OLD.key])

    def test_several_at_once_are_refused(self) -> None:
        others = [replace(self.OLD, key=Key("admin", f"{name}@e.com")) for name in "abc"]
        found = seen([*others, self.NEW], **{row.key.name: record(row) for row in others})
        plan = planned(whole(self.NEW, former="demote", kind="admin"), found)
        assert refusals(plan, found.state) == ("3 of 4 admin rows would be demoted: a@e.com, b@e.com, c@e.com",)


class TestRecords:
    def test_a_row_that_is_taken_back_is_retired_as_it_was_left(self) -> None:
        found, wanted = seen([SALES, NIGHT], Sales=record(SALES), Night=record(NIGHT)), whole(SALES)
        left = Applied({"description": "after ten", "is_active": False}, "run-1", NOON, "created", "retired")
        assert records_after(planned(wanted, found), wanted, found) == {NIGHT.key: left}
        again = replace(found, state=state(SALES, queue("Night", "after ten", is_active=False)))
        again = replace(again, applied={**found.applied, NIGHT.key: left})
        assert planned(wanted, again).changes == planned(wanted, again).former == ()
        assert records_after(planned(wanted, again), wanted, again) == {}

    def test_declared_again_it_is_intent(self) -> None:
        off = queue("Night", "after ten", is_active=False)
        found = seen([SALES, off], Sales=record(SALES), Night=record(off, tenure="retired"))
        assert actions(planned(whole(SALES, NIGHT), found)) == [("update", "Night", "intent")]

    def test_switched_on_by_others_it_is_shown_as_former(self) -> None:
        off = queue("Night", "after ten", is_active=False)
        found = seen([SALES, NIGHT], Sales=record(SALES), Night=record(off, tenure="retired"))
        wanted = whole(SALES)
        plan = planned(wanted, found)
        assert (plan.changes, plan.former, records_after(plan, wanted, found)) == ((), (NIGHT_FORMER,), {})

    def test_changed_declared_rows_need_no_new_record(self) -> None:
        found, wanted = seen([queue("Sales", "by hand")], Sales=record(SALES)), whole(SALES)
        assert records_after(planned(wanted, found), wanted, found) == {}

    def test_removed_rows_no_longer_belong_to_fivrec(self) -> None:
        row, wanted = setting("beta", 1), whole(former="remove", kind="setting")
        found = seen([row], beta=record(row))
        assert records_after(planned(wanted, found), wanted, found) == {row.key: record(row, "adopted", "retired")}

    def test_of_a_locked_account_no_password_is_remembered(self) -> None:
        old = TestAdmin.OLD
        found, wanted = seen([old], **{old.key.name: record(old)}), whole(TestAdmin.NEW, former="lock", kind="admin")
        (last,) = records_after(planned(wanted, found), wanted, found).values()
        assert (last.tenure, last.fields) == ("retired", {"name": "A", "role": "agent"})

    def test_rows_kept_active_by_ignore_keep_their_record(self) -> None:
        found = seen([SALES, NIGHT], Sales=record(SALES), Night=record(NIGHT))
        wanted = replace(whole(SALES), ignore=(Ignore("queue/Night", "until spring"),))
        assert records_after(planned(wanted, found), wanted, found) == {}

    @pytest.mark.parametrize("price", [1, 2])
    def test_a_plan_of_another_id_keeps_its_row_and_the_rows_record(self, price: int) -> None:
        row = Resource(Key("plan", "p1"), {"name": "One", "price": 1})
        said = Resource(Key("plan", "p2"), {"name": "One", "price": price}, source="connect")
        wanted = replace(desired(whole=True), managed={"plan": Managed((said,), "deactivate", "connect")})
        found = seen([row], p1=record(row))
        assert records_after(planned(wanted, found), wanted, found) == {}

    def test_a_row_made_by_others_after_a_removal_is_theirs(self) -> None:
        wanted, off = whole(SALES), queue("Night", "after ten", is_active=False)
        gone = seen([SALES], Sales=record(SALES), Night=record(off, tenure="retired"))
        after = records_after(planned(wanted, gone), wanted, gone)
        assert after == {NIGHT.key: record(off, "adopted", "retired")}
        remade = replace(gone, state=state(SALES, NIGHT), applied={**gone.applied, **after})
        assert planned(wanted, remade).former == ()

    def test_a_demoted_administrator_is_not_read_and_stays_fivrecs(self) -> None:
        old, wanted = TestAdmin.OLD, whole(TestAdmin.NEW, former="demote", kind="admin")
        found = seen([TestAdmin.NEW], **{old.key.name: record(old, tenure="retired")})
        assert records_after(planned(wanted, found), wanted, found) == {}

    def test_a_kept_row_is_remembered_as_former(self) -> None:
        found, wanted = seen([NIGHT], Night=record(NIGHT, "adopted")), whole(SALES)
        assert records_after(planned(wanted, found), wanted, found) == {NIGHT.key: record(NIGHT, "adopted", "former")}

    def test_a_former_name_whose_row_still_exists_is_not_the_renamed_row(self) -> None:
        off, wanted = queue("Sales", is_active=False), whole(queue("Vendas", renamed_from="Sales"))
        found = seen([off, queue("Vendas")], Sales=record(off), Vendas=record(queue("Vendas")))
        assert records_after(planned(wanted, found), wanted, found) == {SALES.key: record(off, tenure="retired")}

    def test_a_row_that_others_made_again_is_not_fivrecs(self) -> None:
        wanted = whole(SALES, former="remove")
        gone = seen([SALES], Sales=record(SALES), Night=record(NIGHT))
        (last,) = records_after(planned(wanted, gone), wanted, gone).values()
        assert (last.tenure, last.provenance) == ("retired", "adopted")
        remade = replace(gone, state=state(SALES, NIGHT), applied={**gone.applied, NIGHT.key: last})
        assert planned(wanted, remade).changes == planned(wanted, remade).former == ()


CREATION = Create(SALES.key, (), "manifest", "drift", SALES)
AGENT = Resource(Key("admin", "a@e.com"), {"name": "A", "role": "agent"})
ADMIN = replace(AGENT, fields={"name": "A", "role": "admin"})
PROMOTION = Update(ADMIN.key, (FieldChange("role", "agent", "admin"),), "manifest", "intent", ADMIN, AGENT)


@pytest.mark.parametrize(
    ("change", "last", "provenance", "before"),
    [
        (None, None, "adopted", {}),
        (None, record(SALES), "created", {}),
        (CREATION, None, "created", {}),
        (CREATION, record(SALES, "adopted"), "created", {}),  # it was gone, and is fivrec's now
        (PROMOTION, None, "promoted", {"role": "agent"}),
        (PROMOTION, record(ADMIN, "adopted"), "adopted", {}),  # somebody else demoted a declared one: restored
        (PROMOTION, record(AGENT, "created", "retired"), "created", {}),  # fivrec's own, demoted in between
        (PROMOTION, record(AGENT, "adopted", "retired"), "promoted", {"role": "agent"}),
    ],
)
def test_how_a_resource_became_fivrecs(
    change: Create | Update | None, last: Applied | None, provenance: Provenance, before: dict[str, str]
) -> None:
    assert provenance_after(change, last) == (provenance, before)


def test_a_row_that_is_renamed_is_not_former() -> None:
    plan = planned(whole(queue("Vendas", renamed_from="Sales"), former="keep"), seen([SALES], Sales=record(SALES)))
    assert (actions(plan), plan.former) == ([("update", "Vendas", "intent")], ())


class TestCauses:
    def test_a_renamed_queues_old_name_declared_again_is_intent(self) -> None:
        renamed = queue("Vendas", renamed_from="Sales")
        found, wanted = seen([SALES], Sales=record(SALES)), whole(renamed)
        after = records_after(planned(wanted, found), wanted, found)
        assert after == {SALES.key: replace(record(SALES, "adopted", "retired"), before={"renamed_to": "Vendas"})}
        later = replace(seen([queue("Vendas")], Vendas=record(queue("Vendas"))), applied={**after})
        assert ("create", "Sales", "intent") in actions(planned(whole(renamed, SALES), later))

    def test_a_plan_that_connect_drops_and_offers_again_is_intent(self) -> None:
        on = Resource(Key("plan", "p1"), {"name": "One", "is_active": True})
        off = replace(on, fields={**on.fields, "is_active": False})
        dropped = replace(desired(whole=True), managed={"plan": Managed((), "deactivate", "connect")})
        found = seen([on], p1=record(on))
        after = records_after(planned(dropped, found), dropped, found)
        assert after[on.key].tenure == "retired"
        offered = replace(dropped, managed={"plan": Managed((on,), "deactivate", "connect")})
        assert actions(planned(offered, replace(seen([off]), applied=after))) == [("update", "p1", "intent")]

    def test_in_an_environment_that_comes_back_nothing_is_drift(self) -> None:
        there = Resource(Key("environment", INSTANCE), {"name": "production", "isolation": "constraints"})
        back = replace(there, fields={**there.fields, "name": "development"})
        wanted = replace(
            desired(SALES, setting("locale", "pt"), back), environment=EnvironmentSpec("development"), whole=True
        )
        found = replace(
            snapshot(there, setting("locale", "en")),
            applied={SALES.key: record(SALES), Key("setting", "locale"): record(setting("locale", "en"))},
        )
        assert {change.cause for change in planned(wanted, found).changes if change.key != back.key} == {"intent"}

    def test_a_locked_account_opens_when_its_environment_returns(self) -> None:
        there = Resource(Key("environment", INSTANCE), {"name": "development", "isolation": "constraints"})
        ana = Resource(Key("admin", "a@e.com"), {"name": "A", "role": "admin"})
        locked = replace(ana, fields={**ana.fields, "role": "agent", "password": Unusable()})
        again = replace(ana, fields={**ana.fields, "password": Secret("new")}, on_create=frozenset({"password"}))
        wanted = desired(again, replace(there, fields={**there.fields, "name": "production"}))
        found = replace(snapshot(there, locked), applied={ana.key: record(ana, tenure="retired")})
        (change,) = (one for one in planned(wanted, found).changes if one.key.kind == "admin")
        assert [field.field for field in change.fields] == ["password", "role"]

    def test_a_changed_administrator_who_moves_along_is_drift(self) -> None:
        there = Resource(Key("environment", INSTANCE), {"name": "development", "isolation": "constraints"})
        ana = Resource(Key("admin", "a@e.com"), {"name": "A", "role": "admin"})
        wanted = desired(ana, replace(there, fields={**there.fields, "name": "production"}))
        row = replace(ana, fields={**ana.fields, "name": "by hand"}, moves_from="development")
        found = replace(snapshot(there, row), applied={ana.key: record(ana)})
        (change,) = (one for one in planned(wanted, found).changes if one.key.kind == "admin")
        assert change.cause == "drift"

    def test_a_changed_setting_is_drift_also_when_the_environment_changes(self) -> None:
        """Settings belong to the instance: what was applied of them under the other environment counts."""
        there = Resource(Key("environment", INSTANCE), {"name": "development", "isolation": "constraints"})
        wanted = desired(setting("locale", "pt"), replace(there, fields={**there.fields, "name": "production"}))
        found = replace(
            snapshot(there, setting("locale", "en")),
            applied={Key("setting", "locale"): record(setting("locale", "pt"))},
        )
        (change,) = (one for one in planned(wanted, found).changes if one.key.kind == "setting")
        assert change.cause == "drift"
