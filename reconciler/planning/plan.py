"""A plan: all changes of one instance, in the order of their writes, and its digest. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import date
from typing import Final

from reconciler.model.changes import Accepted, Change, Conflict, Create, FieldChange, Former, Update
from reconciler.model.kinds import BY_NAME, KINDS
from reconciler.model.kinds.base import Kind
from reconciler.model.kinds.schema import schema_change
from reconciler.model.records import dataclass
from reconciler.model.types import (
    Applied,
    ConnectView,
    Desired,
    Key,
    Managed,
    Resource,
    Snapshot,
    Value,
    canonical,
)
from reconciler.planning.cause import has_drifted, is_renamed_by_hand, last_of, with_renames_undone
from reconciler.planning.diff import (
    accept,
    conflicts,
    diff_kind,
    formers,
)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a plan was made for, beside its changes: a keyed digest of the declared secrets, and digests that identify
    the database and Connect. The last two are empty in a plan that was saved before plans had them."""

    secrets: str = ""
    database: str = ""
    connect: str = ""


UNBOUND: Final = Bound()


@dataclass(frozen=True, slots=True)
class Plan:
    """What an apply would do to one instance. `managed` is what was compared, by kind; `former` was applied once, still
    exists, and is left as it is."""

    instance: str
    environment: str
    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    former: tuple[Former, ...] = ()
    managed: Mapping[str, Managed] = field(default_factory=dict)

    def digest(self, bound: Bound = UNBOUND) -> str:
        """Returns 16 hex digits that identify these changes, except Connect's, and what `bound` ties them to."""
        return compute_digest(
            self.instance, self.environment, [change_as_json(change) for change in self.changes], bound
        )


def compute_digest(instance: str, environment: str, changes: Sequence[Mapping[str, Value]], bound: Bound) -> str:
    """Returns the digest of a plan whose changes are given as they are shown.

    What Connect says, and the lock, are left out: no guard asks about them, and even a refused run applies them.
    """
    named = [change for change in changes if is_reviewed(change)]
    content = {"instance": instance, "environment": environment, "changes": named, "secrets": bound.secrets}
    if bound.database or bound.connect:
        content |= {"database": bound.database, "connect": bound.connect}
    return short_digest(content)


def is_reviewed(change: Mapping[str, Value]) -> bool:
    """Whether somebody has to agree to a change, given as it is shown. What Connect says needs no agreement."""
    return bool(change["kind"] != "status")


def short_digest(content: Value) -> str:
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


def change_as_json(change: Change) -> dict[str, Value]:
    """Returns a change as reports, saved plans and pages hold it (schemas/report.v1)."""
    return {
        "kind": change.key.kind,
        "name": change.key.name,
        "action": change.action,
        "source": change.source,
        "cause": change.cause,
        "fields": [field.shown() for field in change.fields],
    }


def managed_kinds(desired: Desired, view: ConnectView) -> dict[str, Managed]:
    """Returns what the manifest or Connect declares, by kind. A kind that is missing is left alone."""
    managed = dict(desired.managed)
    for kind in KINDS:
        if kind.name == "plan" and not desired.plans_from_connect:
            continue
        from_connect = kind.from_connect(view, desired.plans_unmanaged)
        if from_connect is not None:
            managed[kind.name] = from_connect
    return managed


def build_plan(desired: Desired, view: ConnectView, snapshot: Snapshot, *, schema_version: int, today: date) -> Plan:
    """Compare everything: the one plan that diff, apply, saved plans, reports and audit all use."""
    managed = _with_new_policies(managed_kinds(desired, view), desired, snapshot)
    if desired.whole:
        managed = {name: with_renames_undone(one, snapshot.state, snapshot.applied) for name, one in managed.items()}
    changes: list[Change] = []
    if not snapshot.database_exists:
        changes.append(_database_change(desired))
    schema = schema_change(snapshot, schema_version)
    if schema is not None:
        changes.append(schema)
    applied = applied_until_now(desired, snapshot)
    for kind in KINDS:
        if kind.name in managed:
            changes += diff_kind(kind, managed[kind.name], snapshot.state, applied)
    known = {*snapshot.state, *(one.key for some in managed.values() for one in some.resources)}
    kept, accepted = accept(changes, desired.ignore, today, known)
    return Plan(
        instance=desired.instance,
        environment=desired.environment.name,
        changes=_in_order(kept),
        conflicts=conflicts(desired.expect, view.status, desired.instance),
        accepted=accepted,
        former=tuple(
            item
            for kind in judged_kinds(desired, managed)
            for item in formers(kind, managed.get(kind.name), snapshot.state, applied)
        ),
        managed=managed,
    )


