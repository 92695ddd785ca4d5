"""kind setting: rows of the settings table: company_name, and whatever config.settings adds."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.kinds.base import Document, Kind, step
from reconciler.model.types import Key, Managed, Resource


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config") or {}
    values = dict(config.get("settings") or {})
    if config.get("company_name") is not None:
        values["company_name"] = config["company_name"]
    former = config.get("former_settings", "keep")
    if not values and former == "keep":
        return None
    resources = (Resource(Key("setting", name), {"value": value}) for name, value in sorted(values.items()))
    return Managed(tuple(resources), former=former)


def places(document: Document, name: str) -> Mapping[str, str]:
    config = document.get("config") or {}
    own = name == "company_name" and config.get("company_name") is not None
    return {"value": "config/company_name" if own else f"config/settings/{step(name)}"}


KIND = Kind(name="setting", order=3, fields=("value",), from_manifest=from_manifest, places=places, remembered=True)
