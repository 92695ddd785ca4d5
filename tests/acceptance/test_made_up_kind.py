"""A new kind takes a file, its statements and its part of the schema: nothing else in fivrec has to know it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.harness import ROOT, Fivrec, manifest, rows, run_sql

KIND = '''\
"""kind tag: rows of tags, known by their name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.kinds.base import (
    Breach,
    Document,
    ExportSpec,
    Kind,
    Section,
    check_twice,
    declared_items,
    literal,
)
from reconciler.model.types import Key, Managed, Resource, Value


def from_manifest(document: Document) -> Managed | None:
    section = document.get("tags")
    if section is None:
        return None
    rows = (Resource(Key("tag", item["name"]), {"color": item["color"]}) for item in section["items"])
    return Managed(tuple(sorted(rows, key=lambda row: row.key)), section["unmanaged"])


def places(document: Document, name: str) -> Mapping[str, str]:
    names = [item["name"] for item in declared_items(document, "tags")]
    return {"color": f"tags/items/{names.index(name)}/color"} if name in names else {}


def breaches(document: Document) -> Iterator[Breach]:
    return check_twice("tags/items", "name", [tag.get("name") for tag in declared_items(document, "tags")], "tags")


def names(document: Document) -> Iterator[tuple[str, str]]:
    for index, tag in enumerate(declared_items(document, "tags")):
        yield f"tags/items/{index}/name", tag["name"]


def export_item(row: Resource) -> dict[str, Value]:
    return {"name": literal(row.key.name), "color": literal(row.fields["color"])}


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    return {"tags": [export_item(row) for row in rows]}


KIND = Kind(
    name="tag",
    order=10,
    fields=("color",),
    removable=True,
    from_manifest=from_manifest,
    places=places,
    table="tags",
    section=Section("tags", "tags_long", item="tag", short=True),
    breaches=breaches,
    names=names,
    names_of="tags",
    export=export,
    export_item=export_item,
)
'''
SQL = """\
-- Rows of tags.
-- name: read
SELECT t.name AS key, t.name AS row_id, false AS referenced, t.color FROM {app}.tags t;

-- name: adopt
SELECT j ->> 'name' AS key, j ->> 'name' AS row_id, false AS referenced, COALESCE(j ->> 'color', 'grey') AS color
FROM (SELECT to_jsonb(t) AS j FROM {app}.tags t) rows;

-- name: create
INSERT INTO {app}.tags (name, color) VALUES (%(key)s, %(color)s) ON CONFLICT (name) DO NOTHING;

-- name: update
UPDATE {app}.tags SET name = %(key)s, color = %(color)s
WHERE name = %(row_id)s;

-- name: remove
DELETE FROM {app}.tags WHERE name = %(row_id)s;
"""
SCHEMA: dict[str, Any] = {
    "tag": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "color": {"type": "string", "default": "grey"}},
    },
    "tag_list": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
    "tags_long": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "items": {"$ref": "#/$defs/tag_list"},
            "unmanaged": {"type": "string", "enum": ["keep", "remove"], "default": "keep"},
        },
    },
    "tags": {"anyOf": [{"$ref": "#/$defs/tag_list"}, {"$ref": "#/$defs/tags_long"}]},
}
TABLE = "CREATE TABLE public.tags (name text PRIMARY KEY, color text NOT NULL)"
READ = "SELECT name, color FROM public.tags ORDER BY name"
TAGS = "tags: [{name: vip, color: gold}, {name: new}]\n"


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of fivrec with the three files of one more kind, and its line in the list of kinds."""
    house = tmp_path_factory.mktemp("house")
    for name in ("reconciler", "sql", "schemas"):
        shutil.copytree(ROOT / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))
    (house / "reconciler/model/kinds/tag.py").write_text(KIND)
    (house / "sql/kinds/tag.sql").write_text(SQL)
    path = house / "schemas/manifest.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["$defs"] |= SCHEMA
    for part in ("instance", "overlay"):
        schema["$defs"][part]["properties"]["tags"] = {"$ref": "#/$defs/tags"}
    path.write_text(json.dumps(schema))
    kinds = house / "reconciler/model/kinds/__init__.py"
    listed = kinds.read_text().replace("    status,\n", "    status,\n    tag,\n", 1)
    kinds.write_text(listed.replace(", status)\n", ", status, tag)\n", 1))
    return house


@pytest.fixture
def extended(fivrec: Fivrec, url: str, house: Path) -> Fivrec:
    """An applied instance whose app has a table that the copy has a kind for."""
    assert fivrec.apply().code == 0
    run_sql(url, TABLE)
    fivrec.env["PYTHONPATH"] = str(house)
    fivrec.write(manifest() + TAGS)
    return fivrec


def test_a_made_up_kind_is_diffed_applied_and_explained(extended: Fivrec, url: str) -> None:
    created = [("tag", "new", "create", "new"), ("tag", "vip", "create", "new")]
    assert extended.diff().changes() == created
    assert extended.apply().changes() == created
    assert extended.apply().changes() == []
    assert rows(url, READ) == [("new", "grey"), ("vip", "gold")]
    run_sql(url, "UPDATE tags SET color = 'red' WHERE name = 'vip'")
    found = extended.diff("--explain", "tag/vip").one["explained"]
    line = manifest().count("\n") + 1
    assert (found["action"], found["cause"], found["fields"]) == (
        "update",
        "drift",
        [
            {
                "field": "color",
                "origin": f"client.yaml:{line}:27",
                "differs": True,
                "declared": "gold",
                "applied": "gold",
                "live": "red",
            }
        ],
    )


def test_a_made_up_kind_is_exported_and_pulled(extended: Fivrec, url: str) -> None:
    assert extended.apply().code == 0
    run_sql(url, "UPDATE tags SET color = 'red' WHERE name = 'vip'")
    exported = extended.run("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123")
    assert exported.code == 0, exported.stderr
    assert yaml.safe_load(exported.stdout)["tags"] == [
        {"name": "new", "color": "grey"},
        {"name": "vip", "color": "red"},
    ]
    pulled = extended.run("pull", "client.yaml", "--write")
    assert pulled.code == 0, pulled.stderr
    assert yaml.safe_load((extended.folder / "client.yaml").read_text())["tags"][0] == {"name": "vip", "color": "red"}


def test_a_made_up_kind_is_checked_linted_and_adopted(extended: Fivrec, url: str) -> None:
    extended.write(manifest() + "tags: [{name: vip}, {name: vip}]\n")
    twice = extended.run("validate", "client.yaml")
    assert twice.code == 65
    assert 'two tags have the name "vip" (entries 1 and 2)' in twice.stdout + twice.stderr
    extended.write(manifest() + "tags: [{name: vip}, {name: VIP}]\n")
    alike = extended.run("validate", "--strict", "client.yaml")
    assert 'tags "vip" and "VIP" differ only in case' in alike.stdout + alike.stderr
    extended.write(manifest() + TAGS)
    run_sql(url, "ALTER TABLE public.queues DROP COLUMN description")  # read without it, and created again
    run_sql(url, "INSERT INTO tags VALUES ('vip', 'gold')")
    assert ("tag", "new", "create", "new") in extended.apply().changes()
    assert rows(url, READ) == [("new", "grey"), ("vip", "gold")]
