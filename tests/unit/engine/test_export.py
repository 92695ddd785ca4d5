"""build_manifest: turns rows of several kinds into a manifest, without knowing any kind itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.engine import export
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.base import ExportSpec
from reconciler.model.types import Applied, Key, Resource, Snapshot

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ABOUT = ExportSpec("client-abc-123", "production", "connect")
EMAILS = ("ana@empresa.com", "bia@empresa.com", "caio@empresa.com")
ADMINS = {Key("admin", email): Resource(Key("admin", email), {"name": "A", "role": "admin"}) for email in EMAILS}


@pytest.mark.parametrize(("declared", "named"), [((), "ana@empresa.com"), (EMAILS[1:2], "bia@empresa.com")])
def test_of_several_administrators_the_declared_one_is_named(declared: tuple[str, ...], named: str) -> None:
    about = replace(ABOUT, declared=frozenset(Key("admin", email) for email in declared))
    document = export.build_manifest(Snapshot(9, state=ADMINS), about)
    assert document["admin"]["email"] == named


def test_a_kind_exports_with_the_declared_keys() -> None:
    applied = {
        Key("admin", email): Applied({}, "run", NOON, tenure=tenure)
        for email, tenure in zip(EMAILS, ("former", "declared", "retired"), strict=True)
    }
    assert export.declared_keys(applied) == {Key("admin", "bia@empresa.com")}


def test_each_kind_writes_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind unknown to the engine selects among its rows by what was declared, as admin does."""
    asked: list[tuple[tuple[str, ...], frozenset[Key]]] = []

    def write(rows: tuple[Resource, ...], about: ExportSpec) -> dict[str, object]:
        asked.append((tuple(row.key.name for row in rows), about.declared))
        return {"tags": [row.key.name for row in rows if row.key in about.declared]}

    tag = replace(BY_NAME["queue"], name="tag", export=write)
    monkeypatch.setattr(export, "KINDS", (tag,))
    state = {Key("tag", name): Resource(Key("tag", name), {}) for name in ("new", "vip")}
    declared = frozenset({Key("tag", "vip")})
    document = export.build_manifest(Snapshot(9, state=state), replace(ABOUT, declared=declared))
    assert document == {"version": 1, "instance": "client-abc-123", "tags": ["vip"]}
    assert asked == [(("new", "vip"), declared)]
