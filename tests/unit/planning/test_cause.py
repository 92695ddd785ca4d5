"""cause: why a row differs, which record of it counts, and which names a revert restores."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.model.kinds import BY_NAME
from reconciler.model.types import Applied, Key, Managed, Provenance, Resource, Tenure
from reconciler.planning.cause import last_of, with_renames_undone
from reconciler.planning.diff import diff_kind
from tests.support.examples import NOON, queue, state

SALES, VENDAS = Key("queue", "Sales"), Key("queue", "Vendas")


def record(
    name: str, tenure: Tenure = "declared", *, to: str | None = None, provenance: Provenance = "created"
) -> Applied:
    before = {} if to is None else {"renamed_to": to}
    return Applied({"description": None, "is_active": True}, f"run of {name}", NOON, provenance, tenure, before=before)


def cause(kind: str, declared: Resource, row: Resource, applied: Mapping[Key, Applied]) -> str:
    (change,) = diff_kind(BY_NAME[kind], Managed((declared,)), state(row), applied)
    return change.cause


def test_a_resource_declared_again_is_always_intent() -> None:
    assert cause("queue", queue("Sales"), queue("Sales", "by hand"), {SALES: record("Sales", "former")}) == "intent"


def test_a_name_that_somebody_spelled_otherwise_has_drifted() -> None:
    declared, row = (Resource(Key("admin", email), {"name": "A"}) for email in ("ana@e.com", "Ana@e.com"))
    last = {declared.key: Applied({"name": "A"}, "run-1", NOON)}
    assert cause("admin", declared, row, last) == "drift"
    assert cause("admin", declared, row, {row.key: Applied({"name": "A"}, "run-1", NOON)}) == "intent"


@pytest.mark.parametrize(
    ("name", "row", "counts"),
    [
        (None, None, None),
        ("declared", None, "Vendas"),
        ("declared", "retired", "Vendas"),  # renamed by hand to a name that was given up
        ("declared", "declared", "Sales"),  # the row of another queue, which the manifest renames
        ("retired", "former", "Sales"),
        (None, "declared", "Sales"),
        ("retired", None, "Vendas"),
    ],
)
def test_the_rows_own_record_counts_unless_somebody_renamed_it(
    name: Tenure | None, row: Tenure | None, counts: str | None
) -> None:
    applied = {VENDAS: record("Vendas", name)} if name else {}
    applied |= {SALES: record("Sales", row)} if row else {}
    last = last_of(queue("Vendas", renamed_from="Sales"), queue("Sales"), applied)
    assert (last and last.run_id) == (counts and f"run of {counts}")


@pytest.mark.parametrize(
    ("applied", "back"),
    [
        ({"Sales": record("Sales", "retired", to="Vendas")}, "Vendas"),
        ({"Sales": record("Sales", "declared", to="Vendas")}, None),  # it was created again since
        ({"Sales": record("Sales", "retired")}, None),
        (  # through two renames
            {
                "Sales": record("Sales", "retired", to="Comercial"),
                "Comercial": record("Comercial", "retired", to="Vendas"),
            },
            "Vendas",
        ),
        (  # in a circle
            {
                "Sales": record("Sales", "retired", to="Comercial"),
                "Comercial": record("Comercial", "retired", to="Sales"),
            },
            None,
        ),
        (  # the row is gone, and somebody else made one of that name
            {
                "Sales": record("Sales", "retired", to="Vendas"),
                "Vendas": record("Vendas", "retired", provenance="adopted"),
            },
            None,
        ),
        (  # taken back, and still there
            {"Sales": record("Sales", "retired", to="Vendas"), "Vendas": record("Vendas", "retired")},
            "Vendas",
        ),
        (  # adopted, and declared until now
            {"Sales": record("Sales", "retired", to="Vendas"), "Vendas": record("Vendas", provenance="adopted")},
            "Vendas",
        ),
    ],
)
def test_a_name_that_is_declared_again_is_that_of_the_row_that_had_it(
    applied: Mapping[str, Applied], back: str | None
) -> None:
    known = {Key("queue", name): last for name, last in applied.items()}
    (found,) = with_renames_undone(Managed((queue("Sales"),)), state(queue("Vendas")), known).resources
    assert found.renamed_from == back


def test_a_rename_that_is_declared_counts_before_one_that_is_undone() -> None:
    last = {SALES: record("Sales", "retired", to="Vendas")}
    rows = state(queue("Vendas"), queue("Support"))
    for old, back in (("Support", "Support"), ("long gone", "Vendas")):
        declared = Managed((queue("Sales", renamed_from=old),))
        (found,) = with_renames_undone(declared, rows, last).resources
        assert found.renamed_from == back


def test_no_name_is_taken_from_a_row_that_is_declared_too() -> None:
    declared = Managed((queue("Sales"), queue("Vendas")))
    last = {SALES: record("Sales", "retired", to="Vendas")}
    assert with_renames_undone(declared, state(queue("Vendas")), last) == declared
