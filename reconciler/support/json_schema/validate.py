"""Check values against the JSON Schemas in schemas/. Messages never repeat a value, only keys.

Code made of the schemas gives the verdict on every run; jsonschema finds the words where it is "no" (decision 0013).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, cast

from reconciler.support.json_schema.verdicts import Unfit
from reconciler.support.package_files import read_text


class Violation(NamedTuple):
    """`path` is like `queues/0/name`. `of_key`: it is the key that does not fit, not its value."""

    path: str
    message: str
    hint: str = ""
    of_key: bool = False


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """The schema `manifest`, `report`, `connect/status` …; `manifest#instance` is the part `$defs/instance` of it."""
    base, _, part = name.partition("#")
    path = f"schemas/{base}.schema.json" if "/" in base else f"schemas/{base}.v1.schema.json"
    schema: Mapping[str, Any] = json.loads(read_text(path))
    if not part:
        return schema
    return {"$schema": schema["$schema"], "$ref": f"#/$defs/{part}", "$defs": schema["$defs"]}


def is_valid(schema_name: str, data: Any) -> bool:
    """The verdict alone. Half of a surrogate pair is no text, NaN no number, where the schema asks for one."""
    try:
        _verdict(schema_name)(data)
    except Unfit:
        return False
    return True


def problems(schema_name: str, data: Any) -> list[Violation]:
    """All that is wrong, sorted by path; empty where the value is valid, and only there."""
    if is_valid(schema_name, data):
        return []
    from reconciler.support.json_schema.messages import word_errors

    # Where the two differ the refusal stands: what has no words is not therefore valid.
    return word_errors(load_schema(schema_name), data) or [Violation("", "does not fit the schema")]


def first_problem(schema_name: str, data: Any, may_be_shown: Callable[[str], bool] = lambda _: False) -> str:
    """One sentence for logs and reports, "" where the value is valid. Keys that the schema does not name are masked,
    but for those that may be shown."""
    found = problems(schema_name, data)
    if not found:
        return ""
    known = _property_names(schema_name)
    parts = [
        part if part.isdigit() or part in known or may_be_shown(part) else "*" for part in found[0].path.split("/")
    ]
    where = "/".join(parts)
    if parts[-1] == "*":
        return f"{where}: does not fit the schema"
    return f"{where}: {found[0].message}" if where else found[0].message


@cache
def _verdict(name: str) -> Callable[[Any], None]:
    """The function that raises Unfit: of the module that was made of the schema, for the whole or for a part."""
    base, _, part = name.partition("#")
    module = import_module(f"reconciler.support.json_schema.verdicts.{base.replace('/', '_')}")
    return cast("Callable[[Any], None]", getattr(module, part or "document"))


@cache
def _property_names(name: str) -> frozenset[str]:
    names: set[str] = {""}
    todo: list[Any] = [load_schema(name)]
    while todo:
        node = todo.pop()
        if isinstance(node, Mapping):
            properties = node.get("properties")
            names.update(properties if isinstance(properties, Mapping) else ())
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return frozenset(names)
