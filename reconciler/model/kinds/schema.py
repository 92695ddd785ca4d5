"""kind schema: the tables, by the number of the last migration. Desired: what this fivrec ships."""

from __future__ import annotations

from reconciler.model.changes import Change, Create, FieldChange, Update
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Key, Resource, Snapshot

KIND = Kind(name="schema", order=1, fields=("version",))
NAME = "fivrec"


def schema_change(snapshot: Snapshot, version: int) -> Change | None:
    """Returns the change that brings the schema to `version` and restores what a deep reading missed, or None."""
    key = Key(KIND.name, NAME)
    desired = Resource(key, {"version": version})
    lost = tuple(FieldChange(name, "missing", "present") for name in snapshot.missing)
    if snapshot.schema_version is None:
        return Create(key, (FieldChange("version", None, version),), "manifest", "new", desired)
    observed = Resource(key, {"version": snapshot.schema_version})
    if snapshot.schema_version < version:
        step = FieldChange("version", snapshot.schema_version, version)
        return Update(key, (step, *lost), "manifest", "intent", desired, observed)
    if lost:
        return Update(key, lost, "manifest", "drift", desired, observed)
    return None
