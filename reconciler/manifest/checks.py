"""Check one instance's rendered document against the schema, and instances against each other. Positions are looked up
elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple

from reconciler.manifest.fleet_document import Entry
from reconciler.manifest.positions import Finding, Source, show_value, value_at
from reconciler.manifest.rendering import Rendering, holds_template
from reconciler.manifest.secrets.plugins import normalise_plugins
from reconciler.model.errors import ManifestProblem
from reconciler.model.json_pointer import unescape
from reconciler.support.json_schema.validate import problems as schema_problems
from reconciler.support.postgres_url import Identity, database_identity


def _take_out(document: dict[str, Any], path: str) -> None:
    """An entry of a list is replaced by an empty one, so that the others keep their positions."""
    holder, _, last = path.rpartition("/")
    key = unescape(last)
    match value_at(document, holder):
        case dict() as node:
            node.pop(key, None)
        case list() as items if key.isdigit() and int(key) < len(items):
            items[int(key)] = {}


_FREE: Final = ("vars/", "labels/", "config/settings/", "plans/items/")


_TEXT: Final = "cells of a CSV file and values of -e NAME=VALUE are text"
_TEXTS: Final = {
    "must be a whole number, not text": f"{_TEXT}: {{{{ NAME | int }}}}",
    "must be true or false, not text": f"{_TEXT}: {{{{ NAME | bool }}}}",
}
"""A hint for a value that does not fit and came from a variable."""


class Declared(NamedTuple):
    """The values that two instances must not share, for each declared instance, whatever else is wrong with it."""

    instance: str
    database: Identity | None
    source: Source


def check_schema(rendering: Rendering) -> Iterator[Finding]:
    """Violations of the schema. If YAML 1.1 reads a value differently from how it looks, the message says so."""
    source = rendering.entry.source
    unrendered = {finding.path for finding in rendering.findings}
    odd = _own_paths(source, source.document.odd)
    dates = _own_paths(source, source.document.dates)
    for path, message, hint, of_key in schema_problems("manifest#instance", rendering.raw):
        if path in odd:
            message, hint = odd.pop(path)  # noqa: PLW2901  the cause is better than the effect
        if path in unrendered:
            continue
        if "(" in rendering.origins.get(path, ""):  # a variable of a CSV file or of -e
            hint = _TEXTS.get(message, hint)  # noqa: PLW2901
        value = "" if of_key else show_value(path, value_at(rendering.raw, path))
        yield Finding(source, path, message, hint, of_key, value)
    for path, (message, hint) in odd.items():
        if path.startswith(_FREE) and not path.endswith("/is_active"):
            yield Finding(source, path, message, hint)
    for path, (message, hint) in dates.items():
        if not (path.startswith("ignore/") and path.endswith("/until")):
            yield Finding(source, path, message, hint)


def without_findings(raw: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The document to check the rules on if something is already wrong: all problems are reported together. If
    something still does not fit, other than missing keys, its whole section is removed."""
    wrong = [finding.path for finding in findings]
    if any(path.startswith("environment") for path in wrong):
        wrong.append("config/connect_api_url")  # the allowed values depend on the environment
    left = deepcopy(dict(raw))
    for path in wrong:
        _take_out(left, path)
    for violation in schema_problems("manifest#instance", left):
        if not violation.message.endswith("is missing"):
            left.pop(violation.path.partition("/")[0], None)
    return {"instance": "", **left}


def _own_paths(source: Source, noted: Mapping[str, ManifestProblem]) -> dict[str, tuple[str, str]]:
    """The part of a document's notes that belongs to this instance, by its own paths."""
    return {
        path.removeprefix(prefix): (problem.message, problem.hint)
        for prefix in source.prefixes
        for path, problem in noted.items()
        if path.startswith(prefix)
    }


def check_defaults(entry: Entry) -> Iterator[Finding]:
    """What can be checked in a fleet's defaults if no instance could be read: a template may become anything."""
    for finding in check_schema(Rendering(entry, normalise_plugins(entry.raw))):
        about_key = finding.of_key or finding.message.endswith("is missing")
        if about_key or not holds_template(value_at(entry.raw, finding.path)):
            yield finding


def declared_by(document: Mapping[str, Any], source: Source) -> Declared:
    url = document["database"].get("url")
    return Declared(document["instance"], database_identity(url) if isinstance(url, str) else None, source)


def check_twice(declared: Sequence[Declared]) -> Iterator[Finding]:
    """An instance, or a literal database URL, that two manifests declare."""
    instances: dict[str, str] = {}
    databases: dict[Identity, str] = {}
    for instance, identity, source in declared:
        place = str(source.row or f"{source.file.path}:{source.line}")
        if instance in instances:
            message = f'the instance "{instance}" is declared twice, first at {instances[instance]}'
            yield Finding(source, "instance", message, "keep one of the two")
        if instance:
            instances.setdefault(instance, place)
        if identity is None:
            continue
        if identity in databases:
            message = f"two instances have one database, the other at {databases[identity]}"
            yield Finding(source, "database/url", message, "give each instance a database of its own")
        databases.setdefault(identity, place)
