"""kind plan: which row of plans matches which plan of Connect."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.changes import FieldChange
from reconciler.model.kinds import plan as plans
from reconciler.model.types import ConnectPlan, ConnectView, Key, Resource
from reconciler.planning.diff import diff_kind
from tests.support.examples import connect_plan, state


def row(row_id: str, plan: ConnectPlan) -> Resource:
    """Returns the plan as a row with a different id."""
    (resource,) = plans.managed((plan,), "keep", "connect").resources
    return replace(resource, key=Key("plan", row_id), row_id=row_id)


def matched(desired: list[ConnectPlan], *rows: Resource) -> dict[str, str]:
    resources = plans.managed(desired, "keep", "connect").resources
    return {key.name: found.key.name for key, found in plans.match(resources, rows).items()}


def test_the_id_wins_over_product_and_name() -> None:
    wanted = connect_plan("p1", "Starter", stripe_product_id="prod")
    by_id = row("p1", connect_plan("x", "Other", stripe_product_id="else"))
    assert matched([wanted], row("r1", wanted), by_id) == {"p1": "p1"}


def test_the_product_wins_over_the_name() -> None:
    wanted = connect_plan("p1", "Starter", stripe_product_id="prod")
    named = row("a", connect_plan("x", "Starter"))
    sold = row("b", connect_plan("x", "Old name", stripe_product_id="prod"))
    assert matched([wanted], named, sold) == {"p1": "b"}


def test_the_name_is_the_last_resort() -> None:
    assert matched([connect_plan("p1", "Starter")], row("r", connect_plan("x", "Starter"))) == {"p1": "r"}


def test_plans_without_a_product_are_not_of_one_product() -> None:
    assert matched([connect_plan("p1", "A")], row("r", connect_plan("x", "B"))) == {}


def test_one_row_is_not_two_plans() -> None:
    both = [connect_plan("p1", "Starter"), connect_plan("p2", "Starter")]
    assert matched(both, row("r", connect_plan("x", "Starter"))) == {"p1": "r"}


def test_two_prices_of_one_product_keep_their_rows() -> None:
    monthly = connect_plan("p1", "Month", stripe_product_id="prod", stripe_price_id="price_m")
    yearly = connect_plan("p2", "Year", stripe_product_id="prod", stripe_price_id="price_y")
    dearer = replace(monthly, price=3900), replace(yearly, price=39000)
    assert matched(list(dearer), row("a", yearly), row("b", monthly)) == {"p1": "b", "p2": "a"}


def test_two_prices_of_one_product_keep_their_rows_under_new_names() -> None:
    monthly = connect_plan("p1", "Month", stripe_product_id="prod", stripe_price_id="price_m")
    yearly = connect_plan("p2", "Year", stripe_product_id="prod", stripe_price_id="price_y")
    renamed = replace(monthly, name="Mensal"), replace(yearly, name="Anual")
    assert matched(list(renamed), row("a", yearly), row("b", monthly)) == {"p1": "b", "p2": "a"}


def test_two_names_of_one_product_keep_their_rows() -> None:
    monthly = connect_plan("p1", "Month", stripe_product_id="prod")
    yearly = connect_plan("p2", "Year", stripe_product_id="prod")
    dearer = [replace(monthly, price=3900), replace(yearly, price=39000)]
    assert matched(dearer, row("a", yearly), row("b", monthly)) == {"p1": "b", "p2": "a"}


def test_two_plans_of_one_name_keep_the_rows_they_match() -> None:
    cheap, dear = connect_plan("p1", "Starter", 2900), connect_plan("p2", "Starter", 9900)
    assert matched([cheap, dear], row("a", dear), row("b", cheap)) == {"p1": "b", "p2": "a"}


def test_a_row_matched_by_name_keeps_its_id_and_is_in_sync() -> None:
    plan = connect_plan("plan_starter", "Starter", stripe_product_id="prod")
    managed = plans.managed((plan,), "deactivate", "connect")
    assert diff_kind(plans.KIND, managed, state(row("row-1", plan)), {}) == ()


def test_a_changed_price_is_an_update_under_connects_id() -> None:
    plan = connect_plan("plan_starter")
    managed = plans.managed((replace(plan, price=3900),), "deactivate", "connect")
    (change,) = diff_kind(plans.KIND, managed, state(row("row-1", plan)), {})
    assert (change.key.name, change.action, change.source) == ("plan_starter", "update", "connect")
    assert change.fields == (FieldChange("price", 2900, 3900),)


def test_plans_that_connect_did_not_tell_are_not_managed() -> None:
    assert plans.from_connect(ConnectView(), "deactivate") is None


def test_no_plans_at_connect_is_an_empty_set_not_an_unknown_one() -> None:
    managed = plans.from_connect(ConnectView(plans=()), "deactivate")
    assert managed is not None
    assert (managed.resources, managed.unmanaged, managed.source) == ((), "deactivate", "connect")


def test_of_equally_similar_rows_the_active_one_is_the_plan() -> None:
    """A plan got a new id, and its row has a deactivated duplicate: the name changes, and the row stays."""
    sold = connect_plan("x", "Starter", stripe_product_id="prod", stripe_price_id="price")
    retired = replace(sold, is_active=False)
    wanted = replace(sold, id="plan_v2", name="Starter 2")
    assert matched([wanted], row("a", retired), row("b", sold)) == {"plan_v2": "b"}
