"""Find things in manifests that are valid but probably not meant: for `validate --strict`. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Final

from reconciler.manifest.loader import Manifest, problem_at
from reconciler.model.errors import ManifestProblem, by_place
from reconciler.model.json_pointer import escape
from reconciler.model.kinds import BY_NAME, KINDS
from reconciler.model.kinds.base import Kind
from reconciler.model.kinds.setting import reference_of
from reconciler.model.names import invisible_characters, mixed_scripts
from reconciler.model.types import Ignore, Key
from reconciler.planning.diff import is_accepted

_OF_THE_INSTANCE: Final = frozenset({"config", "environment", "status"})
"""Kinds with a single resource, which has the instance's name."""
_OF_FORMER_ADMINS: Final = ("role", "password")


def lint(manifests: Sequence[Manifest], today: date) -> tuple[ManifestProblem, ...]:
    """Variables that no template reads; accepted drift that expired, has no end, matches nothing or includes the lock;
    settings that look like secrets but are in plain text; names that differ only in case; and names with characters
    that mislead."""
    instances = ((manifest, "instance", manifest.instance) for manifest in manifests)
    found = [*_unused_variables(manifests), *_clashes("the instances", instances), *_idle_ignores(manifests)]
    for manifest in manifests:
        found += _accepted_drift(manifest, today)
        found += _wide_ignores(manifest, today)
        found += _no_secrets(manifest)
        found += _same_names(manifest)
        found += _deceptive_names(manifest)
    return tuple(sorted(set(found), key=by_place))


def _unused_variables(manifests: Sequence[Manifest]) -> Iterator[ManifestProblem]:
    """A variable of a fleet's defaults counts as read if any of its instances reads it."""
    declared: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        for name in manifest.variables:
            declared.setdefault((manifest.origin.path, name), []).append(manifest)
    for (_, name), owners in sorted(declared.items()):
        if not any(owner.variables[name] for owner in owners):
            message = f'the variable "{name}" is used by no template'
            yield problem_at(owners[0], f"vars/{name}", message, "take it out, or write {{ " + name + " }}")


def _accepted_drift(manifest: Manifest, today: date) -> Iterator[ManifestProblem]:
    for index, entry in enumerate(manifest.document["ignore"]):
        until = entry.get("until")
        if until is None:
            message = f"the accepted drift of {entry['field']} has no end"
            hint = "say by until on which day it ends, such as 2026-12-31"
            yield problem_at(manifest, f"ignore/{index}/field", message, hint)
        elif date.fromisoformat(str(until)) < today:
            message = f"the accepted drift of {entry['field']} expired on {until}"
            yield problem_at(manifest, f"ignore/{index}/until", message, "take the entry out, or give it a new date")


def _idle_ignores(manifests: Sequence[Manifest]) -> Iterator[ManifestProblem]:
    """An entry of a fleet's defaults counts as matching if it matches any of its instances."""
    entries: dict[tuple[str, str], list[tuple[Manifest, int]]] = {}
    for manifest in manifests:
        for index, entry in enumerate(manifest.document["ignore"]):
            entries.setdefault((manifest.origin.path, entry["field"]), []).append((manifest, index))
    for (_, pattern), owners in sorted(entries.items()):
        kind = BY_NAME.get(pattern.partition("/")[0])
        if kind is None or not (kind.remembered or kind.name in _OF_THE_INSTANCE):
            continue  # wildcards in the kind's name, or a kind that needs no name
        if not any(_may_fit(pattern, kind, manifest) for manifest, _ in owners):
            manifest, index = owners[0]
            message = f"the accepted drift of {pattern} fits nothing that can differ"
            hint = f"correct the name, or the field: {kind.name} has {', '.join(kind.fields)}"
            yield problem_at(manifest, f"ignore/{index}/field", message, hint)


