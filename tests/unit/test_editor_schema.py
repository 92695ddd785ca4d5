"""The editors' schema allows a template in place of every scalar, and nothing else that the strict one refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.manifest.yaml.parser import YamlFile

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas" / "manifest.v1.editor.schema.json").read_text(encoding="utf-8"))
EXAMPLES = sorted((ROOT / "manifests").rglob("*.yaml"))
FULL = """
version: 1
instance: a
labels: {region: x}
vars: {a: 1}
database: {url: {env: A, default: "embedded:"}, create: true}
environment: {name: {env: A, default: production}, isolation: enforced, purge_development_data: false}
config:
  connect_api_url: {env: A, default: "https://x"}
  instance_key: {file: key}
  check_interval_minutes: 5
  company_name: x
  settings: {a: 1}
admin: {name: x, email: a@b.c, password: {command: [pass, show]}, update_password: always, bcrypt_cost: 12}
queues: {items: [{name: x, description: y, is_active: true, renamed_from: z}], unmanaged: keep}
plans: {source: manifest, items: [{id: x, name: x, price: 1, billing_interval: monthly, features: [x], max_users: 1}]}
expect: {status: active, billing_status: paid, enabled_features: {chat: true}}
usage: {report: true}
ignore: [{field: queue/x, until: "2026-12-31", reason: x}]
suspend: false
"""


def templated(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each scalar's path and a replacement for it; not for those that are read before templates are rendered."""
    match node:
        case dict():
            for key, value in node.items():
                if path or key not in ("version", "instance"):
                    yield from templated(value, f"{path}/{key}")
        case list():
            for index, value in enumerate(node):
                yield from templated(value, f"{path}/{index}")
        case _:
            yield path, node


def replaced(document: Any, path: str, value: Any) -> Any:
    document = json.loads(json.dumps(document))
    *parents, last = path.strip("/").split("/")
    inner = document
    for part in parents:
        inner = inner[int(part) if isinstance(inner, list) else part]
    inner[int(last) if isinstance(inner, list) else last] = value
    return document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_editor_finds_nothing_in_the_examples(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "schemas/manifest.v1.editor.schema.json" in text.partition("\n")[0]
    documents, problems = YamlFile(path.name, text.encode()).read()
    assert problems == ()
    for document in documents:
        jsonschema.validate(document.data, SCHEMA)


@pytest.mark.parametrize("path", [path for path, _ in templated(yaml.safe_load(FULL))])
def test_a_template_may_stand_for_any_scalar(path: str) -> None:
    document = yaml.safe_load(FULL)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(replaced(document, path, "x {{ y }}"))) == []


@pytest.mark.parametrize(("path", "value"), [("/suspend", "x"), ("/admin/bcrypt_cost", 3), ("/queues/unmanaged", "no")])
def test_invalid_values_other_than_templates_are_refused(path: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(replaced(yaml.safe_load(FULL), path, value), SCHEMA)
