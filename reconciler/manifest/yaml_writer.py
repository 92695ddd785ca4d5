"""A document as the text of a manifest, and what of a live state no manifest can hold."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from reconciler.manifest.yaml_scalars import means_something_else
from reconciler.model.errors import ManifestError
from reconciler.model.types import JsonText

PIPELINE_COMMAND: Final = re.compile(r"##(\[|vso\[)", re.IGNORECASE)
_MARK: Final = "left-out-"
"""Begins the keys that stand for comments while YAML is written, which has none."""


def as_yaml(document: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """YAML that reads as it was meant: keys in order, text that YAML 1.1 would take for something else in quotes.
    A key of `comments`, with null as its value, becomes that comment."""
    import yaml

    text: str = yaml.dump(
        document, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )
    # In YAML's double quotes an escape keeps the value, and a pipeline that prints it reads no command.
    text = PIPELINE_COMMAND.sub(lambda found: rf"#\x23{found[0][2:]}", text)
    for key, comment in (comments or {}).items():
        before, found, after = text.partition(f" {key}: null\n")  # inside config: never at a line's beginning
        text = f"{before} # {comment}\n{after}" if found else text
    return text


@cache
def _dumper() -> Any:
    """PyYAML's, but for text that it would write without quotes and that the reader refuses so: 1e3, 0o17."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # as the stubs have it
            plain_text = kind is yaml.ScalarNode and implicit[0] and tag.endswith(":str")
            misread = plain_text and means_something_else(value)
            return "tag:yaml.org,2002:value" if misread else tag  # not that of text, so text is written in quotes

    def represent(dumper: Any, text: str) -> Any:
        style = '"' if PIPELINE_COMMAND.search(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    return Dumper


def refusal(document: Mapping[str, Any]) -> str | None:
    """Why this is no valid manifest, in the words of the first problem; None where it is one."""
    from reconciler.manifest.loader import load_manifests

    settings = document.get("config", {}).get("settings", {})
    if any(isinstance(value, JsonText) for value in settings.values()):
        return "a value is JSON that not every reader takes: 1e999, NUL, half a surrogate pair, or too many levels"
    try:
        load_manifests(["-"], environ={}, stdin=io.BytesIO(as_yaml(document).encode()), resolved_later=True)
    except ManifestError as exc:
        return exc.problems[0].message if exc.problems else exc.message
    return None


def without_refused(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A refused document less the settings that a manifest can't hold: the app may store what YAML or the schema
    refuse. Gives their keys with the reasons too. Whatever else is refused stays."""
    config: dict[str, Any] = dict(document["config"])
    refused: dict[str, str] = {}
    settings = dict(config.pop("settings", {}))
    for key in tuple(settings):
        if (reason := _refusal_of_config({"settings": {key: settings[key]}})) is not None:
            refused[key] = reason
            del settings[key]
    if "company_name" in config and (reason := _refusal_of_config({"company_name": config["company_name"]})):
        refused["company_name"] = reason
        del config["company_name"]
    return {**document, "config": {**config, **({"settings": settings} if settings else {})}}, refused


def with_comments(document: Mapping[str, Any], refused: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The document and the comments for `as_yaml`: each setting that was left out in its place."""
    marks = {f"{_MARK}{document['instance']}-{number}": key for number, key in enumerate(refused)}
    config = dict(document["config"])
    # Settings that are nothing but comments would be null.
    beside = {**config.pop("settings", {}), **dict.fromkeys(marks)} if "settings" in config else None
    config |= {"settings": beside} if beside else dict.fromkeys(marks)
    return {**document, "config": config}, {mark: left_out(key, refused[key]) for mark, key in marks.items()}


def left_out(key: str, reason: str) -> str:
    """One line, whatever the key holds."""
    return f"setting {json.dumps(key, ensure_ascii=not key.isprintable())} is left out: {reason}"


def _refusal_of_config(config: Mapping[str, Any]) -> str | None:
    return refusal({"version": 1, "instance": "a", "config": config})
