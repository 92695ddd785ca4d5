"""What `watch` logs: turns that changed something or failed, fights, changes of manifests. Transitions are alerts.

A turn that changes nothing logs only the line of its status check.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.engine.alerts import over_words, received_fields, say, say_alert
from reconciler.engine.usage import Sent
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired, ErrorInfo, Value
from reconciler.planning.flapping import never_held
from reconciler.planning.report import InstanceReport
from reconciler.planning.status_check import AlertName, problem
from reconciler.support.log import EventLog, Level, counted
from reconciler.watch.instance_state import InstanceState, find_trouble

STUCK = 6
"""After so many failures in a row, some half a minute, the holder of the lock is hardly another run: any session in the
database can hold it for ever."""
STUCK_FOR_LONG = 12
"""After so many, 12 to 24 minutes if the interval is longer, it is an alert: no migration takes that long."""


def say_end(log: EventLog, one: InstanceState, report: InstanceReport, *, report_only: bool = False) -> None:
    """Log the end of a turn, and note its trouble. `report_only`: changes were found, but not made."""
    if report.outcome in ("changed", "degraded") and report.changes and not report_only:
        say_changes(log, report)
    if report_only:
        _say_found(log, one, report)
    _say_trouble_or_end(log, one, report)


def _say_trouble_or_end(log: EventLog, one: InstanceState, report: InstanceReport) -> None:
    if report.outcome == "busy" and report.error is not None:  # other trouble neither begins nor ends
        if one.failures >= STUCK_FOR_LONG and one.trouble is None:
            one.trouble = report.error.code
            _say_trouble(log, report, report.error, new=True)
            return
        level = Level.DEBUG if one.failures < STUCK else Level.WARNING
        said = f"⏳ {report.error.message}"
        log.event(level, "reconcile", said, instance=report.instance, error=report.error.code)
        return
    trouble, before = find_trouble(report), one.trouble
    one.trouble = trouble
    for alert in report.alerts:
        say(log, alert)
    if report.error is not None and trouble is not None:
        if not _is_told(report):
            _say_trouble(log, report, report.error, new=trouble != before)
        return
    status_error = report.connect.status_error if report.connect else None
    if report.error is not None and report.error != status_error:
        # The check itself has logged an unreadable status; this is about plans, or about work after the commit.
        log.warning("reconcile", f"⚠️ {report.error.message}", instance=report.instance, error=report.error.code)
    if before is not None and not _is_over_told(report):
        say_alert(log, "recovered", report.instance, over_words(before))


def _is_told(report: InstanceReport) -> bool:
    """Whether the trouble is already among the stored alerts."""
    return any(alert.name in ("failing", "not_converged") for alert in report.alerts)


def _is_over_told(report: InstanceReport) -> bool:
    """Whether the check's own `recovered` covers this trouble: after an incomplete answer it is only about Connect."""
    whole = report.connect is None or problem(report.connect) is None
    return whole and report.turned is not None and "recovered" in report.turned.alerts


def say_changes(log: EventLog, report: InstanceReport, operation: str = "reconcile") -> None:
    named = ", ".join(f"{change.key} {change.action} ({change.cause})" for change in report.changes)
    log.info(
        operation,
        f"🔧 {len(report.changes)} changed: {named}",
        instance=report.instance,
        changes=len(report.changes),
        duration_ms=report.duration_ms,
        **_received(report),
    )


def _received(report: InstanceReport) -> dict[str, Value]:
    return received_fields(report.connect) if report.connect is not None else {}


def _say_found(log: EventLog, one: InstanceState, report: InstanceReport) -> None:
    """Log the found changes once, and again when they differ; only plans can tell what would be changed."""
    if report.plan is None:
        return
    named = tuple(f"{change.key} {change.action} ({change.cause})" for change in report.changes)
    if named == one.found:
        return
    one.found = named
    if not named:
        log.info("reconcile", "✅ in sync again", instance=report.instance)
        return
    drift = sum(change.cause == "drift" for change in report.changes)
    said = f"🔎 {counted(len(named), 'change')} found and left ({drift} drift): {', '.join(named)}"
    log.warning("reconcile", said, instance=report.instance, changes=len(named), drift=drift)


def _say_trouble(log: EventLog, report: InstanceReport, error: ErrorInfo, *, new: bool) -> None:
    if not new:
        common = {"duration_ms": report.duration_ms, **_received(report)}
        log.error("reconcile", f"❌ {error.words}", instance=report.instance, error=error.code, **common)
        return
    name: AlertName = "not_converged" if error.code == "not_converged" else "failing"
    say_alert(log, name, report.instance, error.words, error=error.code)


def say_fights(log: EventLog, one: InstanceState, paths: Sequence[str]) -> None:
    for path in paths:
        if never_held(path):
            said = f"⚠️ somebody else keeps changing it, and it is corrected every time: {path}"
            log.event(Level.WARNING, "alert", said, instance=one.manifest.instance, alert="fight", field=path)
        else:
            say_alert(log, "fight", one.manifest.instance, path, field=path)


def say_peace(log: EventLog, one: InstanceState, paths: Sequence[str]) -> None:
    for path in paths:
        log.info("watch", f"🕊️ {path} is corrected again", instance=one.manifest.instance, field=path)


def say_usage(log: EventLog, desired: Desired, sent: Sent) -> None:
    if sent.problem is not None:
        said = f"⚠️ {counted(sent.waiting, 'usage report')} not sent yet: {sent.problem.message}"
        log.warning("usage", said, instance=desired.instance, error=sent.problem.code)
    elif sent.sent:
        log.info("usage", f"📊 {counted(sent.sent, 'usage report')} sent", instance=desired.instance, sent=sent.sent)


def say_manifests(log: EventLog, before: FivrecError | None, after: FivrecError | None) -> None:
    """Log that the manifests were read again."""
    if after is not None and (before is None or before.message != after.message):
        say_alert(log, "manifest_broken", None, after.message, error=after.code)
    elif after is None and before is not None:
        say_alert(log, "recovered", None, "the manifests are valid again")
