"""kind setting: rows of the settings table: company_name, and whatever config.settings adds.

A value that the manifest declares as `{secret: REFERENCE}` is a Secret. The row holds it in clear text, as the app
reads it. So the record of what was applied says which settings are secret (`SENSITIVE`), even after the manifest no
longer does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.model.json_pointer import escape
from reconciler.model.kinds.base import Document, ExportSpec, Kind, literal, variable_suffix
from reconciler.model.patterns import late
from reconciler.model.secret import Secret, Unencrypted
from reconciler.model.types import Applied, JsonText, Key, Managed, Resource, Value, canonical

SENSITIVE = "sensitive"
"""A field beside `value` in fivrec.applied's record of a secret setting."""

READ_AS_REFERENCE = "the manifest would read it as a reference to a secret"
"""Why a row's value can't stand in a manifest."""

_SECRET_NAME = late("passw|senha|secret|segredo|token|credential|(api|private|access)[_-]?key", re.IGNORECASE)
_URL_WITH_PASSWORD = late(r"://[^/\s:@]*:[^/\s@]+@")


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
    return {"value": "config/company_name" if own else f"config/settings/{escape(name)}"}


def reference_of(value: Value) -> Mapping[str, Value] | None:
    """Returns the reference of a setting that is declared as a secret, else None."""
    match value:
        case {"secret": dict(reference)} if len(value) == 1:
            return reference
        case _:
            return None


def is_secret(applied: Applied | None) -> bool:
    """Whether the setting was last applied as a secret."""
    return applied is not None and SENSITIVE in applied.fields


def looks_secret(name: str, value: Value) -> bool:
    """Whether the value looks like a secret: by its name, or as a URL with a password."""
    return isinstance(value, str) and bool((value and _SECRET_NAME.search(name)) or _URL_WITH_PASSWORD.search(value))


def as_secret(row: Resource) -> Resource:
    """Returns the row with its value as a Secret. A value that isn't text equals no declared one."""
    twins = tuple({"value": _as_secret(twin.get("value"))} for twin in row.twins)
    return replace(row, fields={"value": _as_secret(row.fields.get("value"))}, twins=twins)


def _as_secret(value: Value) -> Secret:
    if isinstance(value, Secret):
        return value
    return Secret(value) if isinstance(value, str) else Unencrypted(canonical(value))


def names(document: Document) -> Iterator[tuple[str, str]]:
    for name in (document.get("config") or {}).get("settings") or {}:
        yield f"config/settings/{escape(name)}", name


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:
    config: dict[str, Value] = {}
    settings = {row.key.name: row.fields["value"] for row in rows}
    company = settings.get("company_name")
    if isinstance(company, str) and not isinstance(company, JsonText):
        config["company_name"] = literal(settings.pop("company_name"))
    if settings:
        config["settings"] = {name: _exported(name, value, about) for name, value in settings.items()}
    return {"config": config} if config else {}


def _exported(name: str, value: Value, about: ExportSpec) -> Value:
    if isinstance(value, Secret):
        return {"secret": about.reference(f"SETTING{variable_suffix(name)}")}
    if reference_of(value) is not None:
        return {"secret": None}  # a row never becomes a reference: no manifest can hold this one, so it is left out
    return literal(value)


KIND = Kind(
    name="setting",
    order=3,
    fields=("value",),
    renamed_field="key",
    from_manifest=from_manifest,
    places=places,
    remembered=True,
    table="settings",
    json_fields=frozenset({"value"}),
    names=names,
    names_of="settings",
    export=export,
)
