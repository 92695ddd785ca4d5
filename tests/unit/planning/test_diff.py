"""diff: takes desired and observed state, returns changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.changes import Create, Deactivate, FieldChange, Remove, Update
from reconciler.model.kinds import admin
from reconciler.model.kinds import config as configs
from reconciler.model.kinds import plan as plans
from reconciler.model.kinds import queue as queues
from reconciler.model.kinds import setting as settings
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, Key, Managed, Resource, Value
from reconciler.planning.diff import diff_kind
from tests.support.examples import NOON, applied, queue, setting, state

SALES = queue("Sales", "we sell")


def test_equal_states_have_no_difference() -> None:
    assert diff_kind(queues.KIND, Managed((SALES,)), state(SALES), {}) == ()


def test_a_missing_row_is_created_with_the_fields_that_are_set() -> None:
    bare = queue("Sales")
    created = Create(bare.key, (FieldChange("is_active", None, after=True),), "manifest", "new", bare)
    assert diff_kind(queues.KIND, Managed((bare,)), {}, {}) == (created,)


def test_only_fields_that_differ_are_updated() -> None:
    row = replace(queue("Sales", "old"), row_id="7")
    change = Update(SALES.key, (FieldChange("description", "old", "we sell"),), "manifest", "new", SALES, observed=row)
    assert diff_kind(queues.KIND, Managed((SALES,)), state(row), {}) == (change,)


def test_true_in_the_database_is_not_one_in_the_manifest() -> None:
    (change,) = diff_kind(settings.KIND, Managed((setting("beta", 1),)), state(setting("beta", True)), {})
    assert change.fields == (FieldChange("value", True, 1),)


def test_the_order_of_keys_and_a_trailing_zero_are_no_difference() -> None:
    declared = setting("limits", {"a": 1, "b": [2.0]})
    stored = setting("limits", {"b": [2], "a": 1.0})
    assert diff_kind(settings.KIND, Managed((declared,)), state(stored), {}) == ()


def test_two_spellings_of_one_address_are_no_difference() -> None:
    def config(url: str) -> Resource:
        return Resource(Key("config", "client-abc-123"), {"connect_api_url": url})

    declared = Managed((config("https://connect.example"),))
    assert diff_kind(configs.KIND, declared, state(config("https://Connect.example:443/")), {}) == ()
    (change,) = diff_kind(configs.KIND, declared, state(config("https://connect.example/v2")), {})
    assert change.fields == (FieldChange("connect_api_url", "https://connect.example/v2", "https://connect.example"),)


@pytest.mark.parametrize(
    ("last", "live", "cause"),
    [
        (None, "other", "new"),
        ("we sell", "other", "drift"),
        ("we sold", "we sold", "intent"),
        ("we sold", "other", "intent"),
    ],
)
def test_an_updates_cause_depends_on_what_was_last_applied(last: str | None, live: str, cause: str) -> None:
    remembered = applied(queue("Sales", last)) if last else {}
    (change,) = diff_kind(queues.KIND, Managed((SALES,)), state(queue("Sales", live)), remembered)
    assert change.cause == cause


def test_one_drifted_field_among_intended_ones_makes_it_drift() -> None:
    live = queue("Sales", "old words", is_active=False)
    (change,) = diff_kind(queues.KIND, Managed((SALES,)), state(live), applied(queue("Sales", "old words")))
    assert change.cause == "drift"


def test_an_applied_row_that_is_gone_is_drift() -> None:
    (change,) = diff_kind(queues.KIND, Managed((SALES,)), {}, applied(SALES))
    assert (change.action, change.cause) == ("create", "drift")


def test_a_plan_applied_to_another_plans_row_has_lost_no_row() -> None:
    """Connect gave a plan another id, and lists the old one again beside it: nobody touched the database."""
    old, new = (Resource(Key("plan", name), {"name": "Pro", "price": 2900}) for name in ("pro", "pro-2"))
    one = {old.key: Applied(new.fields, "run-2", NOON), new.key: Applied(new.fields, "run-2", NOON)}
    (change,) = diff_kind(plans.KIND, Managed((old, new)), state(old), one)
    assert (change.key, change.action, change.cause) == (new.key, "create", "intent")
    (change,) = diff_kind(plans.KIND, Managed((new,)), {}, one)
    assert (change.action, change.cause) == ("create", "drift")
    apart = one | {old.key: Applied(old.fields, "run-1", NOON)}
    (change,) = diff_kind(plans.KIND, Managed((old, new)), state(old), apart)
    assert (change.action, change.cause) == ("create", "drift")


def test_a_field_that_was_not_applied_before_is_intent() -> None:
    remembered = {SALES.key: Applied({"is_active": True}, "run-1", NOON)}
    (change,) = diff_kind(queues.KIND, Managed((SALES,)), state(queue("Sales", "x")), remembered)
    assert change.cause == "intent"


def test_changes_are_sorted_by_name() -> None:
    declared = Managed((queue("b"), queue("a"), queue("c")), "deactivate")
    found = diff_kind(queues.KIND, declared, state(queue("bb")), {})
    assert [change.key.name for change in found] == ["a", "b", "bb", "c"]


class TestRename:
    RENAMED = queue("Vendas", "we sell", renamed_from="Sales")

    def test_a_rename_updates_the_row_in_place(self) -> None:
        row = replace(SALES, row_id="7")
        change = Update(
            self.RENAMED.key, (FieldChange("name", "Sales", "Vendas"),), "manifest", "intent", self.RENAMED, row
        )
        assert diff_kind(queues.KIND, Managed((self.RENAMED,)), state(row), applied(SALES)) == (change,)

    def test_an_admin_is_renamed_by_email(self) -> None:
        old = Resource(Key("admin", "old@e.com"), {"name": "A", "role": "admin"})
        new = Resource(Key("admin", "new@e.com"), {"name": "A", "role": "admin"}, renamed_from="old@e.com")
        (change,) = diff_kind(admin.KIND, Managed((new,)), state(old), {})
        assert change.fields == (FieldChange("email", "old@e.com", "new@e.com"),)

    def test_an_admin_who_moves_along_changes_the_environment(self) -> None:
        there = Resource(Key("admin", "a@e.com"), {"name": "A", "role": "admin"}, moves_from="development")
        (change,) = diff_kind(admin.KIND, Managed((replace(there, moves_from=None),)), state(there), {})
        assert change.fields == (FieldChange("environment", "development", "production"),)

    def test_after_the_rename_the_old_name_says_nothing(self) -> None:
        assert diff_kind(queues.KIND, Managed((self.RENAMED,)), state(queue("Vendas", "we sell")), {}) == ()

    def test_if_both_names_exist_the_old_row_is_left_alone(self) -> None:
        both = state(queue("Vendas", "we sell"), SALES)
        assert diff_kind(queues.KIND, Managed((self.RENAMED,)), both, {}) == ()

    def test_if_neither_name_exists_the_new_one_is_created(self) -> None:
        (change,) = diff_kind(queues.KIND, Managed((self.RENAMED,)), {}, {})
        assert (change.action, change.key.name) == ("create", "Vendas")

    def test_a_row_declared_under_its_own_name_is_not_renamed(self) -> None:
        (change,) = diff_kind(queues.KIND, Managed((self.RENAMED, SALES)), state(SALES), {})
        assert (change.action, change.key.name) == ("create", "Vendas")

    def test_two_queues_cannot_come_of_one_row(self) -> None:
        other = queue("Comercial", renamed_from="Sales")
        found = diff_kind(queues.KIND, Managed((self.RENAMED, other)), state(SALES), {})
        assert [(change.action, change.key.name) for change in found] == [("create", "Comercial"), ("update", "Vendas")]

    def test_names_swapped_in_the_manifest_swap_no_rows(self) -> None:
        swapped = (queue("A", "a", renamed_from="B"), queue("B", "b", renamed_from="A"))
        assert diff_kind(queues.KIND, Managed(swapped), state(queue("A", "a"), queue("B", "b")), {}) == ()


class TestUnmanaged:
    EXTRA = queue("Extra", "made by hand")

    def test_kept_rows_are_untouched(self) -> None:
        assert diff_kind(queues.KIND, Managed((SALES,), "keep"), state(SALES, self.EXTRA), {}) == ()

    def test_a_row_not_named_is_deactivated(self) -> None:
        off = Deactivate(self.EXTRA.key, (FieldChange("is_active", True, after=False),), "manifest", "new", self.EXTRA)
        assert diff_kind(queues.KIND, Managed((SALES,), "deactivate"), state(SALES, self.EXTRA), {}) == (off,)

    def test_a_row_already_inactive_is_no_change(self) -> None:
        inactive = replace(self.EXTRA, fields={"is_active": False})
        assert diff_kind(queues.KIND, Managed((SALES,), "deactivate"), state(SALES, inactive), {}) == ()

    def test_a_row_that_nobody_refers_to_is_removed(self) -> None:
        gone = Remove(
            self.EXTRA.key,
            (FieldChange("description", "made by hand", None), FieldChange("is_active", True, None)),
            "manifest",
            "new",
            self.EXTRA,
        )
        assert diff_kind(queues.KIND, Managed((SALES,), "remove"), state(SALES, self.EXTRA), {}) == (gone,)

    def test_a_row_that_others_refer_to_is_deactivated_instead(self) -> None:
        used = replace(self.EXTRA, referenced=True)
        (change,) = diff_kind(queues.KIND, Managed((SALES,), "remove"), state(SALES, used), {})
        assert change.action == "deactivate"

    def test_a_referenced_row_that_is_inactive_stays(self) -> None:
        used = queue("Extra", is_active=False, referenced=True)
        assert diff_kind(queues.KIND, Managed((SALES,), "remove"), state(SALES, used), {}) == ()

    def test_a_kind_without_an_active_field_leaves_rows_alone(self) -> None:
        declared = Managed((setting("a", 1),), "remove")
        assert diff_kind(settings.KIND, declared, state(setting("a", 1), setting("b", 2)), {}) == ()

    @pytest.mark.parametrize(("last", "cause"), [((), "new"), ((SALES,), "drift"), ((SALES, EXTRA), "intent")])
    def test_its_cause_tells_an_omission_from_a_row_made_by_others(
        self, last: tuple[Resource, ...], cause: str
    ) -> None:
        (change,) = diff_kind(queues.KIND, Managed((SALES,), "deactivate"), state(SALES, self.EXTRA), applied(*last))
        assert change.cause == cause

    def test_an_empty_set_from_connect_is_connects_word(self) -> None:
        (change,) = diff_kind(queues.KIND, Managed((), "deactivate", "connect"), state(self.EXTRA), {})
        assert change.source == "connect"


class TestTwins:
    """Several rows of one name: the app may use any of them."""

    ON, OFF = {"description": None, "is_active": True}, {"description": None, "is_active": False}

    def test_one_that_differs_is_a_change(self) -> None:
        (change,) = diff_kind(queues.KIND, Managed((queue("A"),)), state(queue("A", twins=(self.OFF,))), {})
        assert change.fields == (FieldChange("is_active", False, after=True),)

    def test_they_are_off_when_all_are(self) -> None:
        declared = Managed((), "deactivate")
        (change,) = diff_kind(queues.KIND, declared, state(queue("A", is_active=False, twins=(self.ON,))), {})
        assert (change.action, change.fields) == ("deactivate", (FieldChange("is_active", True, after=False),))
        assert diff_kind(queues.KIND, declared, state(queue("A", is_active=False, twins=(self.OFF,))), {}) == ()

    def test_one_that_somebody_changed_makes_none_of_them_fivrecs(self) -> None:
        mine, declared = (
            {Key("queue", "A"): Applied(self.ON, "run-1", NOON, "created")},
            Managed((), former="deactivate"),
        )
        (change,) = diff_kind(queues.KIND, declared, state(queue("A", twins=(self.ON,))), mine)
        assert change.action == "deactivate"
        theirs = queue("A", twins=({**self.ON, "description": "by hand"},))
        assert diff_kind(queues.KIND, declared, state(theirs), mine) == ()


class TestSensitive:
    def declared(self, password: str, update: str = "always") -> Managed:
        document = {"admin": {"name": "A", "email": "a@e.com", "password": Secret(password), "update_password": update}}
        managed = admin.from_manifest(document)
        assert managed is not None
        return managed

    def row(self, password: str) -> Resource:
        return Resource(Key("admin", "a@e.com"), {"name": "A", "password": Secret(password), "role": "admin"})

    def test_a_created_secret_has_neither_before_nor_after(self) -> None:
        (change,) = diff_kind(admin.KIND, self.declared("hunter2"), {}, {})
        assert change.fields == (
            FieldChange("name", None, "A"),
            FieldChange("password", sensitive=True),
            FieldChange("role", None, "admin"),
        )

    def test_an_updated_secret_has_neither(self) -> None:
        (change,) = diff_kind(admin.KIND, self.declared("hunter2"), state(self.row("other")), {})
        assert change.fields == (FieldChange("password", sensitive=True),)

    def test_the_same_secret_is_no_change(self) -> None:
        assert diff_kind(admin.KIND, self.declared("hunter2"), state(self.row("hunter2")), {}) == ()

    def test_on_create_an_existing_password_is_never_compared(self) -> None:
        assert diff_kind(admin.KIND, self.declared("hunter2", "on_create"), state(self.row("other")), {}) == ()

    def test_on_create_sets_the_password_of_an_account_fivrec_locked(self) -> None:
        """An account that somebody else made unusable is left alone."""
        locked, declared = self.row("!"), self.declared("hunter2", "on_create")
        last = Applied({"name": "A", "role": "admin"}, "run-1", NOON)
        assert diff_kind(admin.KIND, declared, state(locked), {locked.key: last}) == ()
        (change,) = diff_kind(admin.KIND, declared, state(locked), {locked.key: replace(last, tenure="retired")})
        assert change.fields == (FieldChange("password", sensitive=True),)

    @pytest.mark.parametrize(("before", "after"), [(Secret("a"), "b"), ("a", Secret("b"))])
    def test_a_setting_is_masked_if_it_is_secret_or_was(self, before: Value, after: Value) -> None:
        (change,) = diff_kind(settings.KIND, Managed((setting("token", after),)), state(setting("token", before)), {})
        assert change.fields == (FieldChange("value", sensitive=True),)

    def test_on_create_a_new_admin_gets_the_password(self) -> None:
        (change,) = diff_kind(admin.KIND, self.declared("hunter2", "on_create"), {}, {})
        assert FieldChange("password", sensitive=True) in change.fields
