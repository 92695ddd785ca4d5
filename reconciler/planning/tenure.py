"""How long a resource is fivrec's: what is recorded when it is declared, left alone or taken back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.model.changes import Change, Create, Deactivate, Remove, Update
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Applied, Desired, Key, Managed, Provenance, Snapshot, Tenure, Value
from reconciler.planning.cause import RENAMED_TO
from reconciler.planning.diff import matched_keys
from reconciler.planning.plan import Plan, judged_kinds


def provenance_after(change: Change | None, last: Applied | None) -> tuple[Provenance, Mapping[str, Value]]:
    """Returns how a declared resource became fivrec's, and its fields from before its promotion."""
    match change:
        case Create():
            return "created", {}
        case Update() if (last is None or last.tenure != "declared") and change.key.kind == "admin":
            if last is not None and last.provenance == "created":
                return "created", {}
            before = {item.field: item.before for item in change.fields if item.field == "role"}
            return ("promoted", before) if before else (last.provenance if last else "adopted", {})
    return (last.provenance, last.before) if last is not None else ("adopted", {})


def records_after(plan: Plan, desired: Desired, snapshot: Snapshot) -> dict[Key, Applied]:
    """Returns the records of what is no longer declared, if this plan changes them."""
    declared = {resource.key for managed in plan.managed.values() for resource in managed.resources}
    found = dict(_taken_back(plan, declared, snapshot))
    known = declared | found.keys() | {item.key for item in plan.accepted}
    kept = {item.key for item in plan.former}
    for kind in judged_kinds(desired, plan.managed):
        managed = plan.managed.get(kind.name)
        matched = matched_keys(kind, managed, snapshot.state)
        for key, last in snapshot.applied.items():
            if key.kind == kind.name and key not in known and key not in matched:
                newer = _newer_name(kind, managed, key.name)
                # A user who is no longer an administrator is not read, but may still exist.
                live = key in snapshot.state or (last.tenure == "retired" and kind.active is None)
                found[key] = _left_alone(last, kept=key in kept, live=live, renamed_to=newer)
    return {key: record for key, record in found.items() if record != snapshot.applied[key]}


def _newer_name(kind: Kind, managed: Managed | None, name: str) -> str | None:
    """Returns the new name that the manifest gives to a former name (`renamed_from`), or None."""
    former = kind.folded(name)
    resources = managed.resources if managed is not None else ()
    named = (one for one in resources if one.renamed_from is not None and kind.folded(one.renamed_from) == former)
    return next((one.key.name for one in named), None)


def _left_alone(last: Applied, *, kept: bool, live: bool, renamed_to: str | None) -> Applied:
    """A row that is gone is no longer fivrec's, even if somebody makes another row of its name. A row that somebody
    renamed before the manifest did is known by its newer name."""
    if kept:
        tenure: Tenure = "retired" if last.tenure == "retired" else "former"
        return replace(last, tenure=tenure)
    if renamed_to is not None and not live:
        return replace(last, tenure="retired", provenance="adopted", before={RENAMED_TO: renamed_to})
    return replace(last, tenure="retired", provenance=last.provenance if live else "adopted")


def _taken_back(plan: Plan, declared: set[Key], snapshot: Snapshot) -> Iterator[tuple[Key, Applied]]:
    """Yields the records of what the plan removes, deactivates, demotes or renames."""
    for change in plan.changes:
        if isinstance(change, Create):
            continue
        key = change.observed.key
        last = snapshot.applied.get(key)
        if last is None or key in declared:
            continue
        kind = BY_NAME[key.kind]
        match change:
            case Remove():
                yield key, replace(last, tenure="retired", provenance="adopted")
            case Deactivate() if kind.active:
                yield key, replace(last, tenure="retired", fields={**last.fields, kind.active: False})
            case Update() if change.key != key and kind.name != "plan":  # renamed in place; a plan's row keeps its id
                before = last.before if change.desired.renamed_from is None else {RENAMED_TO: change.key.name}
                yield key, replace(last, tenure="retired", provenance="adopted", before=before)
            case Update() if change.key == key:
                left = {item.field: item.after for item in change.fields if not item.sensitive}
                gone = {item.field for item in change.fields if item.sensitive}
                fields = {name: value for name, value in {**last.fields, **left}.items() if name not in gone}
                yield key, replace(last, tenure="retired", fields=fields)
