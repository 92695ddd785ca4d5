"""What the fleet's scheduler and workers have in common: parts that run side by side, waits, words."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from reconciler.planning.schedule import retry_delay
from reconciler.support.log import EventLog
from reconciler.workers.job_queue import STALE_S

LONGEST_WAIT_S = 15.0


class QueueContact:
    """When the queue last answered, and what /healthz and /readyz say of that."""

    def __init__(self) -> None:
        self.stopping = False
        self.last_contact = time.monotonic()

    def heard(self) -> None:
        self.last_contact = time.monotonic()

    def trouble_alive(self) -> str | None:
        """What /healthz says."""
        silent = time.monotonic() - self.last_contact
        return None if silent <= 2 * STALE_S else f"the queue could not be asked for {silent:.0f} s"

    def trouble_ready(self) -> str | None:
        return "stopping" if self.stopping else self.trouble_alive()


async def until_stopped(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    """Until `stop`. A part that ends or fails ends the others: a live process with a dead part is worse."""
    tasks = [asyncio.create_task(part) for part in parts]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome


def wait_s(failures: int) -> float:
    """How long the queue is left alone after so many failures in a row."""
    return min(retry_delay(failures, random.random()), LONGEST_WAIT_S)  # noqa: S311 (spreads retries)


def say_recovered(log: EventLog, instances: Sequence[str]) -> None:
    if instances:
        named = ", ".join(instances[:5]) + (", …" if len(instances) > 5 else "")  # noqa: PLR2004 (a line, not a list)
        log.warning("fleet", f"🚑 {len(instances)} jobs of a lost worker are back in the queue: {named}")
