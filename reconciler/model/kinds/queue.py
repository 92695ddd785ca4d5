"""kind queue: rows of queues, known by their name within the instance's environment."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.kinds.base import Document, Kind
from reconciler.model.types import Key, Managed, Resource


def from_manifest(document: Document) -> Managed | None:
    queues = document.get("queues")
    if queues is None:
        return None
    resources = tuple(
        Resource(
            Key("queue", item["name"]),
            {"description": item.get("description"), "is_active": item.get("is_active", True)},
            renamed_from=item.get("renamed_from"),
        )
        for item in sorted(queues["items"], key=lambda item: str(item["name"]))
    )
    return Managed(resources, queues["unmanaged"], former=queues.get("former", "keep"))


def places(document: Document, name: str) -> Mapping[str, str]:
    names = [item["name"] for item in (document.get("queues") or {"items": ()})["items"]]
    if name not in names:
        return {}
    return {field: f"queues/items/{names.index(name)}/{field}" for field in KIND.fields}


KIND = Kind(
    name="queue",
    order=6,
    fields=("description", "is_active"),
    active="is_active",
    from_manifest=from_manifest,
    places=places,
    remembered=True,
)
