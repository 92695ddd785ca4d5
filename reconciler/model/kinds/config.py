"""kind config: the instance's identity at Connect, in instance_config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from reconciler.model.kinds.base import Breach, Document, ExportSpec, Kind
from reconciler.model.types import EMBEDDED, Key, Managed, Resource, Value, is_embedded

FIELDS = ("connect_api_url", "instance_key", "check_interval_minutes")
DEFAULT_INTERVAL = 60


def from_manifest(document: Document) -> Managed | None:
    config = document.get("config")
    if not config or "connect_api_url" not in config:
        return None
    fields = {name: config.get(name) for name in FIELDS}
    return Managed((Resource(Key("config", document["instance"]), fields),))


def places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001 (the signature of a kind)
    return {field: f"config/{field}" for field in FIELDS}


def canonical_url(url: str) -> str:
    """Returns one spelling of an https:// or http:// address: https://H:443/ is https://h. Other text stays as is."""
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


def breaches(document: Document) -> Iterator[Breach]:
    config = document["config"]
    if "company_name" in config and "company_name" in config["settings"]:
        hint = "keep config.company_name"
        yield Breach("config/settings/company_name", "company_name is declared twice", hint)


def names(document: Document) -> Iterator[tuple[str, str]]:
    config = document.get("config") or {}
    if "company_name" in config:
        yield "config/company_name", config["company_name"]


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    key = about.reference("FIV_APP_API_KEY")
    config: dict[str, Value] = {"connect_api_url": {"env": "FIV_APP_API_URL"}, "instance_key": key}
    for row in rows[:1]:
        url = str(row.fields.get("connect_api_url"))
        config["connect_api_url"] = url
        if is_embedded(url):
            config["instance_key"] = {**key, "default": EMBEDDED}
        config["check_interval_minutes"] = row.fields.get("check_interval_minutes") or DEFAULT_INTERVAL
    return {"config": config}


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
    table="instance_config",
    breaches=breaches,
    names=names,
    export=export,
)
