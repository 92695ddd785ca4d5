"""A command that waits for workers gets an answer, even if the queue gives none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec, Origin
from reconciler.workers.apply import Jobs
from tests.unit.watch.test_cycle import quiet_run

LOST = DatabaseError("the queue: the connection was lost", code="database_unreachable")


@dataclass
class Failing:
    """A queue that takes jobs, and fails at these statements from then on."""

    at: frozenset[str]
    asked: list[str] = field(default_factory=list)

    async def enqueue_run(self, *_: Any, **__: Any) -> None: ...

    async def rows(self, name: str, **_: Any) -> list[dict[str, Any]]:
        self.asked.append(name)
        if name in self.at:
            raise LOST
        return []


@pytest.mark.parametrize("statement", ["take_results", "cancel_run"])
async def test_a_queue_that_is_gone_ends_the_waiting(statement: str) -> None:
    queue: Any = Failing(frozenset({statement}))
    jobs = Jobs(queue, "run", {}, stored=False, patience_s=0.05)
    desired = Desired(
        instance="a",
        environment=EnvironmentSpec("production"),
        database=DatabaseSpec(Secret("")),
        connect=None,
        managed={},
        origin=Origin("a.yaml", 1, "1"),
    )
    async with asyncio.timeout(5), jobs.listening(quiet_run()):
        report = await jobs.apply(desired, quiet_run())
    assert (report.outcome, report.error and report.error.code) == ("failed", "timeout")
