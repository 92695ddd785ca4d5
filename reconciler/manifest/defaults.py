"""Expand short forms and fill in the schema's defaults, so that readers of a manifest see one shape. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from reconciler.manifest.fleet_document import long_environment, long_items
from reconciler.model.kinds import SECTIONS
from reconciler.model.kinds.base import Section
from reconciler.support.json_schema.validate import load_schema


def normalise(raw: Mapping[str, Any], environment: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the full document of a valid manifest, and the paths that it left out. `vars` have been used by then and
    are not in it; `environment` is the resolved name. Sections that are not declared stay out: they are not managed."""
    filled: list[str] = []
    document: dict[str, Any] = {"version": 1, "instance": raw["instance"], "labels": raw.get("labels", {})}
    document["database"] = _fill("database", raw.get("database", {}), "database", filled)
    spec = {**long_environment(raw.get("environment", {})), "name": environment}
    document["environment"] = _fill("environment_long", spec, "environment", filled)
    document["config"] = _fill("config", raw.get("config", {}), "config", filled)
    if "config" not in raw:  # a section that is gone takes nothing back
        document["config"]["former_settings"] = "keep"
    for key, section in SECTIONS.items():
        if key in raw:
            document[key] = _fill_section(section, raw[key], filled)
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


def _fill_section(section: Section, value: Any, filled: list[str]) -> dict[str, Any]:
    result = _fill(section.part, long_items(value) if section.short else value, section.key, filled)
    if section.item is not None and "items" in result:
        places = ((f"{section.key}/items/{index}", entry) for index, entry in enumerate(result["items"]))
        result["items"] = [_fill(section.item, entry, place, filled) for place, entry in places]
    return result


def _fill(part: str, value: Mapping[str, Any], path: str, filled: list[str]) -> dict[str, Any]:
    defaults = _defaults(part)
    filled.extend(f"{path}/{key}" for key in defaults if key not in value)
    return {**defaults, **value}


@cache
def _defaults(part: str) -> Mapping[str, Any]:
    """Every default that the schema has for a part; kinds never modify their input."""
    properties: Mapping[str, Any] = load_schema("manifest")["$defs"][part]["properties"]
    return {key: schema["default"] for key, schema in properties.items() if "default" in schema}
