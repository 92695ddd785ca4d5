"""rows: how a database's rows are interpreted, including rows that a test can't get a database to return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reconciler.database.rows import Scope, snapshot_from_rows
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, Key, Snapshot
from tests.support.examples import INSTANCE, NOON

SCOPE = Scope(INSTANCE, "production", "ana@e.com", "old@e.com", moves_admin=True)


def read(scope: Scope = SCOPE, **rows: Sequence[Mapping[str, Any]]) -> Snapshot:
    return snapshot_from_rows(rows, scope, None)


def user(email: str, *, other: bool = True) -> Mapping[str, Any]:
    fields = {"name": "Ana", "password": None, "role": "admin"}
    return {"key": email, "row_id": email, "referenced": False, "other_environment": other, **fields}


def record(kind: str, name: str, *, other: bool = False, days: int = 0, **more: Any) -> Mapping[str, Any]:
    at = NOON.replace(day=1 + days)
    known = {"kind": kind, "name": name, "fields": {"n": days}, "run_id": f"run-{days}", "applied_at": at}
    return {**known, "other_environment": other, "provenance": "created", "tenure": "declared", "before": {}, **more}


@pytest.mark.parametrize(
    ("there", "moves"),
    [
        (["ana@e.com"], "ana@e.com"),
        (["Ana@E.com"], "Ana@E.com"),
        (["old@e.com"], "old@e.com"),
        (["old@e.com", "Ana@E.com", "ana@e.com"], "ana@e.com"),
        (["old@e.com", "Ana@E.com"], "Ana@E.com"),
    ],
)
def test_the_user_nearest_to_the_declared_address_moves_along(there: list[str], moves: str) -> None:
    found = read(admin=[user(email) for email in there])
    assert [(key.name, row.moves_from) for key, row in found.state.items()] == [(moves, "development")]


def test_no_user_moves_whose_address_is_taken_already() -> None:
    """Except the very same address, which UNIQUE (email) forbids to appear twice."""
    found = read(admin=[user("Ana@E.com"), user("ANA@e.com", other=False)])
    assert [(key.name, row.moves_from) for key, row in found.state.items()] == [("ANA@e.com", None)]


@pytest.mark.parametrize(("rows", "left"), [(3, 2), (1, None)])
def test_a_development_user_who_moves_along_is_no_test_data(rows: int, left: int | None) -> None:
    counted = {"key": "users", "row_id": "users", "referenced": False, "rows": rows}
    found = read(admin=[user("ana@e.com")], test_data=[counted]).state.get(Key("test_data", "users"))
    assert (found.fields["rows"] if found else None) == left
    stays = read(admin=[user("ana@e.com", other=False)], test_data=[counted]).state[Key("test_data", "users")]
    assert stays.fields["rows"] == rows


def test_a_record_of_the_other_environment_counts_if_its_row_moves() -> None:
    rows = [record("admin", "ana@e.com", other=True), record("queue", "Sales", other=True)]
    rows += [record("setting", "locale", other=True)]  # belongs to the instance in both environments
    assert sorted(map(str, read(admin=[user("ana@e.com")], applied=rows).applied)) == [
        "admin/ana@e.com",
        "setting/locale",
    ]
    assert [*map(str, read(admin=[user("ana@e.com", other=False)], applied=rows).applied)] == ["setting/locale"]


def test_a_setting_that_was_applied_as_a_secret_is_read_as_one() -> None:
    rows = [{"key": name, "row_id": name, "referenced": False, "value": "in the open"} for name in ("token", "locale")]
    kept = record("setting", "token", fields={"value": {"declared": "a print"}, "sensitive": True})
    found = read(setting=rows, applied=[kept, record("setting", "locale")]).state
    assert isinstance(found[Key("setting", "token")].fields["value"], Secret)
    assert found[Key("setting", "locale")].fields == {"value": "in the open"}


def test_of_several_records_the_newest_counts() -> None:
    rows = [record("setting", "locale", days=2), record("setting", "locale", other=True, days=1)]
    assert read(applied=rows).applied[Key("setting", "locale")].run_id == "run-2"


def test_a_record_that_fivrec_never_writes_counts_as_one_from_before() -> None:
    odd = record("queue", "Sales", fields=[1], before="x", provenance="stolen", tenure=None)
    assert read(applied=[odd]).applied == {Key("queue", "Sales"): Applied({}, "run-0", NOON, "adopted", "declared")}


@pytest.mark.parametrize(
    ("applied", "name"),
    [
        ([record("environment", INSTANCE)], "production"),
        ([record("environment", INSTANCE, other=True)], "development"),
        ([record("environment", INSTANCE, other=True, days=1), record("environment", INSTANCE)], "development"),
        # taken over from another instance: the record under its own name is older, but counts
        ([record("environment", "other", other=True, days=1), record("environment", INSTANCE)], "production"),
        ([record("environment", "other", other=True)], "development"),
    ],
)
def test_the_environment_is_that_of_the_last_apply(applied: list[Mapping[str, Any]], name: str) -> None:
    found = read(applied=applied, environment=[{"isolation": "constraints"}]).state
    assert found[Key("environment", INSTANCE)].fields == {"name": name, "isolation": "constraints"}
