"""Write a document as the text of a manifest, and find what a live state has that no manifest can express."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final

from reconciler.manifest.yaml.text import block
from reconciler.model.errors import ManifestError
from reconciler.model.kinds.setting import READ_AS_REFERENCE
from reconciler.model.types import JsonText

_MARK: Final = "left-out-"
"""The beginning of keys that stand for comments while YAML is written, because the data has none."""


MODELINE: Final = """\
# yaml-language-server: $schema=manifest.v1.schema.json
# For completion in your editor: fivrec schema > manifest.v1.schema.json, in this folder
"""
SCHEMA_FILE: Final = "manifest.v1.schema.json"


def as_manifest(document: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """The text of a manifest file, formatted like `fivrec fmt`. A key of `comments`, with the value null, becomes that
    comment."""
    from reconciler.manifest.formatter import format_text
    from reconciler.model.errors import FivrecError

    text = as_yaml(document)
    for key, comment in (comments or {}).items():
        before, found, after = text.partition(f" {key}: null\n")  # inside config: never at the beginning of a line
        text = f"{before} # {comment}\n{after}" if found else text
    text = MODELINE + text
    try:
        return format_text("export", text.encode())
    except FivrecError:  # the document is refused, which is reported elsewhere
        return text


def as_yaml(document: Mapping[str, Any]) -> str:
    """YAML that reads back as the same values: keys in order, and quotes around everything that some reader could read
    differently."""
    return "\n".join(block(document)) + "\n"


def refusal(document: Mapping[str, Any]) -> str | None:
    """Why this is not a valid manifest, as the message of the first problem; None if it is valid."""
    from reconciler.manifest.loader import load_manifests

    settings = document.get("config", {}).get("settings", {})
    if any(isinstance(value, JsonText) for value in settings.values()):
        return "a value is JSON that not every reader takes: 1e999, NUL, half a surrogate pair, or too many levels"
    if {"secret": None} in settings.values():
        return READ_AS_REFERENCE
    try:
        load_manifests(["-"], environ={}, stdin=io.BytesIO(as_yaml(document).encode()), resolved_later=True)
    except ManifestError as exc:
        first = exc.problems[0] if exc.problems else None
        return ": ".join(filter(None, (first.message, first.value))) if first else exc.message
    return None


def without_refused(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Remove the settings that a manifest can't express from a refused document: the app may store values that YAML or
    the schema refuse. Returns their keys with the reasons too. If anything else is refused, it stays."""
    config: dict[str, Any] = dict(document["config"])
    refused: dict[str, str] = {}
    settings = dict(config.pop("settings", {}))
    for key in tuple(settings):
        if (reason := _refusal_of("config", {"settings": {key: settings[key]}})) is not None:
            refused[key] = reason
            del settings[key]
    if "company_name" in config and (reason := _refusal_of("config", {"company_name": config["company_name"]})):
        refused["company_name"] = reason
        del config["company_name"]
    return {**document, "config": {**config, **({"settings": settings} if settings else {})}}, refused


def without_refused_plans(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Remove the plans that a manifest can't express (a price with a fraction) from a refused document. Returns their
    ids with the reasons too. `unmanaged` keeps those plans; if none is left, plans are not managed."""
    plans = document.get("plans", {})
    judged = [(item, _refusal_of("plans", {"source": "manifest", "items": [item]})) for item in plans.get("items", ())]
    refused = {str(item["id"]): reason for item, reason in judged if reason is not None}
    if not refused:
        return dict(document), {}
    kept = [item for item, reason in judged if reason is None]
    rest = {**document, "plans": {**plans, "unmanaged": "keep", "items": kept}}
    return rest if kept else {key: value for key, value in rest.items() if key != "plans"}, refused


def with_comments(document: Mapping[str, Any], refused: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The document and the comments for `as_yaml`: one in place of each setting that was left out."""
    marks = {f"{_MARK}{document['instance']}-{number}": key for number, key in enumerate(refused)}
    config = dict(document["config"])
    # Settings with nothing but comments would be null.
    beside = {**config.pop("settings", {}), **dict.fromkeys(marks)} if "settings" in config else None
    config |= {"settings": beside} if beside else dict.fromkeys(marks)
    return {**document, "config": config}, {mark: left_out(key, refused[key]) for mark, key in marks.items()}


def left_out(key: str, reason: str) -> str:
    """One line, whatever the key contains."""
    return f"setting {json.dumps(key, ensure_ascii=not key.isprintable())} is left out: {reason}"


def _refusal_of(section: str, content: Mapping[str, Any]) -> str | None:
    """Why a manifest with this section alone is not valid."""
    return refusal({"version": 1, "instance": "a", section: content})
