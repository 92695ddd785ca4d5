"""kind config: the instance's identity at Connect, in instance_config."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.model.kinds.base import Document, Kind
from reconciler.model.types import Key, Managed, Resource, Value

FIELDS = ("connect_api_url", "instance_key", "check_interval_minutes")


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config")
    if not config or "connect_api_url" not in config:
        return None
    fields = {name: config.get(name) for name in FIELDS}
    return Managed((Resource(Key("config", document["instance"]), fields),))


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {field: f"config/{field}" for field in FIELDS}


def canonical_url(url: str) -> str:
    """One spelling of an https:// or http:// address: https://H:443/ is https://h. What is none stays as it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    if usual is None or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port in (None, usual) else f':{port}'}{parts.path.rstrip('/')}"


def same_address(one: Value, other: Value) -> bool:
    return isinstance(one, str) and isinstance(other, str) and canonical_url(one) == canonical_url(other)


KIND = Kind(
    name="config",
    order=4,
    renamed_field="instance_id",
    fields=FIELDS,
    sensitive={"instance_key": "aes-gcm"},
    from_manifest=from_manifest,
    places=places,
    equal={"connect_api_url": same_address},
    remembered=True,
)