UNMANAGED: Final = "unmanaged"
"""A field in the record of an environment: the policy for undeclared rows, by kind, if it is not keep."""


def build_policies(desired: Desired) -> dict[str, Value]:
    """Returns what `UNMANAGED` should hold after an apply of this manifest."""
    found: dict[str, Value] = {name: managed.unmanaged for name, managed in desired.managed.items()}
    if desired.plans_from_connect:
        found["plan"] = desired.plans_unmanaged
    return {name: policy for name, policy in sorted(found.items()) if policy != "keep"}


def _with_new_policies(managed: Mapping[str, Managed], desired: Desired, snapshot: Snapshot) -> dict[str, Managed]:
    """Adds to each kind whether its policy for undeclared rows has changed since the last apply."""
    last = snapshot.applied.get(Key("environment", desired.instance))
    before = last.fields.get(UNMANAGED) if last else None
    if before is None:  # nothing was applied, or by a version that did not record it
        return dict(managed)
    return {
        name: replace(one, unmanaged_is_new=one.unmanaged != before.get(name, "keep")) for name, one in managed.items()
    }


def applied_until_now(desired: Desired, snapshot: Snapshot) -> Mapping[Key, Applied]:
    """Returns what was last applied. If the instance goes back to an environment, there are records from last time, and
    the other environment may have changed things in between: the environment's own rows don't count as declared until
    now. What both share, and the administrator who moves along, was declared all the time."""
    rows = (row for key, row in snapshot.state.items() if key.kind == "environment")
    if all(row.fields.get("name") == desired.environment.name for row in rows):
        return snapshot.applied
    return {
        key: replace(last, tenure="former") if last.tenure == "declared" and _is_back(key, snapshot) else last
        for key, last in snapshot.applied.items()
    }


def _is_back(key: Key, snapshot: Snapshot) -> bool:
    row = snapshot.state.get(key)
    return BY_NAME[key.kind].per_environment and (row is None or row.moves_from is None)


def judged_kinds(desired: Desired, managed: Mapping[str, Managed]) -> tuple[Kind, ...]:
    """Returns the kinds whose declared resources are all known: the manifest is whole, and Connect has answered."""
    if not desired.whole:
        return ()
    unknown = {"plan"} if desired.plans_from_connect and "plan" not in managed else set()
    return tuple(kind for kind in KINDS if kind.remembered and kind.name not in unknown)


def only_drift(plan: Plan, snapshot: Snapshot) -> Plan:
    """Returns the plan with only what others changed, by field, without what is declared and not yet applied."""
    changes: list[Change] = []
    for change in plan.changes:
        if change.cause != "drift":
            continue
        if isinstance(change, Update) and (last := last_of(change.desired, change.observed, snapshot.applied)):
            by_hand = is_renamed_by_hand(change.desired, change.observed, snapshot.applied)
            name = BY_NAME[change.key.kind].renamed_field if by_hand else None
            fields = tuple(
                item for item in change.fields if item.field == name or has_drifted(item, change.desired, last)
            )
            changes.append(replace(change, fields=fields))
        else:
            changes.append(change)
    return replace(plan, changes=tuple(changes), conflicts=(), accepted=(), former=())


def only_status(plan: Plan) -> Plan:
    """Returns the plan with only what Connect says and the lock that follows from it."""
    return replace(
        plan,
        changes=tuple(change for change in plan.changes if change.key.kind == "status"),
        managed={kind: managed for kind, managed in plan.managed.items() if kind == "status"},
    )


def applied_after(plan: Plan) -> dict[Key, Resource]:
    """Returns the resources whose last applied state this plan sets: what it writes, and what it finds as declared."""
    return {resource.key: resource for managed in plan.managed.values() for resource in managed.resources}


def _in_order(changes: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: (BY_NAME[change.key.kind].order, change.key.name)))


def _database_change(desired: Desired) -> Create:
    key = Key("database", desired.database_name)
    return Create(key, (FieldChange("name", None, key.name),), "manifest", "new", Resource(key, {}))
