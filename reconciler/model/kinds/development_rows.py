"""kind test_data: development rows in a production instance's database, counted by table. Desired: none."""

from __future__ import annotations

from reconciler.model.kinds.base import Document, Kind
from reconciler.model.types import Managed

NAME = "test_data"
NONE_OF_IT = Managed((), "remove")
CONSENTED = Managed((), "remove", consented=True)
"""`purge_development_data: true` is the consent to removing these rows."""


def from_manifest(document: Document) -> Managed | None:
    """Only in production: a development instance removes nothing by itself, and no production row is ever removed."""
    declared = document["environment"]
    wanted = declared["name"] == "production" and declared.get("purge_development_data", False)
    return CONSENTED if wanted else None


KIND = Kind(name=NAME, order=9, fields=("rows",), removable=True, per_environment=True, from_manifest=from_manifest)
