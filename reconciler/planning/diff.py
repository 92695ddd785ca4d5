"""Compare desired with observed state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
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
    Former,
    Remove,
    Update,
)
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.base import Kind
from reconciler.model.secret import Secret, is_unusable
from reconciler.model.types import (
    OTHER_ENVIRONMENT,
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
from reconciler.planning.cause import AppliedState, cause_of

FOUNDATIONS = frozenset({"database", "schema"})
"""Kinds that everything else depends on."""


def diff_kind(kind: Kind, managed: Managed, observed: State, applied: AppliedState) -> tuple[Change, ...]:
    """Returns the changes that make the observed resources of one kind match the declared ones, sorted by name."""
    rows = tuple(sorted_resources(observed, kind.name))
    matches = kind.match(managed.resources, rows)
    named = {row.key for row in matches.values()}
    found: list[Change | None] = []
    for resource in managed.resources:
        row = matches.get(resource.key)
        found.append(_update(kind, resource, row, applied) if row else _create(kind, resource, rows, applied))
    found += [_unnamed(kind, managed, row, applied) for row in rows if row.key not in named]
    return tuple(sorted((change for change in found if change is not None), key=lambda item: item.key))


def matched_keys(kind: Kind, managed: Managed | None, observed: State) -> set[Key]:
    """Returns the keys of the rows that the declared resources match; none if the kind is left alone."""
    if managed is None:
        return set()
    rows = tuple(sorted_resources(observed, kind.name))
    return {row.key for row in kind.match(managed.resources, rows).values()}


def sorted_resources(state: State, kind: str) -> Iterable[Resource]:
    return (state[key] for key in sorted(key for key in state if key.kind == kind))


def _create(kind: Kind, desired: Resource, rows: Sequence[Resource], applied: AppliedState) -> Create:
    fields = tuple(
        _field_change(kind, name, None, value) for name, value in ordered(kind, desired.fields) if value is not None
    )
    last = applied.get(desired.key)
    cause: Cause = "new" if last is None else "intent"
    if last is not None and last.tenure == "declared" and not _had_no_row(kind, last, rows, applied):
        cause = "drift"
    return Create(desired.key, fields, desired.source, cause, desired)


def _had_no_row(kind: Kind, last: Applied, rows: Sequence[Resource], applied: AppliedState) -> bool:
    """Whether a plan was applied to a row with another plan's id that is still there: then nobody deleted its row."""
    if kind.name != "plan":
        return False
    records = (applied.get(row.key) for row in rows)
    return any(one is not None and (one.run_id, one.fields) == (last.run_id, last.fields) for one in records)


def _update(kind: Kind, desired: Resource, row: Resource, applied: AppliedState) -> Update | None:
    fields: list[FieldChange] = []
    if (name := renamed(kind, desired, row)) is not None:
        fields.append(FieldChange(kind.renamed_field, name, desired.key.name))
    if row.moves_from is not None:
        here = OTHER_ENVIRONMENT[row.moves_from]
        fields.append(FieldChange("environment", row.moves_from, here))
    for name, value in ordered(kind, desired.fields):
        if name in desired.on_create and not _is_locked(row, name, applied):
            continue
        stored = (row.fields.get(name), *(twin.get(name) for twin in row.twins))
        other = [one for one in stored if not kind.same(name, value, one)]
        if other:
            fields.append(_field_change(kind, name, other[0], value))
    if not fields:
        return None
    cause = cause_of(kind, desired, row, fields, applied)
    return Update(desired.key, tuple(fields), desired.source, cause, desired, row)


def renamed(kind: Kind, desired: Resource, row: Resource) -> str | None:
    """Returns the name that the row has and is to lose (a former name, another spelling, a former owner), or None."""
    if row.renamed_from is not None:
        return row.renamed_from
    was, names = row.key.name, (desired.key.name, desired.renamed_from)
    same_name = any(name is not None and kind.folded(name) == kind.folded(was) for name in names)
    return was if row.key != desired.key and same_name else None


def _field_change(kind: Kind, name: str, before: Value, after: Value) -> FieldChange:
    """A field is sensitive by its kind, or because a setting is or was declared as a secret."""
    if name in kind.sensitive or isinstance(before, Secret) or isinstance(after, Secret):
        return FieldChange(name, sensitive=True)
    return FieldChange(name, before, after)


