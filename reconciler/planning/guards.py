"""The guards: what an apply refuses unless the digest of exactly this plan is accepted. Pure.

They count, and never switch off below a size: a small set can be emptied as well as a large one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.model.changes import Change, Deactivate, Remove, Update
from reconciler.model.kinds import KINDS, development_rows
from reconciler.model.kinds.base import Kind
from reconciler.model.types import Managed, State
from reconciler.planning.diff import sorted_resources
from reconciler.planning.plan import Plan, touches

SHARE = 0.2
"""More than this share of a kind deactivated is refused …"""
COUNT = 2
"""… where it is also more than this many."""


def refusals(plan: Plan, observed: State) -> tuple[str, ...]:
    """A sentence for each thing that a guard refuses, in the order of the kinds; empty where all is let through."""
    found: list[str] = []
    for change in plan.changes:
        if change.key.kind == "environment" and touches(change, "name"):
            before, after = next((f.before, f.after) for f in change.fields if f.field == "name")
            words = f"{change.key} would change from {before} to {after}"
            found.append(f"{words}; of its rows only the declared administrator's moves along")
    for kind in KINDS:
        of_kind = tuple(change for change in plan.changes if change.key.kind == kind.name)
        if kind.name not in plan.managed or not plan.managed[kind.name].consented:
            found += _removals(of_kind)
        if kind.active is not None:
            found += _deactivations(kind, of_kind, plan.managed, observed)
    return tuple(found)


def _removals(changes: Sequence[Change]) -> list[str]:
    removed = [change for change in changes if isinstance(change, Remove)]
    names = [change.key.name for change in removed]
    if not names:
        return []
    if changes[0].key.kind == development_rows.NAME:
        counts = [f"{change.key.name} {change.observed.fields['rows']}" for change in removed]
        total = sum(change.observed.fields["rows"] for change in removed)
        return [f"{total} development row(s) would be deleted: {_listed(counts)}"]
    return [f"{len(names)} {changes[0].key.kind} row(s) would be removed: {_listed(names)}"]


def _deactivations(kind: Kind, changes: Sequence[Change], managed: Mapping[str, Managed], observed: State) -> list[str]:
    assert kind.active is not None  # noqa: S101 (the caller's condition, for the type checker)
    names = [change.key.name for change in changes if _goes_off(kind.active, change)]
    if not names:
        return []
    rows = [row for row in sorted_resources(observed, kind.name) if row.fields.get(kind.active) is not False]
    of = f"{len(names)} of {len(rows)} active {kind.name} row(s) would be deactivated: {_listed(names)}"
    if kind.name in managed and not managed[kind.name].resources:
        return [f"the desired set of {kind.name} rows is empty; {of}"]
    if len(names) >= len(rows):
        return [f"all {kind.name} rows that are active would go; {of}"]
    if len(names) > COUNT and len(names) > SHARE * len(rows):
        return [of]
    return []


def _goes_off(active: str, change: Change) -> bool:
    """By omission, by Connect's word or by the manifest's: one variable can switch off every row by its name.

    What a manifest had switched off and somebody switched on is only put back.
    """
    match change:
        case Deactivate():
            return True
        case Update(source="manifest", cause="drift"):
            return False
        case Update():
            return any(item.field == active and item.after is False for item in change.fields)
        case _:
            return False


def too_many(names: Sequence[str], total: int, limit: str) -> str | None:
    """`--max-changed N|N%`: a sentence where more instances than that would change."""
    from reconciler.planning.rollout import share

    if len(names) <= share(limit, total):
        return None
    changed = f"{len(names)} of {total} instances would change: {_listed(names)}"
    return f"{changed}; that is more than --max-changed {limit} allows"


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
