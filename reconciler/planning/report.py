"""A run's report: outcomes of instances, the summary, the exit code (schemas/report.v1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from reconciler.model.changes import Change, Conflict, Former
from reconciler.model.errors import ManifestProblem
from reconciler.model.records import dataclass
from reconciler.model.types import ConnectView, ErrorInfo, Key, Value, rfc3339
from reconciler.planning.plan import Plan, change_as_json
from reconciler.planning.status_check import AlertName, KnownStatus

if TYPE_CHECKING:
    from reconciler.planning.alerts import Alert
    from reconciler.planning.pull import Drift
    from reconciler.planning.three_way_view import Explained

Outcome: TypeAlias = Literal["in_sync", "changed", "degraded", "failed", "refused", "busy", "skipped"]

DONE, FAILED, CHANGES, REFUSED, BUSY, PARTLY = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What a turn of `watch` leaves for the next: the check it recorded, or the age of the one that another watch has
    just recorded; what is known about the instance; and the alerts that were due. `told_by_hand`: a run by hand stored
    the alert for what this turn found."""

    standing: KnownStatus
    check_id: str | None = None
    checked_ago_s: float | None = None
    alerts: tuple[AlertName, ...] = ()
    usage_queued: bool = False
    told_by_hand: bool = False


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """How one instance ended. `resources` counts those that are in order; `exit_code` is the instance's own.

    `digest` identifies its plan; `audit_head` is the hash of the newest audit entry after an apply. `attempted` is
    false if the instance was left alone: it counts neither as done nor as failed. `since`: when a recording run first
    saw drift that is still there. `left`: changes were found but not made (suspended, reported only, refused). `alerts`
    are those of a failure, not logged yet. `row`: the instance's line in a fleet's CSV file.
    """

    instance: str
    environment: str
    outcome: Outcome
    duration_ms: int
    exit_code: int = DONE
    connect: ConnectView | None = None
    plan: Plan | None = None
    resources: int = 0
    error: ErrorInfo | None = None
    digest: str | None = None
    audit_head: str | None = None
    notes: tuple[str, ...] = ()
    path: str = ""
    line: int = 0
    row: str = ""
    turned: CycleResult | None = None
    attempted: bool = True
    explained: Explained | None = None
    since: Mapping[Key, datetime] = field(default_factory=dict)
    drift: Drift | None = None
    left: bool = False
    alerts: tuple[Alert, ...] = ()

    @property
    def drift_left(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if self.left and change.cause == "drift")

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.plan.changes if self.plan else ()

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return self.plan.conflicts if self.plan else ()

    @property
    def former(self) -> tuple[Former, ...]:
        return self.plan.former if self.plan else ()


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `error` is the error of the whole run, before any instance was tried; `problems` are its places,
    `lacking` the places of what is missing, which `error` lists in one paragraph. `digest` identifies the plans of all
    instances that a dry run would change."""

    command: str
    run_id: str
    started_at: datetime
    duration_ms: int
    instances: tuple[InstanceReport, ...] = ()
    error: ErrorInfo | None = None
    problems: tuple[ManifestProblem, ...] = ()
    lacking: tuple[ManifestProblem, ...] = ()
    digest: str | None = None


def as_json(report: Report) -> dict[str, Value]:
    """Returns the report as schemas/report.v1.schema.json defines it."""
    return {
        "version": 1,
        "command": report.command,
        "run_id": report.run_id,
        "started_at": rfc3339(report.started_at, "auto"),
        "duration_ms": report.duration_ms,
        "summary": _summary(report.instances),
        "instances": [instance_as_json(item) for item in report.instances],
        **({"digest": report.digest} if report.digest else {}),
        "error": _run_error(report),
    }


def exit_code(instances: Sequence[InstanceReport], *, diff: bool = False, strict: bool = False) -> int:
    """Returns the run's exit code (docs/reference/exit-codes.md). `strict`: conflicts and former resources fail it."""
    codes = [_own_code(item, diff=diff, strict=strict) for item in instances if item.attempted]
    if diff:
        return _diff_code(codes)
    distinct = set(codes)
    if not distinct:
        return DONE
    if len(distinct) == 1:
        return distinct.pop()
    return PARTLY if DONE in distinct or PARTLY in distinct else FAILED


