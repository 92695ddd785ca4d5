"""Reads shared by several calls: no call gets a result that was read before it came."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.model.errors import DatabaseError
from reconciler.web.shared_reads import SharedReads


async def test_callers_during_a_read_share_the_next_one() -> None:
    reads: SharedReads[int] = SharedReads()
    begun: list[int] = []
    gate = asyncio.Event()

    async def read() -> int:
        begun.append(len(begun))
        mine = begun[-1]
        await gate.wait()
        return mine

    first = asyncio.create_task(reads.read("a", read))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(reads.read("a", read)) for _ in range(20)]
    other = asyncio.create_task(reads.read("b", read))
    await asyncio.sleep(0.01)
    gate.set()
    assert await first == 0
    assert await other == 1
    assert await asyncio.gather(*later) == [2] * 20
    assert begun == [0, 1, 2]
    assert await reads.read("a", read) == 3  # nothing is kept


async def test_an_error_is_shared_by_all_waiting_and_none_later() -> None:
    reads: SharedReads[int] = SharedReads()
    fails = True

    async def read() -> int:
        await asyncio.sleep(0.01)
        if fails:
            raise DatabaseError("down")
        return 1

    ends = await asyncio.gather(*(reads.read("a", read) for _ in range(5)), return_exceptions=True)
    assert [type(end) for end in ends] == [DatabaseError] * 5
    fails = False
    assert await reads.read("a", read) == 1


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    reads: SharedReads[int] = SharedReads()

    gate = asyncio.Event()

    async def read() -> int:
        await gate.wait()
        return 1

    tasks = [asyncio.create_task(reads.read("a", read)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[2] == 1
