"""kind setting: rows of the settings table: company_name, and whatever config.settings adds."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.json_pointer import escape
from reconciler.model.kinds.base import Document, Kind
from reconciler.model.types import Key, Managed, Resource


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config") or {}
    values = dict(config.get("settings") or {})
    if config.get("company_name") is not None:
        values["company_name"] = config["company_name"]
    if not values:
        return None
    resources = (Resource(Key("setting", name), {"value": value}) for name, value in sorted(values.items()))
    return Managed(tuple(resources))


def places(document: Document, name: str) -> Mapping[str, str]:
    config = document.get("config") or {}
    own = name == "company_name" and config.get("company_name") is not None
    return {"value": "config/company_name" if own else f"config/settings/{escape(name)}"}


KIND = Kind(name="setting", order=3, fields=("value",), renamed_field="key", from_manifest=from_manifest, places=places)
