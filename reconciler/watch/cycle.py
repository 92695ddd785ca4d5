"""One turn of one instance, for `watch` and for the fleet's workers: resolve secrets, call `reconcile`, judge the
result.

Knows no queue: the caller decides whose turn it is, and when the next one is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import field, replace
from typing import Protocol

from reconciler.engine.alerts import (
    build_alert,
    is_outage_open,
    mark_delivered,
    over_words,
    read_stored,
    say,
    store_alerts,
)
from reconciler.engine.batch import One, run_within
from reconciler.engine.databases import find_database_problems, unread
from reconciler.engine.reconcile import reconcile
from reconciler.engine.retention import Keep, prune
from reconciler.engine.run import Mine, Run
from reconciler.engine.usage import send_waiting
from reconciler.manifest.loader import Manifest
from reconciler.model.errors import FivrecError
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, Desired, ErrorInfo
from reconciler.planning.report import InstanceReport
from reconciler.support.log import EventLog
from reconciler.support.postgres_url import one_environment
from reconciler.watch import messages as words
from reconciler.watch.instance_state import InstanceState

PRUNE_S = 3600.0
LOOK_S = 6 * 3600.0
"""Seconds between looks at what Connect knows of the database: backups are made once a day."""


class LostTurn(Exception):
    """Raised when the turn belongs to another worker by now: its result must not be reported."""


class Observer(Protocol):
    """Receives the result of each turn; the metrics are one."""

    def turn_ended(self, report: InstanceReport, check_type: CheckType) -> None: ...
    def usage_sent(self, sent: int, *, failed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """`resolve` returns a manifest with its secrets and real URLs, at each turn; it may raise FivrecError. `clock` is
    the clock of the instances' times. `apply` reconciles one instance; a simulation passes its own. `commit` returns
    the manifests' commit now; without it, the run's counts."""

    resolve: Callable[[Manifest], Awaitable[Desired]]
    run: Run
    check_only: bool = False
    keep: Keep = field(default_factory=Keep)
    observer: Observer | None = None
    clock: Callable[[], float] = time.monotonic
    apply: One = reconcile
    commit: Callable[[], str | None] | None = None

    async def turn(
        self,
        one: InstanceState,
        ended: Callable[[InstanceReport], None],
        *,
        mine: Mine | None = None,
    ) -> InstanceReport:
        """Run one turn. `ended` is called with the report before the follow-up work: usage reports, retention. Raises
        LostTurn if the turn is not `mine` any more, or nobody can say."""
        check_type, run_id = one.check_type, str(uuid.uuid4())
        actor = replace(self.run.actor, git_commit=self.commit()) if self.commit else self.run.actor
        log = self.run.log.bind(run_id=run_id, commit=actor.git_commit)
        turn = replace(one.begin(self.clock()), mine=mine)
        day = self.run.now().date()
        run = replace(self.run, id=run_id, actor=actor, day=day, check_type=check_type, turn=turn, log=log)
        first = not one.started
        report, desired = await self._reconcile(one, run)
        if mine is not None and not await mine():
            raise LostTurn
        self.end(one, report, check_type, log)
        ended(report)
        if desired is not None:
            await self._take_stored(one, desired, run, report, first=first)
            await self._afterwards(one, desired, run, report)
        return report

    def end(
        self, one: InstanceState, report: InstanceReport, check_type: CheckType, log: EventLog | None = None
    ) -> None:
        """Log the end of a turn, and set when the next one is due."""
        now, log = self.clock(), log or self.run.log
        one.due = one.end(report, now)
        words.say_end(log, one, report, report_only=self.run.report_only)
        if report.plan is not None and not self.run.report_only:
            if report.outcome in ("changed", "degraded"):  # a suspended manifest corrects nothing
                words.say_fights(log, one, one.fights.corrected(report.plan, now))
            words.say_peace(log, one, one.fights.seen(report.plan, now))
        if self.observer is not None:
            self.observer.turn_ended(report, check_type)

    async def _reconcile(self, one: InstanceState, run: Run) -> tuple[InstanceReport, Desired | None]:
        started = time.monotonic()
        with one_environment():
            try:
                desired = await self.resolve(one.manifest)
            except FivrecError as exc:
                return build_unresolved_report(one.manifest, exc, started), None
            if ignores := one.fights.ignores():
                desired = replace(desired, ignore=(*desired.ignore, *ignores))
            if self.check_only:
                lacks = desired.lacks if desired.connect is None else None  # a check needs no more than a key
                desired, run = replace(desired.without_declarations(), lacks=lacks), replace(run, check_only=True)
            return await run_within(self.apply, desired, run, started), desired

    async def _take_stored(
        self, one: InstanceState, desired: Desired, run: Run, report: InstanceReport, *, first: bool
    ) -> None:
        """Hand alerts that were stored but not delivered to the receivers, and report the end of a trouble from before
        the start, or of an outage that only runs by hand met."""
        if run.stored_alerts is None:
            return
        turned = report.turned
        try:
            async with asyncio.timeout(run.timeout_s):
                young = first or (turned is not None and turned.told_by_hand)
                waiting, trouble = await read_stored(desired, run, young=young)
                run.stored_alerts(waiting)
                if first and one.started and trouble is not None and one.trouble is None:
                    await self._tell_over(desired, run, report, trouble)
                if turned is not None and turned.standing.reachable and is_outage_open(waiting):
                    over = build_alert(run, desired.instance, "recovered", "Fi.V Connect answers again")
                    say(run.log, *await store_alerts(desired, run, (over,)))
        except (FivrecError, TimeoutError):
            return  # the turn itself logged what is wrong with the database

    async def _tell_over(self, desired: Desired, run: Run, report: InstanceReport, trouble: str) -> None:
        over = build_alert(run, desired.instance, "recovered", over_words(trouble), was=trouble)
        (alert,) = await store_alerts(desired, run, (over,))
        if report.turned is not None and "recovered" in report.turned.alerts:
            await mark_delivered(desired, run, (alert.id,))  # the check reported it
        else:
            say(run.log, alert)

    async def _afterwards(self, one: InstanceState, desired: Desired, run: Run, report: InstanceReport) -> None:
        """Work that need not be part of the transaction: waiting usage reports, the list of databases, and old rows."""
        try:
            answered = report.connect is not None and report.connect.status is not None
            if desired.usage_report and answered and not self.check_only:
                await self._send_usage(desired, run)
            if self.observer is not None and answered and self.clock() >= one.next_look:
                await self._look_at_database(one, desired, run)
            if self.keep and not desired.suspend and self.clock() >= one.next_prune:
                await self._prune(one, desired, run)
        except FivrecError as exc:
            run.log.warning("watch", f"⚠️ {exc.message}", instance=desired.instance, error=exc.code)
        except TimeoutError:
            run.log.warning(
                "watch", "⚠️ usage, databases and retention took too long", instance=desired.instance, error="timeout"
            )

    async def _send_usage(self, desired: Desired, run: Run) -> None:
        async with asyncio.timeout(run.timeout_s):
            sent = await send_waiting(desired, run)
        words.say_usage(run.log, desired, sent)
        if self.observer is not None:
            self.observer.usage_sent(sent.sent, failed=sent.problem is not None)

    async def _look_at_database(self, one: InstanceState, desired: Desired, run: Run) -> None:
        """Used by the metrics only."""
        one.next_look = self.clock() + LOOK_S
        try:
            async with asyncio.timeout(run.timeout_s):
                found = await find_database_problems(desired, run)
        except FivrecError as exc:  # not a reason to keep old rows
            run.log.warning("watch", f"⚠️ {unread(exc)}", instance=desired.instance, error=exc.code)
            return
        one.database_problems = None if found is None else frozenset(found)

    async def _prune(self, one: InstanceState, desired: Desired, run: Run) -> None:
        async with asyncio.timeout(run.timeout_s):
            more = await prune(desired, run, self.keep)
        one.next_prune = self.clock() + (0 if more else PRUNE_S)


def build_unresolved_report(manifest: Manifest, exc: FivrecError, started: float) -> InstanceReport:
    problem = ErrorInfo.of(exc)
    took = round((time.monotonic() - started) * 1000)
    return replace(build_not_done_report(manifest, problem), exit_code=exc.exit_code, duration_ms=took)


def build_not_done_report(manifest: Manifest, problem: ErrorInfo) -> InstanceReport:
    environment = manifest.document["environment"]["name"]
    return InstanceReport(manifest.instance, environment, "failed", 0, exit_code=1, error=problem)
