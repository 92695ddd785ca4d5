"""kind config: the instance's identity at Connect, in instance_config."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.kinds.base import Document, Kind
from reconciler.model.types import Key, Managed, Resource

FIELDS = ("connect_api_url", "instance_key", "check_interval_minutes")


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config")
    if not config or "connect_api_url" not in config:
        return None
    fields = {name: config.get(name) for name in FIELDS}
    return Managed((Resource(Key("config", document["instance"]), fields),))


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {field: f"config/{field}" for field in FIELDS}


KIND = Kind(
    name="config",
    order=4,
    fields=FIELDS,
    sensitive={"instance_key": "aes-gcm"},
    from_manifest=from_manifest,
    places=places,
    remembered=True,
)
