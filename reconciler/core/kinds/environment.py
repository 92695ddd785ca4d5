"""kind environment: which environment an instance is, and how its rows are kept from the other's."""

from __future__ import annotations

from reconciler.core.kinds.kind import Document, Kind
from reconciler.core.model import Key, Managed, Resource


def from_manifest(document: Document) -> Managed:
    declared = document["environment"]
    fields = {"name": declared["name"], "isolation": declared["isolation"]}
    return Managed((Resource(Key("environment", document["instance"]), fields),))


KIND = Kind(name="environment", order=2, fields=("name", "isolation"), from_manifest=from_manifest)
