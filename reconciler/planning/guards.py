"""The guards: what an apply refuses unless the digest of exactly this plan is accepted. Pure.

They count, and never switch off below a size: a small set can be emptied as well as a large one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from reconciler.model.changes import Change, Create, Deactivate, Remove, Update
from reconciler.model.kinds import KINDS, development_rows
from reconciler.model.kinds.base import Kind
from reconciler.model.names import first_of
from reconciler.model.types import Managed, Resource, State
from reconciler.planning.diff import sorted_resources
from reconciler.planning.plan import Plan

SHARE = 0.2
"""Losing more than this share of a kind is refused …"""
COUNT = 1
"""… if it is also more than this many."""

MOST_NAMED = 10

STRONG_LOGIN = (
    "this login may do more than is needed (superuser, CREATEROLE, BYPASSRLS, or a member of roles): the plain owner "
    "of the database would do, with CREATEROLE if isolation is enforced; see fivrec docs logins"
)


def refusals(plan: Plan, observed: State) -> tuple[str, ...]:
    """Returns a sentence for each thing that a guard refuses, in the order of the kinds; empty if nothing is refused.

    Only the rows before and after count, not the cause of a change.
    """
    found: list[str] = []
    for change in plan.changes:
        if change.key.kind == "environment" and isinstance(change, Update):
            found += [
                f"{change.key} would change from {name.before} to {name.after}; of its rows only the declared "
                "administrator's moves along"
                for name in change.fields
                if name.field == "name"
            ]
    for kind in KINDS:
        of_kind = tuple(change for change in plan.changes if change.key.kind == kind.name)
        removals = _removals(kind, of_kind, plan.managed, observed)
        if removals:  # what is reported as removed is not reported again as deactivated
            of_kind = tuple(change for change in of_kind if not isinstance(change, Remove))
        found += [*removals, *_deactivations(kind, of_kind, plan.managed, observed)]
    return tuple(found)


def _removals(kind: Kind, changes: Sequence[Change], managed: Mapping[str, Managed], observed: State) -> list[str]:
    """Refuses every removal, except those that the manifest consents to by name, and a few of fivrec's own rows."""
    removed = [change for change in changes if isinstance(change, Remove)]
    if not removed or (kind.name in managed and managed[kind.name].consented):
        return []
    if kind.name == development_rows.NAME:
        counts = [f"{change.key.name} {change.observed.fields['rows']}" for change in removed]
        total = sum(change.observed.fields["rows"] for change in removed)
        return [f"{_rows(total, 'development')} would be deleted: {_listed(counts)}"]
    names = [change.key.name for change in removed]
    total = len(tuple(sorted_resources(observed, kind.name)))
    if all(change.own for change in removed) and not _is_too_many_rows(len(names), total):
        return []
    return [f"{_rows(len(names), kind.name)} would be removed: {_listed(names)}"]


def _deactivations(kind: Kind, changes: Sequence[Change], managed: Mapping[str, Managed], observed: State) -> list[str]:
    going = [change for change in changes if _goes_off(kind, change)]
    if not going:
        return []
    names, removed = [change.key.name for change in going], [isinstance(change, Remove) for change in going]
    rows = [row for row in sorted_resources(observed, kind.name) if _is_on(kind, row)]
    if kind.active is None:
        said = f"{len(names)} of {_rows(len(rows), kind.name)} would be demoted: {_listed(names)}"
        return [said] if _is_too_many_rows(len(names), len(rows)) else []
    how = "removed" if all(removed) else "removed or deactivated" if any(removed) else "deactivated"
    of = f"{len(names)} of {_rows(len(rows), f'active {kind.name}')} would be {how}: {_listed(names)}"
    if kind.name in managed and not managed[kind.name].resources:
        return [f"the desired set of {kind.name} rows is empty; {of}"]
    if len(names) >= len(rows):
        return [f"all {kind.name} rows that are active would go; {of}"]
    return [of] if _is_too_many_rows(len(names), len(rows)) else []


def _is_too_many_rows(going: int, total: int) -> bool:
    return going > COUNT and going > SHARE * total


def _goes_off(kind: Kind, change: Change) -> bool:
    """Whether a row that counts before the change no longer counts after it, whether it is declared or not."""
    match change:
        case Create():
            return False
        case Remove():
            return kind.active is not None and _is_on(kind, change.observed)
        case Deactivate():
            return True
        case Update():
            return _is_on(kind, change.observed) and not _is_on(kind, change.desired)
        case _:
            assert_never(change)


def _is_on(kind: Kind, row: Resource) -> bool:
    rows = (row.fields, *row.twins)
    if kind.active is None:
        return any(fields.get("role") == "admin" for fields in rows)  # only administrators can be demoted
    return any(fields.get(kind.active) is not False for fields in rows)


def too_many_instances(names: Sequence[str], total: int, limit: str) -> str | None:
    """`--max-changed N|N%`: returns a sentence if more instances than that would change."""
    from reconciler.planning.rollout import share

    if len(names) <= share(limit, total):
        return None
    changed = f"{len(names)} of {total} instances would change: {_listed(names)}"
    return f"{changed}; that is more than --max-changed {limit} allows"


def _rows(number: int, of: str) -> str:
    return f"{number} {of} row{'s' * (number != 1)}"


def _listed(names: Sequence[str]) -> str:
    return first_of(sorted(names), MOST_NAMED)
