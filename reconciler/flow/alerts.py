"""What a status check says on stderr: verified, or an alert on a transition (CONTRACT: Logs and alerts)."""

from __future__ import annotations

from reconciler.adapters.log import Level
from reconciler.core.checks import AlertName, alerts, standing_after, standing_of
from reconciler.core.model import ConnectView, Desired, Snapshot
from reconciler.flow.run import Run

WORDS: dict[AlertName, tuple[Level, str]] = {
    "suspended": (Level.WARNING, "⚠️ instance suspended: access is locked"),
    "payment_pending": (Level.WARNING, "💰 payment pending"),
    "overdue": (Level.WARNING, "💰 payment overdue"),
    "connect_unreachable": (Level.ERROR, "❌ Fi.V Connect cannot be asked"),
    "recovered": (Level.INFO, "✅ recovered"),
    "not_converged": (Level.ERROR, "❌ not converged"),
}


def report_check(run: Run, desired: Desired, view: ConnectView, snapshot: Snapshot) -> tuple[AlertName, ...]:
    """Log the check, then an alert for each transition. Gives the alerts, for those who send them on."""
    if desired.connect is None:
        return ()
    reachable = snapshot.last_check is None or snapshot.last_check.success
    before = standing_of(snapshot.state, heard=snapshot.heard, reachable=reachable)
    after = standing_after(before, view)
    if view.status is not None:
        said = f"{view.status.status}, {view.status.billing_status}"
        run.log.info(
            "status_check",
            f"✅ status verified: {said} ({view.response_time_ms} ms)",
            instance=desired.instance,
            success=True,
            check_type=run.check_type,
            received=view.status.status,
            response_time_ms=view.response_time_ms,
        )
    elif view.status_error is not None:
        run.log.error(
            "status_check",
            f"❌ {view.status_error.message}",
            instance=desired.instance,
            success=False,
            check_type=run.check_type,
            received=view.received,
            response_time_ms=view.response_time_ms,
            error=view.status_error.code,
        )
    found = tuple(name for name in alerts(before, after) if name != "connect_unreachable" or view.status_error)
    for name in found:
        if name == "connect_unreachable":
            continue  # the failed check itself was just said
        level, words = WORDS[name]
        run.log.event(level, "alert", words, instance=desired.instance, alert=name)
    return found
