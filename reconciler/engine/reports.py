"""The report of one instance: compared and applied, or ended by an error."""

from __future__ import annotations

import time
from collections.abc import Sequence

from reconciler.engine.secrets import build_bound
from reconciler.model.errors import FivrecError, Interrupted
from reconciler.model.types import ConnectView, Desired, ErrorInfo, OpenDrift
from reconciler.planning.plan import Plan
from reconciler.planning.report import BUSY, DONE, PARTLY, REFUSED, CycleResult, InstanceReport, Outcome
from reconciler.planning.status_check import problem

BESIDE = 2
"""Resources that every instance has in addition to the declared ones: its database and its schema."""


def build_report(
    desired: Desired,
    started: float,
    view: ConnectView,
    plan: Plan,
    *,
    open_drift: Sequence[OpenDrift] = (),
    turned: CycleResult | None = None,
) -> InstanceReport:
    """The report of an instance that was compared."""
    trouble = problem(view) if desired.connect else None
    outcome = "skipped" if desired.suspend else applied_outcome(desired, view, plan)
    code = DONE if trouble is None else PARTLY
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome=outcome,
        duration_ms=elapsed_ms(started),
        exit_code=code,
        connect=view if desired.connect else None,
        plan=plan,
        resources=BESIDE + sum(len(managed.resources) for managed in plan.managed.values()),
        error=trouble,
        digest=plan.digest(build_bound(desired)) if plan.changes else None,
        turned=turned,
        since={item.key: item.since for item in open_drift},
        **desired.origin.place,
    )


def applied_outcome(desired: Desired, view: ConnectView, plan: Plan) -> Outcome:
    if desired.connect and problem(view) is not None:
        return "degraded"
    return "changed" if plan.changes else "in_sync"


def failed_outcome(exc: FivrecError) -> Outcome:
    if isinstance(exc, Interrupted):
        return "skipped"
    if exc.exit_code == REFUSED:
        return "refused"
    return "busy" if exc.exit_code == BUSY else "failed"


def build_failed_report(
    desired: Desired, started: float, exc: FivrecError, view: ConnectView | None = None, plan: Plan | None = None
) -> InstanceReport:
    """The report of an instance whose work ended in a foreseen error."""
    outcome = failed_outcome(exc)
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome=outcome,
        duration_ms=elapsed_ms(started),
        exit_code=exc.exit_code,
        connect=view if desired.connect else None,
        plan=plan if outcome == "refused" else None,
        left=outcome == "refused",
        error=ErrorInfo.of(exc),
        **desired.origin.place,
    )


def elapsed_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
