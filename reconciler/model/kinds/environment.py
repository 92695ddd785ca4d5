"""kind environment: which environment an instance is in, and how its rows are isolated from the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.model.kinds.base import Document, ExportSpec, Kind
from reconciler.model.types import Key, Managed, Resource, Value


def from_manifest(document: Document) -> Managed:
    declared = document["environment"]
    fields = {"name": declared["name"], "isolation": declared["isolation"]}
    return Managed((Resource(Key("environment", document["instance"]), fields),))


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {field: f"environment/{field}" for field in ("name", "isolation")}


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    isolation = next((row.fields.get("isolation") for row in rows if row.key.name == about.instance), "constraints")
    name = about.environment
    return {"environment": name if isolation == "constraints" else {"name": name, "isolation": isolation}}


KIND = Kind(
    name="environment",
    order=2,
    fields=("name", "isolation"),
    from_manifest=from_manifest,
    places=places,
    export=export,
)
