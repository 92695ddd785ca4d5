"""A part of a service that ends is restarted, and the others go on."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from reconciler.model.errors import DatabaseError
from reconciler.support.log import EventLog
from reconciler.watch.supervisor import supervised
from tests.support.virtual_time import run_virtually


def fail(fault: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise fault

    return raise_it


def alerts(said: io.StringIO) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    return [(event["alert"], event["message"].rsplit(": ", 1)[-1]) for event in events if "alert" in event]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda: None, "it ended"),
        (fail(RuntimeError("row 1 of 2")), "RuntimeError"),
        (fail(ExceptionGroup("g", [ValueError("x"), OSError("y")])), "ExceptionGroup of OSError, ValueError"),
        (fail(asyncio.CancelledError()), "CancelledError"),
        (fail(DatabaseError("the queue is away")), "the queue is away"),
    ],
)
def test_a_part_that_ends_is_restarted_and_reported_once(end: Callable[[], None], why: str) -> None:
    said, starts, beats = io.StringIO(), list[float](), list[float]()

    async def failing() -> None:
        starts.append(asyncio.get_running_loop().time())
        if len(starts) <= 3:
            end()
            return
        await asyncio.Event().wait()

    async def steady() -> None:
        while True:
            beats.append(asyncio.get_running_loop().time())
            await asyncio.sleep(1)

    async def main() -> None:
        async with supervised(EventLog(said, "json"), {"one": failing, "other": steady}):
            await asyncio.sleep(120)

    run_virtually(main())
    waits = [after - before for before, after in pairwise(starts)]
    assert [low <= wait <= 2 * low for low, wait in zip((1, 2, 4), waits, strict=True)] == [True] * 3
    assert alerts(said) == [("part_failed", why), ("recovered", "one has been running for 60 s")]
    assert len(beats) == 120


def test_a_part_that_fails_while_it_is_ended_ends_quietly() -> None:
    said = io.StringIO()

    async def part() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError

    async def main() -> Any:
        async with supervised(EventLog(said, "json"), {"one": part}):
            await asyncio.sleep(1)
        return "ended"

    assert (run_virtually(main()), said.getvalue()) == ("ended", "")


def test_a_part_that_lost_its_cancel_is_cancelled_again() -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with the result."""
    cancels = list[float]()

    async def deaf() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(asyncio.get_running_loop().time())
                if len(cancels) > 1:
                    raise

    async def main() -> float:
        async with supervised(EventLog(io.StringIO()), {"deaf": deaf}):
            await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    end = run_virtually(main())
    assert [end - at for at in cancels] == [15.0, 0.0]
