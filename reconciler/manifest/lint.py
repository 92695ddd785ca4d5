"""What is valid in manifests and yet hardly meant: for `validate --strict`. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import ManifestProblem


def lint(manifests: Sequence[Manifest], today: date) -> tuple[ManifestProblem, ...]:
    """Variables that no template reads, accepted drift that expired, names that differ only in case."""
    found = [*_unused_variables(manifests), *_same_instances(manifests)]
    for manifest in manifests:
        found += _expired(manifest, today)
        found += _same_names(manifest)
    return tuple(sorted(set(found)))


def _unused_variables(manifests: Sequence[Manifest]) -> Iterator[ManifestProblem]:
    """A variable of a fleet's defaults counts as read where any of its instances reads it."""
    declared: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in manifests:
        for name in manifest.variables:
            declared.setdefault((manifest.origin.path, name), []).append(manifest)
    for (_, name), owners in sorted(declared.items()):
        if not any(owner.variables[name] for owner in owners):
            message = f'the variable "{name}" is used by no template'
            yield _at(owners[0], f"vars/{name}", message, "take it out, or write {{ " + name + " }}")


def _expired(manifest: Manifest, today: date) -> Iterator[ManifestProblem]:
    for index, entry in enumerate(manifest.document.get("ignore") or ()):
        until = entry.get("until")
        if until is not None and date.fromisoformat(str(until)) < today:
            message = f"the accepted drift of {entry['field']} expired on {until}"
            yield _at(manifest, f"ignore/{index}/until", message, "take the entry out, or give it a new date")


def _same_names(manifest: Manifest) -> Iterator[ManifestProblem]:
    document = manifest.document
    queues = (document.get("queues") or {}).get("items") or ()
    places = [(item["name"], f"queues/items/{index}/name") for index, item in enumerate(queues)]
    yield from _clashes(manifest, "queues", places)
    settings = (document.get("config") or {}).get("settings") or {}
    yield from _clashes(manifest, "settings", [(name, f"config/settings/{name}") for name in settings])
    yield from _clashes(manifest, "labels", [(name, f"labels/{name}") for name in manifest.labels])


def _clashes(manifest: Manifest, what: str, places: Iterable[tuple[str, str]]) -> Iterator[ManifestProblem]:
    seen: dict[str, str] = {}
    for name, path in places:
        former = seen.setdefault(name.casefold().strip(), name)
        if former != name:
            yield _at(manifest, path, f'{what} "{former}" and "{name}" differ only in case', "give one another name")


def _same_instances(manifests: Sequence[Manifest]) -> Iterator[ManifestProblem]:
    seen: dict[str, str] = {}
    for manifest in manifests:
        former = seen.setdefault(manifest.instance.casefold(), manifest.instance)
        if former != manifest.instance:
            message = f'the instances "{former}" and "{manifest.instance}" differ only in case'
            yield _at(manifest, "instance", message, "give one another name")


def _at(manifest: Manifest, path: str, message: str, hint: str) -> ManifestProblem:
    """At the key's place; a short form (a list of queues) stands where its long form would."""
    for known in (path, path.replace("queues/items/", "queues/")):
        place = manifest.origin.places.get(known)
        if place is not None:
            return ManifestProblem(manifest.origin.path, *place, message, hint)
    return ManifestProblem(manifest.origin.path, manifest.origin.line, 1, message, hint)
