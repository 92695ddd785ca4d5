"""Why a resource is to change: it is new, its declaration changed (intent), or its row did (drift). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.model.changes import Cause, FieldChange
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Applied, Key, Resource, same

AppliedState = Mapping[Key, Applied]


def cause_of(
    kind: Kind, desired: Resource, row: Resource, fields: Sequence[FieldChange], applied: AppliedState
) -> Cause:
    """drift if a field that was applied as it is declared now is no longer so; else the declaration changed.

    What was not declared in between is declared again: that is intent, whatever became of it meanwhile.
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
    """What was last applied. The row's own record counts first: a plan of another id may have been applied to it since
    (matched by name)."""
    if is_renamed_by_hand(desired, row, applied):
        return applied[desired.key]
    return applied.get(row.key) or applied.get(desired.key)


def is_renamed_by_hand(desired: Resource, row: Resource, applied: AppliedState) -> bool:
    """Whether the declared name was applied, and the row bears another one by now that no manifest declared since."""
    if row.key == desired.key or row.renamed_from is not None:
        return False
    last, other = applied.get(desired.key), applied.get(row.key)
    return last is not None and last.tenure == "declared" and (other is None or other.tenure != "declared")


def has_drifted(change: FieldChange, desired: Resource, last: Applied) -> bool:
    """Whether the field was applied as it is declared now, and is something else by now."""
    return change.field in last.fields and same(desired.fields.get(change.field), last.fields[change.field])