def _may_fit(pattern: str, kind: Kind, manifest: Manifest) -> bool:
    """Whether it can match a declared resource or one of its fields, or an undeclared row, which can be removed,
    switched off, or lose a role. Plans from Connect may have any name."""
    _, _, rest = pattern.partition("/")
    names = [manifest.instance]
    if kind.name not in _OF_THE_INSTANCE:
        document = manifest.document
        if "/" not in rest:
            return True
        from_connect = kind.name == "plan" and (document.get("plans") or {}).get("source") == "connect"
        others = kind.fields if from_connect else (kind.active, *(_OF_FORMER_ADMINS if kind.name == "admin" else ()))
        if any(fnmatchcase(name, rest.rpartition("/")[2]) for name in others if name is not None):
            return True
        declared = kind.from_manifest(document)
        names = [one.key.name for one in declared.resources] if declared is not None else []
    entry = (Ignore(pattern, ""),)
    return any(is_accepted(Key(kind.name, name), field, entry, date.min) for name in names for field in kind.fields)


def _wide_ignores(manifest: Manifest, today: date) -> Iterator[ManifestProblem]:
    lock = Key("status", manifest.instance)
    for index, entry in enumerate(manifest.document["ignore"]):
        pattern, until = entry["field"], entry.get("until")
        accepted = Ignore(pattern, "", date.fromisoformat(str(until)) if until is not None else None)
        if not pattern.endswith("/is_locked") and is_accepted(lock, "is_locked", (accepted,), today):
            message = f"the accepted drift of {pattern} keeps the lock as it is: a suspended instance stays open"
            hint = "name the field that is meant, such as status/*/billing_status, or status/*/is_locked"
            yield problem_at(manifest, f"ignore/{index}/field", message, hint)


def _no_secrets(manifest: Manifest) -> Iterator[ManifestProblem]:
    for name, value in manifest.document["config"]["settings"].items():
        if reference_of(value) is None and _holds_reference(value):
            message = "a secret beside other keys, or below them, is no secret: it is stored as it stands here"
            yield problem_at(manifest, f"config/settings/{escape(name)}", message, "make it a setting of its own")


def _holds_reference(value: Any) -> bool:
    match value:
        case {"secret": {"env": _} | {"file": _} | {"command": _} | {"vault": _} | {"plugin": _}}:
            return True
        case dict():
            return any(map(_holds_reference, value.values()))
        case list():
            return any(map(_holds_reference, value))
    return False


def _same_names(manifest: Manifest) -> Iterator[ManifestProblem]:
    for kind in KINDS:
        if kind.names_of:
            yield from _clashes(kind.names_of, ((manifest, *one) for one in kind.names(manifest.document)))
    yield from _clashes("labels", ((manifest, f"labels/{escape(name)}", name) for name in manifest.labels))


def _deceptive_names(manifest: Manifest) -> Iterator[ManifestProblem]:
    for path, name in _names(manifest):
        where = path.partition("/items/")[0].replace("/", ".")
        if invisible := invisible_characters(name):
            message = f"a name in {where} has invisible characters: {', '.join(invisible)}"
            yield problem_at(manifest, path, message, "take them out")
        if scripts := mixed_scripts(name):
            odd = sorted({f"U+{ord(char):04X}" for char in name if not char.isascii()})
            message = f"a name in {where} mixes look-alike alphabets in one word: {', '.join(scripts)}"
            yield problem_at(manifest, path, message, f"those that are not ASCII: {', '.join(odd)}")


def _names(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        yield from kind.names(manifest.document)
    for name, value in manifest.labels.items():
        yield f"labels/{escape(name)}", value


def _clashes(what: str, places: Iterable[tuple[Manifest, str, str]]) -> Iterator[ManifestProblem]:
    seen: dict[str, str] = {}
    for manifest, path, name in places:
        former = seen.setdefault(name.casefold().strip(), name)
        if former != name:
            how = "case" if former.casefold() == name.casefold() else "case or white space"
            yield problem_at(
                manifest, path, f'{what} "{former}" and "{name}" differ only in {how}', "give one another name"
            )
