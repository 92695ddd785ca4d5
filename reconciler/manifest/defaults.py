"""Write out short forms and the schema's defaults, so that whoever reads a manifest finds one shape. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from reconciler.manifest.fleet_document import long_environment, long_queues
from reconciler.support.json_schema.validate import load_schema


def normalise(raw: Mapping[str, Any], environment: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The whole document of a valid manifest, and the paths of what it left out. `vars` have done their work, and
    are not in it; `environment` is the resolved name. Kinds that are not declared stay out: they are not managed."""
    filled: list[str] = []
    document: dict[str, Any] = {"version": 1, "instance": raw["instance"], "labels": raw.get("labels", {})}
    document["database"] = _fill("database", raw.get("database", {}), "database", filled)
    spec = {**long_environment(raw.get("environment", {})), "name": environment}
    document["environment"] = _fill("environment_long", spec, "environment", filled)
    document["config"] = _fill("config", raw.get("config", {}), "config", filled)
    if "config" not in raw:  # of a section that is gone nothing is taken back
        document["config"]["former_settings"] = "keep"
    if "admin" in raw:
        document["admin"] = _fill("admin", raw["admin"], "admin", filled)
    if "queues" in raw:
        document["queues"] = _with_items("queues_long", "queue", long_queues(raw["queues"]), "queues", filled)
    if "plans" in raw:
        document["plans"] = _with_items("plans", "plan", raw["plans"], "plans", filled)
    if "expect" in raw:
        document["expect"] = raw["expect"]
    if "usage" in raw:
        document["usage"] = _fill("usage", raw["usage"], "usage", filled)
    document["ignore"] = raw.get("ignore", [])
    document["suspend"] = raw.get("suspend", False)
    filled.extend(key for key in ("labels", "ignore", "suspend") if key not in raw)
    if "environment" not in raw:
        filled.append("environment/name")
    return document, tuple(filled)


def _with_items(part: str, item: str, value: Mapping[str, Any], path: str, filled: list[str]) -> dict[str, Any]:
    result = _fill(part, value, path, filled)
    if "items" in result:
        items = enumerate(result["items"])
        result["items"] = [_fill(item, entry, f"{path}/items/{index}", filled) for index, entry in items]
    return result


def _fill(part: str, value: Mapping[str, Any], path: str, filled: list[str]) -> dict[str, Any]:
    defaults = _defaults(part)
    filled.extend(f"{path}/{key}" for key in defaults if key not in value)
    return {**defaults, **value}


@cache
def _defaults(part: str) -> Mapping[str, Any]:
    """Every default that the schema gives in a part; the kinds never change what they are given."""
    properties: Mapping[str, Any] = load_schema("manifest")["$defs"][part]["properties"]
    return {key: schema["default"] for key, schema in properties.items() if "default" in schema}
