"""Alerts: what a transition means, what is logged of it, and what waits in the instance's database until it is sent.

Stored apart from the run's transaction, read after a kill, marked when sent (docs/watch.md, Alerts).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.database.alert_outbox import mark_alerts_sent, read_alerts, write_alerts
from reconciler.engine.observe import build_scope, database
from reconciler.engine.run import CycleContext, Run
from reconciler.model.changes import Change
from reconciler.model.errors import FivrecError
from reconciler.model.names import first_of
from reconciler.model.types import ConnectView, Desired, ErrorInfo, Value
from reconciler.planning.alerts import Alert
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
    "drift_found": (Level.WARNING, "🔎 changed by somebody else, and left as it is"),
    "drift_repaired": (Level.WARNING, "🔧 changed by somebody else, and put back"),
    "fight": (Level.WARNING, "⚠️ somebody else keeps changing it back, so it is left alone"),
    "manifest_broken": (Level.ERROR, "❌ a manifest is broken; the last good one is kept if there is one"),
    "part_failed": (Level.ERROR, "❌ part of the service ended, and is started again"),
}
MOST_NAMED = 10
SETTLED_S = 60.0
"""A younger alert is about to be delivered by the process that stored it."""


def build_alert(run: Run, instance: str, name: AlertName, words: str = "", **fields: Value) -> Alert:
    """Build an alert. `words` are appended to the usual message."""
    level, usual = WORDS[name]
    named = {"run_id": run.id, "commit": run.actor.git_commit, **fields}
    said = f"{usual}: {words}" if words else usual
    return Alert(str(uuid.uuid4()), name, instance, level.name.lower(), said, run.now(), named)


def find_check_alerts(
    run: Run, desired: Desired, view: ConnectView, before: KnownStatus, after: KnownStatus
) -> tuple[Alert, ...]:
    """Returns an alert for each transition that a check found."""
    if desired.connect is None:
        return ()
    found = []
    for name in alerts(before, after):
        if name == "connect_unreachable" and view.status_error is None:
            continue
        words = recovery(before, after) if name == "recovered" else ""
        alert = build_alert(run, desired.instance, name, words, **received_fields(view))
        if name == "suspended" and not after.locked:
            why = "ignored" if desired.ignore else "the database refused it"
            why = "suspend: true" if desired.suspend else why
            said = f"⚠️ instance suspended at Fi.V Connect; access is not locked ({why})"
            alert = replace(alert, message=said)
        if name == "connect_unreachable" and view.status_error is not None:
            fields = {**alert.fields, "error": view.status_error.code}
            alert = replace(alert, message=f"❌ {view.status_error.message}", fields=fields)
        found.append(alert)
    return tuple(found)


def find_drift_alert(run: Run, desired: Desired, changes: Iterable[Change], *, made: bool) -> tuple[Alert, ...]:
    """Returns the alert for drift that this turn of `watch` repairs, or found and leaves. Drift that is left is
    reported only if the last turn did not report it."""
    if run.turn is None:
        return ()
    changes = tuple(changes)
    drift = sorted(str(change.key) for change in changes if change.cause == "drift")
    drift += [f"{change.key} (a new, empty one)" for change in changes if made and _is_loss(change, run.turn)][:1]
    if not drift or (not made and tuple(drift) == run.turn.alerted_drift):
        return ()
    name: AlertName = "drift_repaired" if made else "drift_found"
    return (build_alert(run, desired.instance, name, first_of(drift, MOST_NAMED)),)


def _is_loss(change: Change, turn: CycleContext) -> bool:
    """Whether this turn recreates the database or schema after earlier turns had recorded checks in it. Such a change
    has the cause `new`, because the records that would show the loss are gone with it."""
    return turn.own_check is not None and change.action == "create" and change.key.kind in ("database", "schema")


def with_recovery(run: Run, desired: Desired, found: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """Report that whatever kept the instance from being reconciled is over: in the `recovered` alert that was found, or
    else in an additional one."""
    trouble = run.turn.recorded if run.turn is not None else None
    if trouble is None:
        return found
    if any(alert.name == "recovered" for alert in found):
        return tuple(
            replace(alert, fields={**alert.fields, "was": trouble}) if alert.name == "recovered" else alert
            for alert in found
        )
    return (*found, build_alert(run, desired.instance, "recovered", over_words(trouble), was=trouble))


def is_outage_open(waiting: Sequence[Mapping[str, Value]]) -> bool:
    """Whether the newest of these alerts on whether Connect answers says that it doesn't."""
    names = [alert["alert"] for alert in waiting if alert["alert"] in ("connect_unreachable", "recovered")]
    return names[-1:] == ["connect_unreachable"]


