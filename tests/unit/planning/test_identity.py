"""Which row a declared resource means: the one of the exact name, else the only one that people would call the same."""

from __future__ import annotations

import pytest

from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import BY_NAME
from reconciler.model.types import Key, Managed, Resource
from reconciler.planning.diff import diff_kind

COMPOSED, DECOMPOSED = "Sa\u00edda", "Sai\u0301da"


def matched(kind: str, name: str, *rows: str, renamed_from: str | None = None) -> str | None:
    desired = Resource(Key(kind, name), {}, renamed_from=renamed_from)
    observed = [Resource(Key(kind, row), {}) for row in rows]
    found = BY_NAME[kind].match([desired], observed).get(desired.key)
    return found.key.name if found else None


@pytest.mark.parametrize(
    ("kind", "name", "rows", "found"),
    [
        ("admin", "admin@empresa.com", ("Admin@Empresa.com",), "Admin@Empresa.com"),
        ("admin", "Admin@Empresa.com", ("admin@empresa.com", "Admin@Empresa.com"), "Admin@Empresa.com"),
        ("admin", "a@empresa.com", ("b@empresa.com",), None),
        ("admin", "joa\u0303o@empresa.com", ("JO\u00c3O@empresa.com",), "JO\u00c3O@empresa.com"),
        ("queue", COMPOSED, (DECOMPOSED,), DECOMPOSED),
        ("queue", COMPOSED, (DECOMPOSED, COMPOSED), COMPOSED),
        ("queue", "sales", ("Sales",), None),
        ("setting", COMPOSED, (DECOMPOSED,), DECOMPOSED),
    ],
)
def test_a_row_is_found_as_people_mean_it(kind: str, name: str, rows: tuple[str, ...], found: str | None) -> None:
    assert matched(kind, name, *rows) == found


def test_a_former_name_is_found_in_the_same_way() -> None:
    assert matched("admin", "new@empresa.com", "OLD@empresa.com", renamed_from="old@empresa.com") == "OLD@empresa.com"


def test_own_names_count_before_former_ones_then_exact_spelling() -> None:
    assert matched("queue", COMPOSED, DECOMPOSED, "Old", renamed_from="Old") == DECOMPOSED
    old = "old@empresa.com"
    assert matched("admin", "new@empresa.com", "OLD@empresa.com", old, renamed_from=old) == old


def test_several_that_are_the_same_are_named_and_none_is_taken() -> None:
    with pytest.raises(DatabaseError) as raised:
        matched("admin", "admin@empresa.com", "Admin@empresa.com", "ADMIN@empresa.com")
    assert raised.value.code == "ambiguous"
    assert raised.value.message == (
        "admin/admin@empresa.com could be any of ADMIN@empresa.com, Admin@empresa.com: "
        "they differ in case or Unicode form alone"
    )


def test_the_declared_spelling_is_a_change_like_a_rename() -> None:
    desired = Resource(Key("queue", COMPOSED), {"description": None, "is_active": True})
    row = Resource(Key("queue", DECOMPOSED), {"description": None, "is_active": True}, row_id="1")
    (change,) = diff_kind(BY_NAME["queue"], Managed((desired,)), {row.key: row}, {})
    assert isinstance(change, Update)
    assert change.fields == (FieldChange("name", DECOMPOSED, COMPOSED),)
