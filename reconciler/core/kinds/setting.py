"""kind setting: rows of the settings table: company_name, and whatever config.settings adds."""

from __future__ import annotations

from reconciler.core.kinds.kind import Document, Kind
from reconciler.core.model import Key, Managed, Resource


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config") or {}
    values = dict(config.get("settings") or {})
    if config.get("company_name") is not None:
        values["company_name"] = config["company_name"]
    if not values:
        return None
    resources = (Resource(Key("setting", name), {"value": value}) for name, value in sorted(values.items()))
    return Managed(tuple(resources))


KIND = Kind(name="setting", order=3, fields=("value",), from_manifest=from_manifest)
