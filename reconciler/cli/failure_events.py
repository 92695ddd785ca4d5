"""How instances ended, as events of a JSON log. On a console the results say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.engine.run import Run
    from reconciler.model.types import ErrorInfo, Value
    from reconciler.planning.report import InstanceReport

Heard = Callable[["InstanceReport"], None]


def say_failure(run: Run, instance: str, error: ErrorInfo | None, **more: Value) -> None:
    """One event, if the log is JSON and there is an error."""
    if error is None or run.log.format != "json":
        return
    said = {"error": error.code, "hint": error.hint or None, **more}
    run.log.error(run.command, error.message, instance=instance, success=False, **said)


def find_failures(run: Run, then: Heard) -> Heard:
    """Takes each report as it ends: logs what failed, and what a run changed, then calls `then`. A failed status check,
    which the run itself logged, is not logged again."""
    if run.log.format != "json":
        return then
    from reconciler.watch.messages import say_changes

    known: set[tuple[Value, Value]] = set()

    def note(event: dict[str, Value]) -> None:
        if event["level"] == "error":  # the log may drop events of lower levels
            known.add((event["instance"], event.get("error")))

    run.log.listeners.append(note)

    def tell(report: InstanceReport) -> None:
        if report.changes and report.outcome in ("changed", "degraded") and not run.dry and not run.check_only:
            say_changes(run.log, report, run.command)
        if report.error is not None and (report.instance, report.error.code) not in known:
            say_failure(run, report.instance, report.error, outcome=report.outcome, duration_ms=report.duration_ms)
        then(report)

    return tell
