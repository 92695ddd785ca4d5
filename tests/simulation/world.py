"""A world of instances on virtual time: their databases, Connect and what goes wrong, all drawn from one seed.

The rules are the real ones (which check is recorded, which alerts are raised, what is locked): only what they read and
write is faked.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from reconciler.database.store import Writes
from reconciler.engine.alerts import find_check_alerts, report_check
from reconciler.engine.lone_check import is_due
from reconciler.engine.observe import refuse_lost_turn
from reconciler.engine.reports import build_failed_report
from reconciler.engine.run import Run
from reconciler.engine.status_check import build_cycle_result, check_to_record, failed_check, find_alerts
from reconciler.engine.writes import check_row
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import Busy, DatabaseError, Refused
from reconciler.model.secret import Secret
from reconciler.model.types import (
    CheckType,
    ConnectTarget,
    ConnectView,
    DatabaseSpec,
    Desired,
    EnvironmentSpec,
    ErrorInfo,
    InstanceStatus,
    Key,
    LastCheck,
    Origin,
    Resource,
    Snapshot,
)
from reconciler.planning.plan import build_plan
from reconciler.planning.report import CycleResult, InstanceReport
from reconciler.planning.status_check import KnownStatus, status_after

Fault = Literal["database", "busy", "refused", "slow", "fault", "unreachable", "429", "partial", "resolve"]
HIDES: frozenset[Fault] = frozenset({"database", "busy", "fault", "resolve", "slow"})
"""While one of these lasts, a cycle may record nothing."""
FAULTS: tuple[Fault, ...] = ("database", "busy", "refused", "slow", "fault", "unreachable", "429", "partial", "resolve")
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Check:
    at: float
    id: str
    check_type: CheckType
    success: bool
    status: str | None


@dataclass(slots=True)
class FakeInstance:
    """`statuses` and `faults` say what begins and ends when; the rest is its database."""

    name: str
    interval: float
    statuses: list[tuple[float, Literal["active", "suspended", "pending_payment"]]]
    faults: list[tuple[float, float, Fault]]
    suspend: bool = False
    version: int = 1
    made: Manifest | None = None
    row: dict[str, Any] | None = None
    checks: list[Check] = field(default_factory=list)
    usage: list[float] = field(default_factory=list)
    usage_ids: set[str] = field(default_factory=set)
    touched: list[float] = field(default_factory=list)
    begun: float = 0.0
    received: str | None = None

    def status(self, now: float) -> Literal["active", "suspended", "pending_payment"]:
        return self.statuses[bisect_right([at for at, _ in self.statuses], now) - 1][1]

    def fault(self, now: float) -> Fault | None:
        return next((what for begin, end, what in reversed(self.faults) if begin <= now < end), None)

    def manifest(self) -> Manifest:
        digest = f"{self.name} {self.version} {self.interval} {self.suspend}"
        if self.made is None or self.made.origin.digest != digest:
            document = {"config": {"check_interval_minutes": self.interval / 60}, "environment": {"name": "production"}}
            self.made = Manifest(self.name, {}, document, Origin(f"{self.name}.yaml", 1, digest), Path())
        return self.made

    def desired(self) -> Desired:
        return Desired(
            self.name,
            EnvironmentSpec("production"),
            DatabaseSpec(Secret("")),
            ConnectTarget("https://connect", Secret("key")),
            managed={},
            suspend=self.suspend,
        )

    def view(self, now: float) -> ConnectView:
        match self.fault(now):
            case "unreachable":
                return ConnectView(status_error=ErrorInfo("connect_unreachable", "nobody answers"))
            case "429":
                error = ErrorInfo("connect_unavailable", "too many requests")
                return ConnectView(status_error=error, retry_after_s=120.0)
            case "partial":
                status = InstanceStatus(self.name, self.status(now), "paid", {})
                return ConnectView(status, plans_error=ErrorInfo("connect_nonsense", "half a list"))
        return ConnectView(InstanceStatus(self.name, self.status(now), "paid", {}), response_time_ms=5)

    def snapshot(self, now: float) -> Snapshot:
        state = {}
        if self.row is not None:
            key = Key("status", self.name)
            state[key] = Resource(key, self.row, source="connect")
        own = self.checks[-1] if self.checks else None
        last = LastCheck(own.id, now - own.at, own.check_type, own.success) if own else None
        return Snapshot(
            1,
            state,
            owner=self.name,
            config_id="1",
            answered=self.row is not None,
            last_check=last,
            last_received=self.received,
        )


async def go_on() -> None:
    """The default pause: never holds the process back."""


@dataclass(slots=True)
class World:
    instances: dict[str, FakeInstance]
    chance: random.Random
    note: Callable[[FakeInstance, str], None] = lambda *_: None

    async def resolve(self, manifest: Manifest) -> Desired:
        one = self.instances[manifest.instance]
        if one.fault(now()) == "resolve":
            raise OSError("no such thing was foreseen")
        return one.desired()

    async def reconcile(
        self, desired: Desired, run: Run, pause: Callable[[], Awaitable[None]] = go_on
    ) -> InstanceReport:
        """`pause` returns when the process runs."""
        one, begun = self.instances[desired.instance], now()
        fault = one.fault(begun)
        await asyncio.sleep(200.0 if fault == "slow" and self.chance.random() < 0.5 else self.chance.uniform(0.01, 0.3))
        await pause()
        try:
            await refuse_lost_turn(run)
        except Busy as exc:
            return build_failed_report(desired, 0.0, exc)
        one.begun = begun
        match one.fault(now()):
            case "database":
                return build_failed_report(desired, 0.0, DatabaseError("away", code="database_unreachable"))
            case "busy":
                return build_failed_report(desired, 0.0, Busy("another run holds it"))
            case "fault":
                raise RuntimeError("no such thing was foreseen")
            case "refused":
                return self._refuse(one, desired, run)
        return self._apply(one, desired, run)

    def _apply(self, one: FakeInstance, desired: Desired, run: Run) -> InstanceReport:
        at = now()
        view, snapshot = one.view(at), one.snapshot(at)
        plan = build_plan(desired, view, snapshot, schema_version=1, today=run.today)
        check = check_to_record(desired, run, view, snapshot, plan)
        writes = Writes(run_id=run.id, check=check_row(check) if check else None)
        if not desired.suspend:
            for change in plan.changes:
                self._write(one, change)
        self._record(one, writes)
        alerts = find_alerts(desired, run, view, snapshot, plan, checked=check is not None, made=True)
        turned = build_cycle_result(desired, run, view, snapshot, plan, writes=writes, alerts=alerts)
        assert turned is not None
        turned = self._queue_usage(one, run, turned)
        error = view.status_error or view.plans_error
        outcome: Any = "skipped" if desired.suspend else "degraded" if error else "in_sync"
        report = InstanceReport(one.name, "production", outcome, 5, 5 if error else 0, view, plan, error=error)
        return replace(report, turned=turned)

    def _refuse(self, one: FakeInstance, desired: Desired, run: Run) -> InstanceReport:
        """Record the end of a run refused by a guard, and its check, as `reconcile` does."""
        at, turned = now(), None
        view = one.view(at)
        check = failed_check(desired, run, view)
        if check is not None:
            row = check_row(check)
            self._record(one, Writes(run_id=run.id, check=row))
            turned = self._tell(desired, run, view, row.id)
        if is_due(desired, run, view):
            turn = replace(run.turn, recorded=None) if run.turn else None  # that trouble is not over
            turned = self._apply(one, desired, replace(run, check_only=True, turn=turn)).turned
        return replace(build_failed_report(desired, 0.0, Refused("too many removals"), view), turned=turned)

    def _tell(self, desired: Desired, run: Run, view: ConnectView, check_id: str) -> CycleResult:
        """Report like `tell_failed_check`, whose alerts go to the database as well."""
        assert run.turn is not None
        before = run.turn.last_known or KnownStatus()
        after = status_after(before, view)
        alerts = find_check_alerts(run, desired, view, before, after)
        report_check(run, desired, view, alerts, checked=True)
        return CycleResult(standing=after, check_id=check_id, alerts=tuple(alert.name for alert in alerts))

    def _write(self, one: FakeInstance, change: Any) -> None:
        assert change.key.kind == "status"
        before = one.row or {}
        one.row = {**before, **(dict(change.resource.fields) if hasattr(change, "resource") else {})}
        for item in getattr(change, "fields", ()):
            one.row[item.field] = item.after

    def _record(self, one: FakeInstance, writes: Writes) -> None:
        if (row := writes.check) is not None:
            last = one.checks[-1] if one.checks else None
            news = last is None or (last.success, last.status) != (row.success, row.status_received)
            edited = last is not None and any(at >= last.at - 1 for at in one.touched)
            if row.check_type == "scheduled" and not news and not edited:
                self.note(one, "check")
            one.checks.append(Check(now(), row.id, row.check_type, row.success, row.status_received))
            one.received = row.status_received if row.success else one.received

    def _queue_usage(self, one: FakeInstance, run: Run, turned: CycleResult) -> CycleResult:
        if run.turn is None or not run.turn.report_usage or turned.checked_ago_s is not None:
            return turned
        if run.turn.usage_id is None or run.turn.usage_id not in one.usage_ids:  # ON CONFLICT DO NOTHING
            one.usage.append(now())
            self.note(one, "usage report")
        one.usage_ids.add(run.turn.usage_id or "")
        return replace(turned, usage_queued=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def utc_now() -> datetime:
    return datetime.fromtimestamp(now(), UTC)


class Size(Protocol):
    """`longest_s`: of a fault."""

    @property
    def days(self) -> float: ...
    @property
    def instances(self) -> int: ...
    @property
    def intervals(self) -> Sequence[float]: ...
    @property
    def longest_s(self) -> float: ...


MIXED = (300.0, 900.0, 3600.0, 86400.0)


def build_world(seed: int, start: float, shape: Size) -> World:
    """Half of a run's time is quiet for most instances, so that the rules without faults are tested too."""
    chance = random.Random(seed)
    length = shape.days * DAY
    instances = {}
    for number in range(shape.instances):
        name = f"i{number:03}"
        statuses: list[Any] = [(0.0, "active")]
        for _ in range(chance.randrange(4)):
            at = start + chance.uniform(0, length)
            statuses.append((at, chance.choice(["active", "suspended", "pending_payment"])))
        faults = [_draw_fault(chance, start, length, shape.longest_s) for _ in range(chance.randrange(6))]
        for begin, end, _ in tuple(faults):  # troubles follow one another, as they do in reality
            if chance.random() < 0.5:
                middle = (begin + end) / 2
                faults += [(middle, end, chance.choice(FAULTS)), (end, 2 * end - begin, chance.choice(FAULTS))]
        interval = chance.choice(shape.intervals)
        suspend = chance.random() < 0.1
        instances[name] = FakeInstance(name, interval, sorted(statuses), sorted(faults), suspend)
    at = start + chance.uniform(0, length / 2)
    outage: tuple[float, float, Fault] = at, at + chance.uniform(60, 7200), "unreachable"
    for one in instances.values():
        one.faults = sorted([*one.faults, outage])
    return World(instances, chance)


def _draw_fault(chance: random.Random, start: float, length: float, longest_s: float) -> tuple[float, float, Fault]:
    begin = start + chance.uniform(0, length * 0.8)
    return begin, begin + chance.choice([5.0, 60.0, 600.0, longest_s]) * chance.random(), chance.choice(FAULTS)
