"""Why a resource is to change: it is new, its declaration changed (intent), or its row changed (drift). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from reconciler.model.changes import Cause, FieldChange
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Applied, Key, Managed, Resource, State, same

AppliedState = Mapping[Key, Applied]
RENAMED_TO = "renamed_to"
"""In `Applied.before` of a name that is no longer declared: the name that its row was given."""


def cause_of(
    kind: Kind, desired: Resource, row: Resource, fields: Sequence[FieldChange], applied: AppliedState
) -> Cause:
    """Returns drift if a field was applied as it is declared now, and has changed since; else the declaration changed.

    A resource that was not declared in between is intent, whatever happened to its row meanwhile.
    """
    last = last_of(desired, row, applied)
    if last is None:
        return "new"
    if last.tenure != "declared":
        return "intent"
    by_hand = kind.renamed_field if is_renamed_by_hand(desired, row, applied) else None
    drifted = any(change.field == by_hand or has_drifted(change, desired, last) for change in fields)
    return "drift" if drifted else "intent"


def last_of(desired: Resource, row: Resource, applied: AppliedState) -> Applied | None:
    """Returns what was last applied. The row's own record counts first: a plan with another id may have been applied to
    the row since (matched by name)."""
    if is_renamed_by_hand(desired, row, applied):
        return applied[desired.key]
    return applied.get(row.key) or applied.get(desired.key)


def is_renamed_by_hand(desired: Resource, row: Resource, applied: AppliedState) -> bool:
    """Whether the declared name was applied, and the row now has another name that no manifest has declared since."""
    if row.key == desired.key:
        return False
    last, other = applied.get(desired.key), applied.get(row.key)
    return last is not None and last.tenure == "declared" and (other is None or other.tenure != "declared")


def with_renames_undone(declared: Managed, observed: State, applied: AppliedState) -> Managed:
    """If a name is declared again after its row was renamed, rename the row back: reverting the manifest reverts the
    rename, and what refers to the row stays with it. Only for a whole manifest: a part does not say which names are no
    longer declared.

    A `renamed_from` whose row exists takes precedence; one that is left over from an earlier rename is ignored.
    """
    lacking = [resource for resource in declared.resources if resource.key not in observed]
    if not lacking:
        return declared
    kind = BY_NAME[lacking[0].key.kind]
    rows = {kind.folded(key.name) for key in observed if key.kind == kind.name}
    keys = {resource.key for resource in declared.resources}
    undone: dict[Key, Resource] = {}
    for resource in lacking:
        if resource.renamed_from is None or kind.folded(resource.renamed_from) not in rows:
            name = _renamed_to(resource.key, kind, keys, rows, applied)
            if name is not None:
                undone[resource.key] = replace(resource, renamed_from=name)
    if not undone:
        return declared
    return replace(declared, resources=tuple(undone.get(one.key, one) for one in declared.resources))


def _renamed_to(
    key: Key, kind: Kind, declared: Collection[Key], rows: Collection[str], applied: AppliedState
) -> str | None:
    seen = {key}
    while (last := applied.get(key)) is not None and last.tenure == "retired":
        name = last.before.get(RENAMED_TO)
        key = Key(key.kind, str(name))
        if name is None or key in seen or key in declared:
            return None
        if kind.folded(key.name) in rows:
            return None if _is_gone(applied.get(key)) else key.name
        seen.add(key)
    return None


def _is_gone(last: Applied | None) -> bool:
    """Whether the renamed row is gone meanwhile: then a row of that name is somebody else's."""
    return last is not None and last.tenure == "retired" and last.provenance == "adopted"


def has_drifted(change: FieldChange, desired: Resource, last: Applied) -> bool:
    """Whether the field was applied as it is declared now, and has another value by now."""
    return change.field in last.fields and same(desired.fields.get(change.field), last.fields[change.field])
