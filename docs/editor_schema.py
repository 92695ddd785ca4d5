"""Writes schemas/manifest.v1.editor.schema.json: the manifests' schema as an editor needs it, with {{ … }} in them.

The schema that fivrec judges by describes documents after that. Here a template may stand in place of every scalar.

python docs/generate.py     writes it, and its --check compares it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "schemas"
SOURCE = SCHEMAS / "manifest.v1.schema.json"
TARGET = SCHEMAS / "manifest.v1.editor.schema.json"
SCALARS = {"string", "integer", "number", "boolean", "null"}
UNTOUCHED = {"propertyNames", "if", "oneOf", "examples", "default", "required", "enum", "const", "type"}
"""Keys and conditions are no values; a choice between keys is none between values."""
NEVER_RENDERED = {"version", "name"}
"""Definitions whose values are read before templates are."""
OUTSIDE = ("title", "description", "default", "examples", "writeOnly")
TEMPLATE = {
    "title": "Template",
    "description": "Text with {{ … }}, rendered before the manifest is checked.",
    "type": "string",
    "pattern": r"\{\{",
    "examples": ["{{ company }}"],
}


def page() -> str:
    schema = json.loads(SOURCE.read_text(encoding="utf-8"))
    definitions = {name: node if name in NEVER_RENDERED else _relaxed(node) for name, node in schema["$defs"].items()}
    schema["$id"] = "urn:fivrec:schema:manifest:v1:editor"
    schema["description"] = "The manifests of fivrec as they are written: {{ … }} may stand in place of every scalar."
    schema["$defs"] = {"template": TEMPLATE, **definitions}
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def _relaxed(node: Any) -> Any:
    if isinstance(node, list):
        return [_relaxed(item) for item in node]
    if not isinstance(node, dict):
        return node
    if _is_scalar(node):
        outside = {key: node[key] for key in OUTSIDE if key in node}
        inside = {key: value for key, value in node.items() if key not in outside}
        return {**outside, "anyOf": [inside, {"$ref": "#/$defs/template"}]}
    relaxed = {}
    by_value = '"const"' in json.dumps(node.get("if", {}))  # a template's value is not known yet
    for key, value in node.items():
        if by_value and key in ("if", "then", "else"):
            continue
        if key == "properties":
            relaxed[key] = {name: _relaxed(child) for name, child in value.items()}
        else:
            relaxed[key] = value if key in UNTOUCHED else _relaxed(value)
    return relaxed


def _is_scalar(node: dict[str, Any]) -> bool:
    kinds = node.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds) if isinstance(kinds, list) else set()
    return bool(kinds) and kinds <= SCALARS
