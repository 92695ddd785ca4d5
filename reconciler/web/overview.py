"""What the status page shows: an instance as a row of the fleet, and one instance in full. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import field, replace

from reconciler.database.status_queries import (
    CheckLog,
    HistoryFilter,
    LogFilter,
    StatusView,
    read_checks,
    read_history,
    read_status,
)
from reconciler.engine.batch import with_reason
from reconciler.engine.observe import build_scope, database, read_snapshot
from reconciler.engine.reconcile import preview
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import NEVER_APPLIED, is_unchecked, refuse_another_owner, verify_history
from reconciler.model.errors import DatabaseError, FivrecError, as_error
from reconciler.model.records import dataclass
from reconciler.model.types import ConnectPlan, Desired, ErrorInfo, Resource
from reconciler.planning.audit import AuditEntry
from reconciler.planning.audit_check import Chain
from reconciler.planning.report import InstanceReport

CHECKS = 60
HISTORY = 50
PATIENCE_S = 4.0
"""Seconds that a page waits for Connect, and for the audit chain to be verified."""


@dataclass(frozen=True, slots=True)
class Overview:
    """One row of the fleet. `view` is None if the instance was never applied, or could not be read (`error`). `checks`
    are newest first; `declared` is the environment in the manifest."""

    instance: str
    declared: str
    labels: Mapping[str, str]
    view: StatusView | None = None
    checks: tuple[CheckLog, ...] = ()
    error: ErrorInfo | None = None

    @property
    def environment(self) -> str:
        """The environment of the rows, if it is known."""
        return self.view.environment if self.view else self.declared


@dataclass(frozen=True, slots=True)
class Unserved:
    """A declared instance that can't be served now: something is missing, or its manifest is broken. `place` is its own
    file and line; `known` is enough to read its database, if that much is known."""

    overview: Overview
    place: tuple[str, int]
    known: Desired | None = None


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan in the database beside Connect's; None on the side that lacks it."""

    id: str
    ours: Resource | None
    connects: ConnectPlan | None

    @property
    def alike(self) -> bool:
        if self.ours is None or self.connects is None:
            return False
        ours = self.ours.fields
        return all(ours.get(name) == getattr(self.connects, name) for name in ("name", "price", "is_active"))


@dataclass(frozen=True, slots=True)
class Detail:
    """One instance in full. `diff` is None if it was not ready in time; so is `chain`. `unchecked`: its status was old
    when it was read."""

    overview: Overview
    diff: InstanceReport | None = None
    without_connect: bool = False
    history: tuple[AuditEntry, ...] = ()
    chain: Chain | None = None
    plans: tuple[PlanRow, ...] = field(default_factory=tuple)
    connect_error: ErrorInfo | None = None
    unchecked: bool = False

    @property
    def connect_silent(self) -> bool:
        """Connect's plans are unknown now, which is not the same as absent."""
        view = self.diff.connect if self.diff else None
        return view is None or view.plans is None


async def read_overview(desired: Desired, run: Run, *, with_checks: bool = True) -> Overview:
    """Read the fleet. Expected errors become part of it: one instance never prevents showing the others."""
    bare = Overview(desired.instance, desired.environment.name, desired.labels)
    try:
        async with database(desired, run) as conn:
            scope = build_scope(desired)
            view = await read_status(conn, scope)
            if view is None:
                await refuse_another_owner(conn, desired)
            wanted = LogFilter(limit=CHECKS)
            checks = await read_checks(conn, scope, wanted) if with_checks else ()
    except DatabaseError as exc:
        if exc.code in NEVER_APPLIED:
            return bare
        return replace(bare, error=ErrorInfo.of(exc))
    except Exception as exc:  # noqa: BLE001 (the others are shown, whatever it is)
        return replace(bare, error=ErrorInfo.of(as_error(exc)))
    return replace(bare, view=view, checks=checks)


async def read_detail(desired: Desired, run: Run) -> Detail:
    overview = await read_overview(desired, run)
    if overview.view is None:
        return Detail(overview, diff=await _preview(desired, run))
    (diff, alone), chain, (ours, history) = await asyncio.gather(
        _compared(desired, run), _chain(desired, run), _rows(desired, run)
    )
    view = diff.connect
    plans = _beside(ours, view.plans if view and view.plans else ())
    trouble = (view.status_error or view.plans_error) if view else None
    unchecked = is_unchecked(overview.view, run.now())
    return Detail(overview, diff, alone, history, chain, plans, trouble, unchecked)


async def _compared(desired: Desired, run: Run) -> tuple[InstanceReport, bool]:
    """The dry run; without Connect's part if Connect takes too long for a page."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _preview(desired, run), False
    except TimeoutError:
        return await _preview(replace(desired, connect=None), run), True


async def _preview(desired: Desired, run: Run) -> InstanceReport:
    return with_reason(await preview(desired, run), desired)


async def _chain(desired: Desired, run: Run) -> Chain | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await verify_history(desired, run, None)
    except (TimeoutError, FivrecError):
        return None


async def _rows(desired: Desired, run: Run) -> tuple[tuple[Resource, ...], tuple[AuditEntry, ...]]:
    """The plans in the database, and the newest audit entries."""
    scope = build_scope(desired)
    try:
        async with database(desired, run) as conn:
            snapshot = await read_snapshot(conn, scope)
            history = await read_history(conn, scope, HistoryFilter(limit=HISTORY))
    except FivrecError:
        return (), ()
    return tuple(row for key, row in sorted(snapshot.state.items()) if key.kind == "plan"), history


def _beside(ours: tuple[Resource, ...], connects: tuple[ConnectPlan, ...]) -> tuple[PlanRow, ...]:
    here, there = {row.key.name: row for row in ours}, {plan.id: plan for plan in connects}
    return tuple(PlanRow(name, here.get(name), there.get(name)) for name in sorted(here.keys() | there.keys()))
