"""Compare desired with observed state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase

from reconciler.model.changes import (
    Accepted,
    Cause,
    Change,
    Conflict,
    Create,
    Deactivate,
    FieldChange,
    Remove,
    Update,
)
from reconciler.model.kinds.base import Kind
from reconciler.model.types import (
    Applied,
    Ignore,
    InstanceStatus,
    Key,
    Managed,
    Resource,
    State,
    Value,
    same,
)

AppliedState = Mapping[Key, Applied]

FOUNDATIONS = frozenset({"database", "schema"})
"""Kinds that everything else stands on."""


def diff_kind(kind: Kind, managed: Managed, observed: State, applied: AppliedState) -> tuple[Change, ...]:
    """The changes that bring the observed resources of one kind to what is declared, sorted by name."""
    rows = tuple(sorted_resources(observed, kind.name))
    matches = kind.match(managed.resources, rows)
    named = {row.key for row in matches.values()}
    found: list[Change | None] = []
    for resource in managed.resources:
        row = matches.get(resource.key)
        found.append(_update(kind, resource, row, applied) if row else _create(kind, resource, applied))
    found += [_unmanaged(kind, managed, row, applied) for row in rows if row.key not in named]
    return tuple(sorted((change for change in found if change is not None), key=lambda item: item.key))


def sorted_resources(state: State, kind: str) -> Iterable[Resource]:
    return (state[key] for key in sorted(state) if key.kind == kind)


def _create(kind: Kind, desired: Resource, applied: AppliedState) -> Create:
    fields = tuple(
        FieldChange(name, None, None if name in kind.sensitive else value, name in kind.sensitive)
        for name, value in ordered(kind, desired.fields)
        if value is not None
    )
    cause: Cause = "drift" if desired.key in applied else "new"
    return Create(desired.key, fields, desired.source, cause, desired)


def _update(kind: Kind, desired: Resource, row: Resource, applied: AppliedState) -> Update | None:
    fields: list[FieldChange] = []
    if row.key != desired.key and desired.renamed_from == row.key.name:
        fields.append(FieldChange(kind.renamed_field, row.key.name, desired.key.name))
    if row.moves_from is not None:
        here = "production" if row.moves_from == "development" else "development"
        fields.append(FieldChange("environment", row.moves_from, here))
    for name, value in ordered(kind, desired.fields):
        if name in desired.on_create or same(value, row.fields.get(name)):
            continue
        sensitive = name in kind.sensitive
        before, after = (None, None) if sensitive else (row.fields.get(name), value)
        fields.append(FieldChange(name, before, after, sensitive))
    if not fields:
        return None
    cause = _cause(desired, row, fields, applied)
    return Update(desired.key, tuple(fields), desired.source, cause, desired, row)


def _cause(desired: Resource, row: Resource, fields: Sequence[FieldChange], applied: AppliedState) -> Cause:
    """drift where a field that we applied as it is declared now is no longer so; else the declaration changed.

    The row's own record counts first: a plan of another id may have been applied to it since (matched by name).
    """
    last = applied.get(row.key) or applied.get(desired.key)
    if last is None:
        return "new"
    drifted = any(
        change.field in last.fields and same(desired.fields.get(change.field), last.fields[change.field])
        for change in fields
    )
    return "drift" if drifted else "intent"


def _unmanaged(kind: Kind, managed: Managed, row: Resource, applied: AppliedState) -> Deactivate | Remove | None:
    """What becomes of a row that the declaration does not name. Rows that others refer to are never removed."""
    if managed.unmanaged == "keep" or (kind.active is None and not kind.removable):
        return None
    cause: Cause = "intent" if row.key in applied else ("drift" if applied else "new")
    if managed.unmanaged == "remove" and not row.referenced:
        fields = tuple(
            FieldChange(name, value, None)
            for name, value in ordered(kind, row.fields)
            if value is not None and name not in kind.sensitive
        )
        return Remove(row.key, fields, managed.source, cause, row)
    if kind.active is None or row.fields.get(kind.active) is False:
        return None
    off = FieldChange(kind.active, row.fields.get(kind.active), after=False)
    return Deactivate(row.key, (off,), managed.source, cause, row)


def ordered(kind: Kind, fields: Mapping[str, Value]) -> Iterable[tuple[str, Value]]:
    return ((name, fields[name]) for name in kind.fields if name in fields)


def accept(
    changes: Sequence[Change], ignores: Sequence[Ignore], today: date
) -> tuple[tuple[Change, ...], tuple[Accepted, ...]]:
    """Take out what `ignore` entries accept as of `today`; a change whose fields are all accepted goes.

    A database or a schema that is missing is no drift that could be lived with.
    """
    active = tuple(entry for entry in ignores if entry.until is None or today <= entry.until)
    if not active:
        return tuple(changes), ()
    kept: list[Change] = []
    accepted: list[Accepted] = []
    for change in changes:
        reduced, taken = _accept_one(change, active) if change.key.kind not in FOUNDATIONS else (change, [])
        accepted += taken
        if reduced is not None:
            kept.append(reduced)
    return tuple(kept), tuple(accepted)


def _accept_one(change: Change, ignores: Sequence[Ignore]) -> tuple[Change | None, list[Accepted]]:
    whole = _matching(str(change.key), ignores)
    if whole is not None:
        return None, [Accepted(change.key, "*", whole.reason)]
    if not isinstance(change, Update):
        by_field = [_matching(f"{change.key}/{item.field}", ignores) for item in change.fields]
        if isinstance(change, Deactivate) and by_field and by_field[0] is not None:
            return None, [Accepted(change.key, change.fields[0].field, by_field[0].reason)]
        return change, []
    fields: list[FieldChange] = []
    taken: list[Accepted] = []
    live = dict(change.desired.fields)
    for item in change.fields:
        entry = _matching(f"{change.key}/{item.field}", ignores)
        if entry is None or item.field not in live:  # a rename is accepted with the whole change, or not at all
            fields.append(item)
            continue
        taken.append(Accepted(change.key, item.field, entry.reason))
        live[item.field] = change.observed.fields.get(item.field)
    if not fields:
        return None, taken
    if not taken:
        return change, []
    desired = _with_fields(change.desired, live)
    return (
        Update(change.key, tuple(fields), change.source, change.cause, desired, change.observed),
        taken,
    )


def _matching(path: str, ignores: Sequence[Ignore]) -> Ignore | None:
    return next((entry for entry in ignores if fnmatchcase(path, entry.pattern)), None)


def _with_fields(resource: Resource, fields: Mapping[str, Value]) -> Resource:
    return Resource(
        resource.key,
        fields,
        resource.source,
        resource.on_create,
        resource.renamed_from,
        resource.row_id,
        resource.referenced,
    )


def conflicts(expect: Mapping[str, Value], status: InstanceStatus | None, instance: str) -> tuple[Conflict, ...]:
    """Where Connect says otherwise than the manifest expects. Unknown is no conflict."""
    if status is None:
        return ()
    key = Key("status", instance)
    found: list[Conflict] = []
    said: dict[str, Value] = {"status": status.status, "billing_status": status.billing_status}
    for name, value in said.items():
        if name in expect and not same(expect[name], value):
            found.append(Conflict(key, name, expect[name], value))
    for name, value in sorted((expect.get("enabled_features") or {}).items()):
        said_value = status.enabled_features.get(name)
        if not same(value, said_value):
            found.append(Conflict(key, f"enabled_features.{name}", value, said_value))
    return tuple(found)
