"""`fivrec fleet apply`: the rollout of `fivrec apply`, except that instances are applied by queueing jobs and waiting
for them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import Any

from reconciler.engine.batch import not_attempted
from reconciler.engine.reports import build_failed_report
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError, as_error
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.planning.report_document import from_document
from reconciler.support.cancellation import end_task
from reconciler.workers.common import wait_s
from reconciler.workers.job_queue import TASK, Queue

ASK_S = 0.2
WITHDRAW_S = 3.0
NO_LIMIT_S = 7 * 86400.0
"""The workers enforce each instance's time limit; `patience_s` limits the waiting for them."""


@dataclass(slots=True)
class Jobs:
    """The jobs of one run. `patience_s`: seconds without any result after which all outstanding jobs count as lost."""

    queue: Queue
    run_id: str
    wish: Mapping[str, Any]
    stored: bool
    patience_s: float
    _out: dict[str, asyncio.Future[InstanceReport]] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    async def apply(self, desired: Desired, _: Run) -> InstanceReport:
        """Have a worker apply the instance. Returns the worker's report."""
        started = time.monotonic()
        future: asyncio.Future[InstanceReport] = asyncio.get_running_loop().create_future()
        self._out[desired.instance] = future
        if len(self._out) == 1:
            self._last = time.monotonic()
        try:
            report = await self._wait(desired, future)
        except FivrecError as exc:
            report = build_failed_report(desired, started, exc)
        finally:
            self._out.pop(desired.instance, None)
        return replace(report, environment=desired.environment.name, **desired.origin.place)

    async def _wait(self, desired: Desired, future: asyncio.Future[InstanceReport]) -> InstanceReport:
        """Run until all reports are in. Ends whatever happens to the queue and to the process that listens to it."""
        try:
            async with asyncio.timeout(self.patience_s):
                await self.send(desired)
        except TimeoutError:
            raise self._lost("the queue did not take its job") from None
        while not future.done():
            left = self._last + self.patience_s - time.monotonic()
            await asyncio.wait([future], timeout=max(0.0, left))
            if not future.done() and time.monotonic() - self._last >= self.patience_s:
                await self._give_up()
        return future.result()

    async def send(self, desired: Desired) -> None:
        digest = desired.origin.digest
        await self.queue.enqueue_run(self.run_id, desired.instance, digest, stored=self.stored, wish=self.wish)

    @asynccontextmanager
    async def listening(self, run: Run) -> AsyncIterator[None]:
        """Take reports as they arrive. At the end, no job of the run is left in the queue."""
        task = asyncio.create_task(self._listen(run))
        try:
            yield
        finally:
            await end_task(task)
            await self._withdraw()  # remaining jobs are found out of date, or done

    async def _listen(self, run: Run) -> None:
        failures = 0
        while True:
            await asyncio.sleep(wait_s(failures) if failures else ASK_S)
            try:
                self._take(await self.queue.rows("take_results", run=self.run_id) if self._out else ())
                failures = 0
            except Exception as fault:  # noqa: BLE001 (it is logged, and the queue is asked again)
                exc = as_error(fault)
                failures += 1
                run.log.warning("fleet", f"⚠️ {exc.message}", error=exc.code)

    def _take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._last = time.monotonic()
            future = self._out.get(row["instance"])
            if future is None or future.done():
                continue
            try:
                future.set_result(from_document(json.loads(row["report"])))
            except Exception:  # noqa: BLE001 (another version's, or nobody's: the others' stand)
                said = "its worker's report can't be read; the instance may have been applied"
                hint = 'run "fivrec diff"; the workers should be of the same version as this command'
                future.set_exception(DatabaseError(said, code="internal", hint=hint))

    async def _give_up(self) -> None:
        """Warn that jobs which a worker has begun, or which could not be withdrawn, may still be applied."""
        self._last = time.monotonic() + WITHDRAW_S  # one of the waiting instances does it for all
        taken_back = await self._withdraw()
        self._last = time.monotonic()
        for instance, future in self._out.items():
            if not future.done():
                why = "no worker took it up; it was taken back"
                future.set_exception(self._lost(why if instance in taken_back else "its worker does not answer"))

    async def _withdraw(self) -> set[str]:
        """Withdraw the jobs that no worker has taken. Returns their instances; none if the queue can't be asked."""
        task = asyncio.create_task(self.queue.rows("cancel_run", task=TASK, run=self.run_id))
        task.add_done_callback(lambda one: one.cancelled() or one.exception())  # asyncio need not log it
        await asyncio.wait([task], timeout=WITHDRAW_S)
        if not task.done():
            task.cancel()  # not awaited: cancelling a statement on a frozen connection takes time itself
        if task.done() and not task.cancelled() and task.exception() is None:
            return {row["instance"] for row in task.result()}
        return set()

    def _lost(self, why: str) -> DatabaseError:
        hint = 'see "fivrec fleet status"; --timeout says how long to wait for an answer'
        return DatabaseError(f"{why} ({self.patience_s:g} s)", code="timeout", hint=hint)


async def queued(jobs: Jobs, desired: Sequence[Desired]) -> tuple[InstanceReport, ...]:
    """--no-wait: queue jobs for all instances, and report only that."""
    for item in desired:
        await jobs.send(item)
    return tuple(not_attempted(item, "queued for the workers") for item in desired)