def _is_locked(row: Resource, name: str, applied: AppliedState) -> bool:
    """Whether fivrec locked this account when it was no longer declared: then its password is set as if it were new."""
    last = applied.get(row.key)
    return last is not None and last.tenure == "retired" and is_unusable(row.fields.get(name))


def _unnamed(kind: Kind, managed: Managed, row: Resource, applied: AppliedState) -> Change | None:
    """Returns the change for a row that is not declared: by `former` if the row is fivrec's own, and by `unmanaged`,
    whichever goes further."""
    last = applied.get(row.key)
    cause: Cause = "new" if not applied else "intent" if managed.unmanaged_is_new else "drift"
    # Nobody can tell which row of several was fivrec's: it is shown as former.
    own = last is not None and not row.doubled and is_own(kind, row, last)
    if last is not None:  # a row that is as fivrec left it was changed by nobody
        cause = "drift" if last.tenure == "retired" and not (own or managed.unmanaged_is_new) else "intent"
    if last is not None and own and managed.former in ("demote", "lock"):
        if row.twins:
            return None
        return _taken_back(kind, managed, row, last)
    unmanaged = managed.unmanaged if kind.active is not None or kind.removable else "keep"
    policies = {unmanaged, managed.former if own else "keep"}
    if "remove" in policies and not row.referenced:
        return _remove(kind, managed, row, cause, own=own)
    if policies == {"keep"} or kind.active is None or _is_off(row, kind.active):
        return None
    before = next(
        fields.get(kind.active) for fields in (row.fields, *row.twins) if fields.get(kind.active) is not False
    )
    off = FieldChange(kind.active, before, after=False)
    return Deactivate(row.key, (off,), managed.source, cause, row)


def _is_off(row: Resource, active: str) -> bool:
    return all(fields.get(active) is False for fields in (row.fields, *row.twins))


def is_own(kind: Kind, row: Resource, last: Applied) -> bool:
    """Whether fivrec created or promoted the row, and nobody has changed it since. A user's new password doesn't count
    as a change."""
    if last.provenance == "adopted":
        return False
    compared = [name for name in last.fields if name in kind.fields and name not in kind.sensitive]
    stored = (row.fields, *row.twins)
    return all(same(fields.get(name), last.fields[name]) for fields in stored for name in compared)


def _remove(kind: Kind, managed: Managed, row: Resource, cause: Cause, *, own: bool) -> Remove:
    fields = tuple(
        _field_change(kind, name, value, None) for name, value in ordered(kind, row.fields) if value is not None
    )
    return Remove(row.key, fields, managed.source, cause, row, own)


def _taken_back(kind: Kind, managed: Managed, row: Resource, last: Applied) -> Update | None:
    left = kind.take_back(row, last, managed.former)
    fields = tuple(
        _field_change(kind, name, row.fields.get(name), value)
        for name, value in ordered(kind, left)
        if not same(value, row.fields.get(name))
    )
    if not fields:
        return None
    desired = Resource(row.key, {**row.fields, **dict.fromkeys(kind.sensitive), **left}, managed.source)
    return Update(row.key, fields, managed.source, "intent", desired, row)


def formers(kind: Kind, managed: Managed | None, observed: State, applied: AppliedState) -> tuple[Former, ...]:
    """Returns what fivrec applied, still exists and is no longer declared, except what fivrec takes back."""
    known = {key for key in applied if key.kind == kind.name}
    if managed is not None:
        known -= {resource.key for resource in managed.resources}
    known &= observed.keys()
    if known:
        known -= matched_keys(kind, managed, observed)
    return tuple(
        Former(key, applied[key].run_id, applied[key].at)
        for key in sorted(known)
        if not _is_settled(kind, observed[key], applied[key])
        and (managed is None or _unnamed(kind, managed, observed[key], applied) is None)
    )


def _is_settled(kind: Kind, row: Resource, last: Applied) -> bool:
    """Whether the row was taken back and is still as fivrec left it, or others made it in place of one that is gone."""
    if last.tenure == "retired":
        return last.provenance == "adopted" or is_own(kind, row, last)
    return kind.active is not None and _is_off(row, kind.active) and is_own(kind, row, last)