def over_words(trouble: str) -> str:
    return f"reconciled again (it was {trouble})"


def find_failure_alert(run: Run, desired: Desired, error: FivrecError) -> tuple[Alert, ...]:
    """Returns an alert if the error is not the one that the previous turn reported."""
    if run.turn is None or run.turn.recorded == error.code:
        return ()
    name: AlertName = "not_converged" if error.code == "not_converged" else "failing"
    return (build_alert(run, desired.instance, name, ErrorInfo.of(error).words, error=error.code),)


def received_fields(view: ConnectView) -> dict[str, Value]:
    """Connect's answer as fields of an event."""
    status = view.status
    received: dict[str, Value] | None = None
    if status is not None:
        received = {"status": status.status, "billing_status": status.billing_status}
    elif view.received is not None:
        received = {"status": view.received}
    return {"received": received, "response_time_ms": view.response_time_ms}


def report_check(run: Run, desired: Desired, view: ConnectView, found: Sequence[Alert], *, checked: bool) -> None:
    lost = next((alert for alert in found if alert.name == "connect_unreachable"), None)
    if checked and desired.connect is not None:
        _say_check(run, desired, view, lost)
    for alert in found:
        if alert is not lost:  # the failed check was just logged
            say(run.log, alert)


def say(log: EventLog, alert: Alert) -> None:
    """Log an alert that was built; listeners of the log deliver it."""
    level = Level[alert.level.upper()]
    fields = {**alert.fields, **_id(alert)}
    log.event(level, "alert", alert.message, instance=alert.instance, alert=alert.name, **fields)


def say_alert(log: EventLog, name: AlertName, instance: str | None, words: str = "", **fields: Value) -> None:
    """Log an alert that is stored nowhere, because its subject has no database or the database can't be reached."""
    level, usual = WORDS[name]
    log.event(level, "alert", f"{usual}: {words}" if words else usual, instance=instance, alert=name, **fields)


def _id(alert: Alert) -> dict[str, Value]:
    return {"alert_id": alert.id} if alert.stored else {}


def _say_check(run: Run, desired: Desired, view: ConnectView, lost: Alert | None) -> None:
    common = {"check_type": run.check_type, **received_fields(view)}
    if view.status is not None:
        said = f"✅ status verified: {view.status.status}, {view.status.billing_status} ({view.response_time_ms} ms)"
        run.log.info("status_check", said, instance=desired.instance, success=True, **common)
    elif view.status_error is not None:
        fields: dict[str, Value] = {"alert": lost.name, **_id(lost)} if lost is not None else {}
        run.log.error(
            "status_check",
            f"❌ {view.status_error.message}",
            instance=desired.instance,
            success=False,
            error=view.status_error.code,
            **common,
            **fields,
        )


def as_stored(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    return tuple(replace(alert, stored=True) for alert in alerts)


async def store_alerts(desired: Desired, run: Run, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Store the alerts in a transaction of its own, best effort. Returns them, marked as stored if that worked."""
    if not alerts:
        return ()
    try:
        async with database(desired, run) as conn:
            await write_alerts(conn, build_scope(desired), alerts)
    except FivrecError:
        return tuple(alerts)
    return as_stored(alerts)


async def read_stored(desired: Desired, run: Run, *, young: bool) -> tuple[tuple[dict[str, Value], ...], str | None]:
    """Returns the alerts that wait for delivery, and the last reported trouble. `young`: even young ones, because the
    process that stored them may be gone, or delivers none."""
    async with database(desired, run) as conn:
        older_s = 0.0 if young else SETTLED_S
        return await read_alerts(conn, build_scope(desired), older_s=older_s)


async def mark_delivered(desired: Desired, run: Run, ids: Sequence[str]) -> None:
    async with database(desired, run) as conn:
        await mark_alerts_sent(conn, build_scope(desired), ids)