def _own_code(item: InstanceReport, *, diff: bool, strict: bool) -> int:
    if strict and (item.conflicts or item.former) and item.exit_code in (DONE, PARTLY):
        return FAILED
    if diff and item.exit_code == DONE and item.changes:
        return CHANGES
    return item.exit_code


def _diff_code(codes: Sequence[int]) -> int:
    """`diff` ranks failed, partly, changes: what could not be compared counts more than what differs."""
    distinct = set(codes)
    if distinct <= {DONE, CHANGES}:
        return CHANGES if CHANGES in distinct else DONE
    if len(distinct) == 1:
        return distinct.pop()
    failed = distinct - {DONE, CHANGES, PARTLY}
    if len(failed) == len(distinct):
        return FAILED
    return FAILED if FAILED in distinct else PARTLY


def _summary(instances: Sequence[InstanceReport]) -> dict[str, Value]:
    outcomes = [item.outcome for item in instances]
    return {
        "instances": len(instances),
        **{outcome: outcomes.count(outcome) for outcome in get_args(Outcome)},
        "changes": sum(len(item.changes) for item in instances),
        "conflicts": sum(len(item.conflicts) for item in instances),
        "causes": {
            cause: sum(change.cause == cause for item in instances for change in item.changes)
            for cause in ("new", "intent", "drift")
        },
        "former": sum(len(item.former) for item in instances),
    }


def shown_former(item: Former) -> dict[str, Value]:
    """Returns a former resource as reports, the last run and pages show it."""
    return {"kind": item.key.kind, "name": item.key.name, "run_id": item.run_id, "at": rfc3339(item.at)}


def _explained(explained: Explained | None) -> dict[str, Value]:
    if explained is None:
        return {}
    from reconciler.planning.three_way_view import as_json

    return {"explained": as_json(explained)}


def instance_as_json(item: InstanceReport) -> dict[str, Value]:
    return _explained(item.explained) | {
        "instance": item.instance,
        "environment": item.environment,
        **({"row": item.row} if item.row else {}),
        "outcome": item.outcome,
        "duration_ms": item.duration_ms,
        "connect": _connect(item.connect),
        "changes": [_change(change, item.since) for change in item.changes],
        "conflicts": [_conflict(conflict) for conflict in item.conflicts],
        "former": [shown_former(former) for former in item.former],
        "accepted": _accepted(item.plan),
        "digest": item.digest,
        "audit_head": item.audit_head,
        "notes": list(item.notes),
        "error": _problem(item.error),
    }


def _change(change: Change, since: Mapping[Key, datetime]) -> dict[str, Value]:
    known = since.get(change.key) if change.cause == "drift" else None
    return change_as_json(change) if known is None else {**change_as_json(change), "since": rfc3339(known)}


def _connect(view: ConnectView | None) -> dict[str, Value] | None:
    if view is None:
        return None
    return {
        "status": view.status.status if view.status else None,
        "billing_status": view.status.billing_status if view.status else None,
        "response_time_ms": view.response_time_ms,
    }


def _conflict(conflict: Conflict) -> dict[str, Value]:
    return {
        "kind": conflict.key.kind,
        "name": conflict.key.name,
        "field": conflict.field,
        "expected": conflict.expected,
        "observed": conflict.observed,
    }


def _accepted(plan: Plan | None) -> list[dict[str, Value]]:
    return [
        {
            "kind": item.key.kind,
            "name": item.key.name,
            "field": item.field,
            "reason": item.reason,
            **({"until": item.until.isoformat()} if item.until else {}),
        }
        for item in (plan.accepted if plan else ())
    ]


def _problem(problem: ErrorInfo | None) -> dict[str, Value] | None:
    return {**problem.as_json()} if problem else None


def _run_error(report: Report) -> dict[str, Value] | None:
    shown_error = _problem(report.error)
    places = report.problems or report.lacking
    if shown_error is not None and places:
        shown_error["problems"] = [asdict(problem) for problem in places]
    return shown_error
