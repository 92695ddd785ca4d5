"""The OpenAPI document (schemas/openapi.v1.json): the single definition of routes, used to check requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from starlette.datastructures import QueryParams

from reconciler import __version__
from reconciler.model.records import dataclass
from reconciler.support.package_files import read_text
from reconciler.support.strict_json import RepeatedKeyError, finite, refuse_constant, with_unique_keys
from reconciler.web.problems import BadRequest

METHODS = ("get", "post", "put", "patch", "delete")
_INSTANCE = {
    "name": "instance",
    "in": "path",
    "required": True,
    "description": "The instance's id.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"},
}
_PUBLIC = "/healthz"


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: its id, method and path as in the document, its parameters and the body's schema."""

    id: str
    method: str
    path: str
    public: bool
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: str | None = None
    body_required: bool = False


@cache
def load_document(name: str = "openapi.v1") -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(read_text(f"schemas/{name}.json"))
    return document


def load_fleet_document() -> Mapping[str, Any]:
    """Additions to the document if the fleet has one login."""
    return load_document("openapi.fleet.v1")


def served_document(*, single: bool, fleet: bool = False) -> dict[str, Any]:
    """The document as this server serves it: with several instances each path is under /instances/{instance}. `fleet`:
    with one login for the fleet."""
    document = dict(load_document())
    document["info"] = {**document["info"], "version": __version__}
    if not single:
        document["paths"] = {
            path if path == _PUBLIC else f"/instances/{{instance}}{path}": item
            if path == _PUBLIC
            else {**item, "parameters": [_INSTANCE]}
            for path, item in document["paths"].items()
        }
    return _with_fleet(document) if fleet else document


def _with_fleet(document: Mapping[str, Any]) -> dict[str, Any]:
    more, components = load_fleet_document(), document["components"]
    parts = {name: {**components[name], **more["components"].get(name, {})} for name in components}
    tags = [*document["tags"], *more["tags"]]
    return {**document, "tags": tags, "paths": {**document["paths"], **more["paths"]}, "components": parts}


@cache
def operations() -> tuple[Operation, ...]:
    return tuple(_operations(load_document()))


@cache
def fleet_operation() -> Operation:
    """GET /fleet/instances."""
    return next(_operations(load_fleet_document()))


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                found = item[method]
                content = found.get("requestBody", {}).get("content", {}).get("application/json")
                yield Operation(
                    id=found["operationId"],
                    method=method.upper(),
                    path=path,
                    public=found.get("security") == [],
                    parameters=tuple(found.get("parameters", ())),
                    body=content["schema"]["$ref"].rpartition("/")[2] if content else None,
                    body_required=bool(found.get("requestBody", {}).get("required")),
                )


def checked_body(operation: Operation, body: bytes) -> dict[str, Any]:
    """The body as JSON. Raises BadRequest naming everything that does not fit, by path, without repeating values."""
    if not body.strip():
        if operation.body_required:
            raise BadRequest([("", "a JSON body is needed")])
        return {}
    try:
        data = json.loads(body, parse_constant=refuse_constant, parse_float=finite, object_pairs_hook=with_unique_keys)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is not text
    except RepeatedKeyError:
        raise BadRequest([("", "a key is given more than once")]) from None
    except (ValueError, RecursionError) as exc:
        raise BadRequest([("", "the body is not JSON")]) from exc
    _check(str(operation.body), data)
    checked: dict[str, Any] = data
    return checked


def checked_query(operation: Operation, query: QueryParams) -> dict[str, Any]:
    """Parameters by name, converted by their schemas, with defaults; unknown and repeated ones are refused."""
    known = {parameter["name"]: parameter["schema"] for parameter in operation.parameters}
    problems = [(name, "no such parameter") for name in sorted(set(query) - set(known))]
    problems += [(name, "is given more than once") for name in sorted(set(query)) if len(query.getlist(name)) > 1]
    found: dict[str, Any] = {}
    for name, schema in known.items():
        if name not in query:
            found[name] = schema.get("default")
            continue
        value = _parsed(query[name], schema)
        if value is None or not _validators(operation.id)[name].is_valid(value):
            problems.append((name, f"does not fit: {_words(schema)}"))
        found[name] = value
    if problems:
        raise BadRequest(problems)
    return found


def is_answer(schema: str, data: Any) -> bool:
    """Whether an answer matches the document; for tests."""
    return bool(_component(schema).is_valid(data))


def _check(name: str, data: Any) -> None:
    if _component(name).is_valid(data):
        return
    from reconciler.support.json_schema.messages import word_errors

    found = word_errors(_component_schema(name), data)
    raise BadRequest([(item.path, item.message) for item in found] or [("", "the body does not fit")])


def _component_schema(name: str) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/components/schemas/{name}",
        "components": {
            "schemas": {**load_document()["components"]["schemas"], **load_fleet_document()["components"]["schemas"]}
        },
    }


@cache
def _component(name: str) -> Any:
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(_component_schema(name))


@cache
def _validators(operation: str) -> dict[str, Any]:
    from jsonschema_rs import Draft202012Validator

    found = next(one for one in (*operations(), fleet_operation()) if one.id == operation)
    return {one["name"]: Draft202012Validator(one["schema"]) for one in found.parameters}


def _parsed(text: str, schema: Mapping[str, Any]) -> Any:
    """The text converted to the schema's type; None if that is not possible."""
    match schema["type"]:
        case "integer":
            return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19 else None  # noqa: PLR2004 (more digits than any limit)
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case _ if schema.get("format") == "date-time":
            return text if _is_moment(text) else None
        case _:
            return text


def _is_moment(text: str) -> bool:
    try:
        at = datetime.fromisoformat(text)
        return "T" in text.upper() and at.tzinfo is not None and bool(at.astimezone(UTC))
    except (ValueError, OverflowError):
        return False


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema.get("format") == "date-time":
        return "a time like 2026-01-01T00:00:00Z"
    limits = f" from {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
    return f"{schema['type']}{limits}"
