"""A command that waits for workers ends with an answer, even if the queue returns none, or an unreadable one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec, Origin
from reconciler.planning.report import InstanceReport
from reconciler.planning.report_document import as_document
from reconciler.workers import apply
from reconciler.workers.apply import Jobs
from tests.unit.watch.test_cycle import quiet_run


def lose() -> list[dict[str, Any]]:
    raise DatabaseError("the queue: the connection was lost", code="database_unreachable")


def fail() -> list[dict[str, Any]]:
    raise ExceptionGroup("unhandled errors in a TaskGroup", [RuntimeError("no such thing was foreseen")])


async def freeze() -> list[dict[str, Any]]:
    never: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
    return await never


@dataclass
class Faulty:
    """A queue that accepts jobs, and calls these functions at these statements."""

    at: dict[str, Callable[[], Any]]
    results: list[dict[str, Any]] = field(default_factory=list)

    async def enqueue_run(self, *_: Any, **__: Any) -> None:
        await self.rows("enqueue_run")

    async def rows(self, name: str, **_: Any) -> list[dict[str, Any]]:
        if name in self.at:
            found = self.at[name]()
            found = await found if asyncio.iscoroutine(found) else found
            assert isinstance(found, list)
            return found
        return self.results if name == "take_results" else []


def desired(name: str) -> Desired:
    origin = Origin("a.yaml", 1, "1")
    return Desired(name, EnvironmentSpec("production"), DatabaseSpec(Secret("")), None, managed={}, origin=origin)


async def rolled_out(queue: Any, *names: str, patience_s: float) -> list[tuple[str, str | None]]:
    jobs = Jobs(queue, "run", {}, stored=False, patience_s=patience_s)
    async with asyncio.timeout(60), jobs.listening(quiet_run()):
        reports = await asyncio.gather(*(jobs.apply(desired(name), quiet_run()) for name in names))
    return [(one.outcome, one.error.code if one.error else None) for one in reports]


@pytest.mark.parametrize("fault", [lose, fail, freeze])
@pytest.mark.parametrize("statement", ["take_results", "cancel_run", "enqueue_run"])
async def test_a_queue_that_is_gone_ends_the_waiting(
    statement: str, fault: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "WITHDRAW_S", 0.05)
    at = {statement: fault} if statement != "enqueue_run" or fault is freeze else {"take_results": fault}
    assert await rolled_out(Faulty(at), "a", "b", patience_s=0.05) == [("failed", "timeout")] * 2


@pytest.mark.parametrize("report", ["", "{", "[]", "null", "1", '{"instance": "a"}', '{"instance": "a", "changes": 3}'])
async def test_a_report_that_cannot_be_read_is_its_instances_failure(report: str) -> None:
    well = json.dumps(as_document(InstanceReport("b", "production", "in_sync", 5)))
    results = [{"instance": "a", "report": report}, {"instance": "b", "report": well}]
    assert await rolled_out(Faulty({}, results), "a", "b", patience_s=60) == [("failed", "internal"), ("in_sync", None)]