def ordered(kind: Kind, fields: Mapping[str, Value]) -> Iterable[tuple[str, Value]]:
    return ((name, fields[name]) for name in kind.fields if name in fields)


def accept(
    changes: Sequence[Change], ignores: Sequence[Ignore], today: date, known: Iterable[Key] = ()
) -> tuple[tuple[Change, ...], tuple[Accepted, ...]]:
    """Take out what `ignore` entries accept as of `today`; a change is dropped if all its fields are accepted.

    A missing database or schema can't be accepted, and neither can an environment that the manifest does not declare.
    If there are the queues Day and Day/Night (`known`), queue/Day/* names the fields of the first.
    """
    active = _active(ignores, today)
    if not active:
        return tuple(changes), ()
    paths = {_path(key) for key in known}
    kept: list[Change] = []
    accepted: list[Accepted] = []
    for change in changes:
        fitting = _fitting(change.key, active, paths)
        reduced, taken = (change, []) if _must_be_made(change) else _accept_one(change, fitting)
        accepted += taken
        if reduced is not None:
            kept.append(reduced)
    return tuple(kept), tuple(accepted)


def is_accepted(key: Key, field: str, ignores: Sequence[Ignore], today: date) -> bool:
    active = _active(ignores, today)
    return any(_matching(key, part, active) is not None for part in ("", field))


def _active(ignores: Sequence[Ignore], today: date) -> tuple[Ignore, ...]:
    return tuple(entry for entry in ignores if entry.until is None or today <= entry.until)


def _fitting(key: Key, ignores: Sequence[Ignore], paths: Set[str]) -> Sequence[Ignore]:
    """Leaves out the entries whose wildcards stand for the fields of another resource, whose name is the beginning of
    this one's."""
    return [one for one in ignores if not _is_of_another(key, one.pattern, paths)] if "/" in key.name else ignores


def _is_of_another(key: Key, pattern: str, paths: Set[str]) -> bool:
    kind, own = BY_NAME[key.kind], _path(key)
    wanted = kind.folded(pattern)
    other, _, field = wanted.rpartition("/")
    return other in paths - {own} and wanted != own and any(fnmatchcase(name, field) for name in kind.fields)


def _path(key: Key) -> str:
    return BY_NAME[key.kind].folded(str(key))


def _must_be_made(change: Change) -> bool:
    if change.key.kind == "environment":
        return any(item.field == "name" for item in change.fields)
    return change.key.kind in FOUNDATIONS


def _accept_one(change: Change, ignores: Sequence[Ignore]) -> tuple[Change | None, list[Accepted]]:
    whole = _matching(change.key, "", ignores)
    if whole is not None:
        return None, [Accepted(change.key, "*", whole.reason, whole.until)]
    if not isinstance(change, Update):
        by_field = [_matching(change.key, item.field, ignores) for item in change.fields]
        if isinstance(change, Deactivate) and by_field and by_field[0] is not None:
            return None, [Accepted(change.key, change.fields[0].field, by_field[0].reason, by_field[0].until)]
        return change, []
    fields: list[FieldChange] = []
    taken: list[Accepted] = []
    live = dict(change.desired.fields)
    for item in change.fields:
        entry = _matching(change.key, item.field, ignores)
        if entry is None or item.field not in live:  # a rename is accepted with the whole change, or not at all
            fields.append(item)
            continue
        taken.append(Accepted(change.key, item.field, entry.reason, entry.until))
        live[item.field] = change.observed.fields.get(item.field)
    if not fields:
        return None, taken
    if not taken:
        return change, []
    return replace(change, fields=tuple(fields), desired=replace(change.desired, fields=live)), taken


def _matching(key: Key, field: str, ignores: Sequence[Ignore]) -> Ignore | None:
    """Returns the first entry that names it, or whose wildcards match it: a name may contain wildcard characters, and
    may be spelled in two ways."""
    if not ignores:
        return None
    folded = BY_NAME[key.kind].folded
    path = folded(f"{key}/{field}" if field else str(key))
    return next(
        (entry for entry in ignores if path == (wanted := folded(entry.pattern)) or fnmatchcase(path, wanted)), None
    )


def conflicts(expect: Mapping[str, Value], status: InstanceStatus | None, instance: str) -> tuple[Conflict, ...]:
    """Returns where Connect differs from what the manifest expects. An unknown status is not a conflict."""
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
