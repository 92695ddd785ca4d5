"""How to change a manifest so that it declares the drift that was found. Pure.

Each drifting field becomes an edit of the normalised document, or a reason why no key can declare it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from reconciler.model.changes import Change, Create, Update
from reconciler.model.json_pointer import unescape
from reconciler.model.kinds import BY_NAME, KINDS
from reconciler.model.kinds.base import literal
from reconciler.model.kinds.setting import READ_AS_REFERENCE, reference_of
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, JsonText, Key, Resource, Snapshot, Value, same
from reconciler.planning.plan import Plan

Path: TypeAlias = tuple[str | int, ...]

_ITEMS: Mapping[str, Path] = {
    kind.name: (kind.section.key, "items") for kind in KINDS if kind.section is not None and kind.export_item
}
_NOT_YAML = (
    "it is JSON that no manifest can hold: 1e999, NUL, half a surrogate pair, a repeated key, or too many levels"
)
_UNSET = frozenset({"description", "stripe_product_id", "stripe_price_id"})
"""Fields that have no value if their key is left out."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the normalised document: `value` is what the manifest should say, with template marks escaped;
    `live` is what the database holds. An `add` appends to the list at `path`."""

    key: Key
    field: str
    path: Path
    action: Literal["set", "remove", "add"]
    value: Value = None
    live: Value = None


@dataclass(frozen=True, slots=True)
class Left:
    """Drift that is not pulled, and why. `field` is "*" for the whole resource."""

    key: Key
    field: str
    reason: str


Drift: TypeAlias = tuple[tuple[Edit, ...], tuple[Left, ...]]


def find_drift(desired: Desired, plan: Plan, snapshot: Snapshot) -> Drift:
    """Returns a plan's drift as edits of the manifest, and the drift that no key can declare."""
    edits: list[Edit] = []
    left: list[Left] = []
    for change in plan.changes:
        if change.cause != "drift":
            continue
        for found in _of_change(desired, change, snapshot):
            (edits if isinstance(found, Edit) else left).append(found)  # type: ignore[arg-type]  # as checked
    return tuple(edits), tuple(left)


def _of_change(desired: Desired, change: Change, snapshot: Snapshot) -> list[Edit | Left]:
    if change.source == "connect":
        return [Left(change.key, "*", "Fi.V Connect declares it, not the manifest")]
    match change:
        case Create():
            return [_deleted(desired, change.key)]
        case Update():
            return _changed(desired, change, snapshot)
        case _:
            return [_not_declared(change.key, change.observed)]


def _deleted(desired: Desired, key: Key) -> Edit | Left:
    """The row no longer exists: take its entry out."""
    places = BY_NAME[key.kind].places(desired.document, key.name)
    if key.kind == "setting":
        return Edit(key, "*", steps(places["value"]), "remove")
    if key.kind in _ITEMS and places:
        return Edit(key, "*", steps(next(iter(places.values())))[:-1], "remove")
    return Left(key, "*", "it was deleted: take it out of the manifest by hand, or apply to get it back")


def _changed(desired: Desired, change: Update, snapshot: Snapshot) -> list[Edit | Left]:
    places = BY_NAME[change.key.kind].places(desired.document, change.key.name)
    last = snapshot.applied.get(change.observed.key) or snapshot.applied.get(change.key)
    applied = last.fields if last else {}
    found: list[Edit | Left] = []
    for item in change.fields:
        name, declared = item.field, change.desired.fields.get(item.field)
        if item.sensitive:
            found.append(Left(change.key, name, "it is a secret: secrets are never pulled"))
        elif name == BY_NAME[change.key.kind].renamed_field:
            reason = "it is what the row is known by: write it by hand, or apply to undo it"
            found.append(Left(change.key, name, reason))
        elif change.observed.twins:
            found.append(Left(change.key, name, "several rows have this key: make them one by hand, or apply"))
        elif name not in places:
            found.append(Left(change.key, name, "no key of the manifest declares it"))
        elif not (name in applied and same(declared, applied[name])):
            found.append(Left(change.key, name, "its declaration changed too: apply, or write it by hand"))
        elif isinstance(change.observed.fields.get(name), JsonText):
            found.append(Left(change.key, name, _NOT_YAML))
        elif reference_of(change.observed.fields.get(name)) is not None:
            found.append(Left(change.key, name, READ_AS_REFERENCE))
        else:
            found.append(_set(change.key, name, steps(places[name]), change.observed.fields.get(name)))
    return found


def _set(key: Key, name: str, path: Path, live: Value) -> Edit:
    if live is None and name in _UNSET:
        return Edit(key, name, path, "remove")
    return Edit(key, name, path, "set", literal(live), live)


def _not_declared(key: Key, row: Resource) -> Edit | Left:
    """Somebody added a row that the section would deactivate or remove: declare it."""
    export_item = BY_NAME[key.kind].export_item
    if export_item is None or key.kind not in _ITEMS:
        return Left(key, "*", "no key of the manifest declares it")
    return Edit(key, "*", _ITEMS[key.kind], "add", export_item(row), dict(row.fields))


def steps(path: str) -> Path:
    """Returns a path of the normalised document (RFC 6901 without the first slash) as steps; numbers index lists."""
    parts = [unescape(part) for part in path.split("/")]
    if tuple(parts[:2]) in _ITEMS.values():
        head, rest = parts[:2], parts[2:]
        return (*head, *map(int, rest[:1]), *rest[1:])
    return tuple(parts)


def expected(managed: Mapping[Key, Mapping[str, Value]], edits: tuple[Edit, ...]) -> dict[Key, Mapping[str, Value]]:
    """Returns the resources that a manifest declares after the edits."""
    found = dict(managed)
    for edit in edits:
        if edit.field != "*":
            found[edit.key] = {**found[edit.key], edit.field: edit.live}
        elif edit.action == "remove":
            del found[edit.key]
        else:
            known = BY_NAME[edit.key.kind].fields
            found[edit.key] = {name: value for name, value in edit.live.items() if name in known}
    return found
