"""Keep the parts of a service running: one that ends too early is restarted, after a growing delay, with an alert.

Knows nothing about the parts. Uses tasks of asyncio.TaskGroup; this adds when to restart a part and what to report.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from reconciler.engine.alerts import say_alert
from reconciler.model.errors import FivrecError
from reconciler.planning.schedule import retry_delay
from reconciler.support.log import EventLog

LONGEST_WAIT_S = 30.0
STEADY_S = 60.0
"""Seconds after which a part that failed before counts as recovered."""

AGAIN_S = 15.0
"""Seconds after which a part that has not ended is cancelled again; before that it may be finishing its work."""

Part = Callable[[], Awaitable[None]]


@asynccontextmanager
async def supervised(log: EventLog, parts: Mapping[str, Part]) -> AsyncIterator[None]:
    """Run the parts, by name, until the block ends; then cancel them and wait for them."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep_running(name, part, log), name=name) for name, part in parts.items()]
        try:
            yield
        finally:
            await _end(tasks)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: Python 3.11's `wait_for` loses a cancel that arrives together with a result."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)


async def _keep_running(name: str, part: Part, log: EventLog) -> None:
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        begun = loop.time()
        recovery = loop.call_later(STEADY_S, _say_recovered, name, log) if failures else None
        why = await _run_once(part)
        if recovery is not None:
            recovery.cancel()
        steady = loop.time() - begun >= STEADY_S
        failures = 1 if steady else failures + 1
        _say_ended(name, why, log, first=failures == 1)
        chance = random.random()  # noqa: S311 (spreads retries)
        await asyncio.sleep(min(retry_delay(failures, chance), LONGEST_WAIT_S))


async def _run_once(part: Part) -> str:
    """Why the part ended, in words that contain no row and no secret. Raises CancelledError only if its supervisor
    cancelled it: one that the part itself raises is a fault like any other."""
    task = asyncio.current_task()
    try:
        await part()
    except asyncio.CancelledError:
        if task is None or task.cancelling():
            raise
        return "CancelledError"
    except FivrecError as exc:
        return exc.message
    except Exception as exc:
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from exc
        return _describe(exc)
    return "it ended"


def _describe(exc: Exception) -> str:
    """The types of the exceptions; the messages of libraries may quote rows."""
    if isinstance(exc, ExceptionGroup):
        inner = sorted({_describe(one) for one in exc.exceptions})
        return f"{type(exc).__name__} of {', '.join(inner)}"
    return type(exc).__name__


def _say_ended(name: str, why: str, log: EventLog, *, first: bool) -> None:
    words = f"{name}: {why}"
    if first:
        say_alert(log, "part_failed", None, words, part=name)
    else:
        log.error("service", f"❌ part of the service ended again, and is started again: {words}", part=name)


def _say_recovered(name: str, log: EventLog) -> None:
    say_alert(log, "recovered", None, f"{name} has been running for {STEADY_S:g} s", part=name)
