"""Many instances: a signal at any moment ends each of them with its own report."""

from __future__ import annotations

import asyncio
import io
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.engine.batch import Stop, not_attempted, run_many, with_reason
from reconciler.engine.run import Run
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec
from reconciler.planning.audit import Actor
from reconciler.planning.report import InstanceReport, exit_code
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("steps", range(6))
def test_a_signal_is_reported_per_instance_at_every_step(steps: int) -> None:
    stop, heard = Stop(), []
    run = Run("run-1", "apply", Actor("test"), KeyRing(()), EventLog(io.StringIO()), now=lambda: datetime.now(UTC))
    desired = [Desired(name, EnvironmentSpec("production"), DatabaseSpec(Secret("")), None, {}) for name in NAMES]

    async def one(item: Desired, _: Run) -> InstanceReport:
        await asyncio.sleep(60)
        raise AssertionError(item)

    def ask(left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(ask, left - 1)
        else:
            stop.ask(signal.SIGTERM)

    async def work() -> tuple[InstanceReport, ...]:
        ask(steps)
        return await run_many(desired, run, one, forks=2, stop=stop, done=lambda it: heard.append(it.instance))

    reports = asyncio.run(work())
    assert [(it.instance, it.outcome) for it in reports] == [(name, "skipped") for name in NAMES]
    not_begun = ("not attempted: the run was stopped by a signal",)
    assert all(it.notes == not_begun if it.error is None else it.error.code == "interrupted" for it in reports)
    assert sorted(heard) == list(NAMES)


def run_of(timeout_s: float = 60.0) -> Run:
    log = EventLog(io.StringIO())
    return Run("1", "apply", Actor("test"), KeyRing(()), log, now=lambda: datetime.now(UTC), timeout_s=timeout_s)


def instance(name: str, *, suspend: bool = False) -> Desired:
    return Desired(name, EnvironmentSpec("production"), DatabaseSpec(Secret("")), None, {}, suspend=suspend)


async def forever(item: Desired, _: Run) -> InstanceReport:
    await asyncio.sleep(60)
    raise AssertionError(item)


async def test_what_takes_too_long_is_that_instances_end() -> None:
    (report,) = await run_many([instance("a")], run_of(0.01), forever, forks=1, stop=Stop())
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "timeout")


async def test_after_a_signal_nothing_is_begun() -> None:
    stop = Stop(signal=signal.SIGTERM)
    async with asyncio.timeout(10):
        (report,) = await run_many([instance("a")], run_of(), forever, forks=1, stop=stop)
    assert report.notes == ("not attempted: the run was stopped by a signal",)


def test_instances_not_attempted_are_neither_done_nor_failed() -> None:
    left = not_attempted(instance("a", suspend=True), "the run was stopped by a signal")
    failed = replace(left, outcome="failed", exit_code=1, attempted=True)
    assert exit_code([failed, left]) == 1
    assert with_reason(left, instance("a", suspend=True)) == left
    looked = replace(left, attempted=True)
    assert with_reason(looked, instance("a", suspend=True)).notes[0].startswith("suspend: true")
