"""Many instances: a signal ends each of them with a report of its own, at whatever moment it comes."""

from __future__ import annotations

import asyncio
import io
import signal
from datetime import UTC, datetime

import pytest

from reconciler.engine.batch import Stop, run_many
from reconciler.engine.run import Run
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec
from reconciler.planning.audit import Actor
from reconciler.planning.report import InstanceReport
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
