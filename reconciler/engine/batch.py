"""Run many instances, a bounded number at a time. Each has its own outcome; a failure never stops the others."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace

from reconciler.engine.reports import build_failed_report
from reconciler.engine.run import Run
from reconciler.engine.status_check import timed_out, unforeseen
from reconciler.model.errors import Interrupted
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport

One = Callable[[Desired, Run], Awaitable[InstanceReport]]
Done = Callable[[InstanceReport], None]


STOPPED = "the run was stopped by a signal"
SUSPENDED = "suspend: true in the manifest: nothing is changed"
STOPPING = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 3.0
"""Seconds after which a cancelled task is cancelled again: a driver that waits for a silent server gives up then."""


def _nobody(_: int) -> None:
    return


@dataclass(slots=True)
class Stop:
    """The signal that asked the run to stop; 0 if none did. `note` is called with it."""

    note: Callable[[int], None] = _nobody
    signal: int = 0
    tasks: set[asyncio.Task[InstanceReport]] = field(default_factory=set)

    def ask(self, number: int) -> None:
        """Cancel the running tasks, repeatedly until they have ended."""
        self.signal = self.signal or number
        self.note(self.signal)
        for task in self.tasks:
            task.cancel()
        asyncio.get_running_loop().call_later(AGAIN_S, self.ask, number)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Handle SIGINT and SIGTERM here, and restore the previous handlers afterwards."""
        loop = asyncio.get_running_loop()
        before = {}
        for number in STOPPING:
            former = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, self.ask, int(number))
            except (NotImplementedError, RuntimeError, ValueError):
                break  # not the main thread: the caller handles signals
            before[number] = former
        try:
            yield
        finally:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, before)
            await asyncio.sleep(0)  # signals that arrived until now are handled
            for number, former in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, former)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def as_kept(report: InstanceReport) -> InstanceReport:
    """The report without the compared snapshot and Connect's plans: no output shows them, and they are most of the
    memory of a thousand reports."""
    plan, view = report.plan, report.connect
    return replace(report, plan=plan and replace(plan, managed={}), connect=view and replace(view, plans=None))


def with_reason(report: InstanceReport, desired: Desired) -> InstanceReport:
    """The report, with a note if nothing was changed because the manifest suspends the instance."""
    if not desired.suspend or report.outcome != "skipped" or not report.attempted:
        return report
    return replace(report, notes=(SUSPENDED, *report.notes))


async def run_many(
    desired: Sequence[Desired], run: Run, one: One, *, forks: int, stop: Stop, done: Done | None = None
) -> tuple[InstanceReport, ...]:
    """Returns the instances' reports in the given order. Calls `done` with each as it ends.

    `stop` cancels running instances: their transactions roll back and their reports say interrupted. Instances that
    have not begun by then are skipped.
    """
    places = asyncio.Semaphore(max(1, forks))

    async def bounded(item: Desired) -> InstanceReport:
        started: float | None = None
        try:
            async with places:
                started = time.monotonic()
                report = await run_within(one, item, run, started)
        except asyncio.CancelledError:
            report = interrupted(item, started)
        return told(with_reason(as_kept(report), item))

    def interrupted(item: Desired, started: float | None) -> InstanceReport:
        if started is None:
            return not_attempted(item, STOPPED)
        return build_failed_report(item, started, Interrupted(stop.signal or signal.SIGINT))

    def told(report: InstanceReport) -> InstanceReport:
        if done is not None:
            done(report)
        return report

    def end_of(task: asyncio.Task[InstanceReport], item: Desired) -> InstanceReport:
        # A task that is cancelled before its first step can't report its own cancellation.
        return told(interrupted(item, None)) if task.cancelled() else task.result()

    stop.tasks = {asyncio.create_task(bounded(item), name=item.instance) for item in desired}
    by_name = {task.get_name(): task for task in stop.tasks}
    if stop.signal:
        stop.ask(stop.signal)
    await asyncio.gather(*stop.tasks, return_exceptions=True)
    return tuple(end_of(by_name[item.instance], item) for item in desired)


def not_attempted(desired: Desired, reason: str) -> InstanceReport:
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome="skipped",
        duration_ms=0,
        notes=(f"not attempted: {reason}",),
        attempted=False,
        **desired.origin.place,
    )


async def run_within(one: One, item: Desired, run: Run, started: float) -> InstanceReport:
    """Run one instance within `run.timeout_s`; when time runs out it is cancelled and rolls back. An unexpected
    exception fails this instance, never the run."""
    limit = asyncio.timeout(run.timeout_s)
    run = replace(run, waits=set(), is_late=limit.expired)
    try:
        async with limit:
            return await one(item, run)
    except TimeoutError:
        return build_failed_report(item, started, timed_out(run))
    except Exception as exc:  # noqa: BLE001 (the others' reports stand, whatever it is)
        return build_failed_report(item, started, unforeseen(exc, item, run))
