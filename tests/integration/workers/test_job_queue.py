"""Jobs of the fleet's queue, on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.workers.job_queue import Job, open_queue
from tests.support.harness import run_sql


async def test_a_worker_that_was_forgotten_says_so_and_takes_the_job_again(make_database: Callable[[], Secret]) -> None:
    """As a queue does whose clock went ahead, when the next worker begins."""
    url, taken, again = make_database(), [], asyncio.Event()

    async def turn(job: Job) -> None:
        taken.append(job.instance)
        if job.instance == "first":
            run_sql(url.reveal(), "DELETE FROM procrastinate_workers")
            await queue.enqueue_run("run", "second", "digest", stored=False, wish={})
        else:
            again.set()

    async with asyncio.timeout(30), open_queue(url) as queue:
        await queue.make_schema()
        await queue.enqueue_run("run", "first", "digest", stored=False, wish={})
        with pytest.raises(DatabaseError, match="forgotten this worker, which was frozen or cut off") as found:
            await queue.work(turn, 1)
        work = asyncio.create_task(queue.work(turn, 1))
        await again.wait()
        work.cancel()
        await asyncio.wait([work])
    assert (found.value.code, taken) == ("database_unreachable", ["first", "second"])
