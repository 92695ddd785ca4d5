"""Check values against the JSON Schemas in schemas/. Messages never repeat a value, only keys.

jsonschema-rs decides on every run, in a hundredth of the time; if it says no, jsonschema finds the words (decision
0004).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from reconciler.model.types import SURROGATES
from reconciler.support.package_files import read_text

if TYPE_CHECKING:
    import jsonschema_rs

    from reconciler.support.json_schema.messages import Violation


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """Returns the schema `manifest`, `report`, `connect/status` …; `manifest#instance` is its part `$defs/instance`."""
    base, _, part = name.partition("#")
    path = f"schemas/{base}.schema.json" if "/" in base else f"schemas/{base}.v1.schema.json"
    schema: Mapping[str, Any] = json.loads(read_text(path))
    if not part:
        return schema
    return {"$schema": schema["$schema"], "$ref": f"#/$defs/{part}", "$defs": schema["$defs"]}


def is_valid(schema_name: str, data: Any) -> bool:
    """Returns only the verdict. NaN is not valid, and neither is a document with half of a surrogate pair."""
    try:
        return bool(_compiled(schema_name).is_valid(data)) and not _holds_half_pair(data)
    except UnicodeEncodeError:  # in a key
        return False


def problems(schema_name: str, data: Any) -> list[Violation]:
    """Returns all that is wrong, sorted by path; empty only if the value is valid."""
    if is_valid(schema_name, data):
        return []
    from reconciler.support.json_schema.messages import Violation, word_errors

    try:
        found = word_errors(load_schema(schema_name), data)
    except RecursionError:
        return [Violation("", "nests too deep")]
    # If the two libraries differ, the value is refused all the same, even if there are no words for it.
    return found or [Violation("", "does not fit the schema")]


def first_problem(schema_name: str, data: Any, may_be_shown: Callable[[str], bool] = lambda _: False) -> str:
    """Returns one sentence for logs and reports, or "" if the value is valid. Masks keys that the schema does not name,
    except those that may be shown."""
    found = problems(schema_name, data)
    if not found:
        return ""
    known = _property_names(schema_name)
    parts = [
        part if part.isdigit() or part in known or may_be_shown(part) else "*" for part in found[0].path.split("/")
    ]
    where = "/".join(parts)
    if parts[-1] == "*" and found[0].of_key:
        holder = f"{'/'.join(parts[:-1])}: " if len(parts) > 1 else "it "
        return f"{holder}holds a key that the schema does not allow"
    if parts[-1] == "*":
        return f"{where}: does not fit the schema"
    return f"{where}: {found[0].message}" if where else found[0].message


@cache
def _compiled(name: str) -> jsonschema_rs.Draft202012Validator:
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(dict(load_schema(name)))


def _holds_half_pair(data: Any) -> bool:
    return any(isinstance(node, str) and not node.isascii() and SURROGATES.search(node) for node in _nodes(data))


@cache
def _property_names(name: str) -> frozenset[str]:
    properties = (node.get("properties") for node in _nodes(load_schema(name)) if isinstance(node, Mapping))
    return frozenset(("", *(key for known in properties if isinstance(known, Mapping) for key in known)))


def _nodes(data: Any) -> Iterator[Any]:
    """Yields a JSON value and all values in it."""
    todo = [data]
    while todo:
        yield (node := todo.pop())
        if isinstance(node, Mapping):
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
