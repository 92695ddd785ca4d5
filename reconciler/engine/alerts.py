"""What a status check says on stderr: verified, or an alert on a transition (CONTRACT: Logs and alerts)."""

from __future__ import annotations

from reconciler.engine.run import Run
from reconciler.model.types import ConnectView, Desired, Value
from reconciler.planning.status_check import AlertName, KnownStatus, alerts, recovery
from reconciler.support.log import EventLog, Level

WORDS: dict[AlertName, tuple[Level, str]] = {
    "suspended": (Level.WARNING, "⚠️ instance suspended: access is locked"),
    "payment_pending": (Level.WARNING, "💰 payment pending"),
    "overdue": (Level.WARNING, "💰 payment overdue"),
    "connect_unreachable": (Level.ERROR, "❌ Fi.V Connect cannot be asked"),
    "recovered": (Level.INFO, "✅ recovered"),
    "not_converged": (Level.ERROR, "❌ not converged"),
    "failing": (Level.ERROR, "❌ cannot be reconciled"),
    "fight": (Level.WARNING, "⚠️ somebody else keeps changing it back, so it is left alone"),
    "manifest_broken": (Level.ERROR, "❌ a manifest is broken, so the last good one stays"),
    "part_failed": (Level.ERROR, "❌ part of the service ended, and is started again"),
}


def report_check(
    run: Run, desired: Desired, view: ConnectView, before: KnownStatus, after: KnownStatus
) -> tuple[AlertName, ...]:
    """Log the check, then an alert for each transition. Gives the alerts, for those who send them on."""
    if desired.connect is None:
        return ()
    found = tuple(name for name in alerts(before, after) if name != "connect_unreachable" or view.status_error)
    _say_check(run, desired, view, lost="connect_unreachable" in found)
    for name in found:
        if name != "connect_unreachable":  # the failed check itself was just said
            _say_transition(run.log, name, desired, before, after)
    return found


def _say_transition(log: EventLog, name: AlertName, desired: Desired, before: KnownStatus, after: KnownStatus) -> None:
    if name == "suspended" and not after.locked:
        level, _ = WORDS[name]
        why = "suspend: true" if desired.suspend else "ignored"
        said = f"⚠️ instance suspended at Fi.V Connect; access is not locked ({why})"
        log.event(level, "alert", said, instance=desired.instance, alert=name)
    else:
        say_alert(log, name, desired.instance, recovery(before, after) if name == "recovered" else "")


def say_alert(log: EventLog, name: AlertName, instance: str | None, words: str = "", **fields: Value) -> None:
    """An alert, as a log line that listeners send on. `words` say more than the usual ones."""
    level, usual = WORDS[name]
    log.event(level, "alert", f"{usual}: {words}" if words else usual, instance=instance, alert=name, **fields)


def _say_check(run: Run, desired: Desired, view: ConnectView, *, lost: bool) -> None:
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
            **({"alert": "connect_unreachable"} if lost else {}),
        )
