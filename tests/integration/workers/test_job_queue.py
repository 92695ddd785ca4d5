"""Jobs of the fleet's queue, on a real database."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from psycopg_pool.base import AttemptWithBackoff

from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from reconciler.watch.cycle import Cycle
from reconciler.workers import job_queue
from reconciler.workers.common import QueueContact
from reconciler.workers.job_queue import INIT_FIRST, RECONNECT_S, TABLES, TASK, Job, open_queue
from reconciler.workers.manifests import Stored
from reconciler.workers.worker import FleetClock, FleetWorker
from tests.support.harness import run_sql


async def test_a_worker_that_was_forgotten_says_so_and_takes_the_job_again(make_database: Callable[[], Secret]) -> None:
    """A queue whose clock went ahead forgets workers when the next one begins."""
    url, taken, again = make_database(), [], asyncio.Event()

    async def turn(job: Job) -> None:
        taken.append(job.instance)
        if job.instance == "first":
            run_sql(url.reveal(), "DELETE FROM procrastinate_workers")
            await queue.enqueue_run("run", "second", "digest", stored=False, wish={})
        else:
            again.set()

    async with asyncio.timeout(120), open_queue(url) as queue:
        await queue.make_schema()
        await queue.enqueue_run("run", "first", "digest", stored=False, wish={})
        with pytest.raises(DatabaseError, match="forgotten this worker, which was frozen or cut off") as found:
            await queue.work(turn, 1)
        work = asyncio.create_task(queue.work(turn, 1))
        await again.wait()
        work.cancel()
        await asyncio.wait([work])
    assert (found.value.code, taken) == ("database_unreachable", ["first", "second"])


async def test_a_job_whose_end_the_queue_did_not_hear_is_done_all_the_same(
    make_database: Callable[[], Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job used to stay with its worker, which is alive: the instance, locked by the job, got no further cycle."""
    taken, lost, again = [], [1, 2, 3], asyncio.Event()

    async def turn(job: Job) -> None:
        taken.append(job.run)
        if job.run == "second":
            again.set()
        else:
            await queue.enqueue_run("second", "one", "digest", stored=False, wish={})

    async with asyncio.timeout(120), open_queue(make_database()) as queue:
        await queue.make_schema()
        execute = queue._connector.execute_query_async

        async def cut(query: str, **values: Any) -> None:
            if lost and ("finish_job" in query or "DELETE FROM procrastinate_jobs WHERE id" in query):
                lost.pop()
                raise ConnectorException from psycopg.OperationalError("the connection was lost")
            await execute(query, **values)

        monkeypatch.setattr(queue._connector, "execute_query_async", cut)
        await queue.enqueue_run("first", "one", "digest", stored=False, wish={})
        work = asyncio.create_task(queue.work(turn, 1))
        await again.wait()
        work.cancel()
        await asyncio.wait([work])
        (depth,) = await queue.rows("depth", task=TASK)
    assert (taken, lost, depth["waiting"], depth["running"]) == (["first", "second"], [], 0, 0)


async def test_a_login_that_may_make_no_database_makes_the_tables_of_one(
    make_database: Callable[[], Secret], owner_of: Callable[[Secret], Secret]
) -> None:
    async with open_queue(owner_of(make_database()), create=True) as queue:
        assert (await queue.make_schema(), await queue.make_schema()) == (True, False)


async def test_a_queue_whose_database_is_missing_is_made(make_database: Callable[[], Secret]) -> None:
    url = make_database()
    run_sql(make_database().reveal(), f'DROP DATABASE "{url.reveal().rpartition("/")[2]}"')
    with pytest.raises(DatabaseError) as found:
        async with open_queue(url):
            pass
    async with open_queue(url, create=True) as queue:
        assert await queue.make_schema()
    assert (found.value.code, found.value.hint) == ("database_missing", INIT_FIRST)


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("step", "code", "said"),
    [
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "too_many_connections", "too many connections for role"),
        ("ALTER ROLE {role} PASSWORD 'other'", "database_auth", "password authentication failed"),
    ],
)
async def test_a_queue_that_takes_no_connection_any_more_says_why(  # noqa: PLR0917 (pytest fills them in)
    make_database: Callable[[], Secret],
    owner_of: Callable[[Secret], Secret],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    code: str,
    said: str,
) -> None:
    database = make_database()
    login = owner_of(database)
    role = urlsplit(login.reveal()).username
    async with open_queue(login) as queue:
        await queue.make_schema()
        queue.pool.timeout = 0.5
        run_sql(database.reveal(), step.format(role=role))
        run_sql(
            database.reveal(), f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{role}'"
        )
        with pytest.raises(DatabaseError, match=said) as found:
            await queue.version()
        asked: list[dict[str, bool]] = []
        probe = job_queue._probe
        monkeypatch.setattr(job_queue, "_probe", lambda url, **how: (asked.append(how), probe(url, **how))[1])
        ends = await asyncio.gather(*(queue.version() for _ in range(8)), return_exceptions=True)
        assert [getattr(end, "code", end) for end in ends] == [code] * 8
        assert len(asked) <= 2  # 8 cycles that time out together open no 8 connections
        run_sql(database.reveal(), f"ALTER ROLE {role} CONNECTION LIMIT -1")
    assert found.value.code == code


async def test_a_queue_that_was_away_for_hours_is_found_within_seconds(make_database: Callable[[], Secret]) -> None:
    """The pool doubles its wait after each failed attempt, and starts over after its limit."""
    async with open_queue(make_database()) as queue:
        attempt, now, waits = AttemptWithBackoff(timeout=queue.pool.reconnect_timeout), 0.0, []
        while not attempt.time_to_give_up(now):
            attempt.update_delay(now)
            waits.append(attempt.delay)
            now += attempt.delay
    assert (now, max(waits) < 10.0) == (pytest.approx(RECONNECT_S), True)


async def test_a_database_without_a_schema_for_tables_is_reported(make_database: Callable[[], Secret]) -> None:
    url = make_database()
    run_sql(url.reveal(), "DROP SCHEMA public")
    async with open_queue(url) as queue:
        with pytest.raises(DatabaseError) as raised:
            await queue.make_schema()
    assert raised.value.code == "schema_missing"
    assert "CREATE SCHEMA public" in raised.value.hint


@pytest.mark.parametrize(
    ("version", "behind", "said"),
    [
        (TABLES, False, []),
        (99, False, ["this fivrec knows 3: it goes on with what both know"]),
        (2, True, ['this fivrec needs 3: run "fivrec fleet init" of this version']),
    ],
)
async def test_tables_of_another_version_are_reported_once(
    make_database: Callable[[], Secret], version: int, behind: bool, said: list[str]
) -> None:
    url, heard = make_database(), list[str]()
    log = EventLog(io.StringIO())
    log.listeners.append(lambda event: heard.append(event["message"]))
    async with open_queue(url) as queue:
        await queue.make_schema()
        run_sql(url.reveal(), f"TRUNCATE fivrec_fleet.versions; INSERT INTO fivrec_fleet.versions VALUES ({version})")
        contact = QueueContact()
        assert [await contact.is_behind(queue, log) for _ in range(2)] == [behind] * 2
    assert [part for part, message in zip(said, heard, strict=True) if part not in message] == []


async def test_a_worker_leaves_the_jobs_of_older_tables_to_older_workers(make_database: Callable[[], Secret]) -> None:
    """Until its own version's `fleet init` was run: each job would fail, and be gone."""
    url, took, waited = make_database(), list[Job](), asyncio.Event()
    log = EventLog(io.StringIO())
    log.listeners.append(lambda event: waited.set() if "fleet init" in event["message"] else None)
    async with asyncio.timeout(120), open_queue(url) as queue:
        await queue.make_schema()
        await queue.enqueue_run("run", "first", "digest", stored=False, wish={})
        run_sql(url.reveal(), "DELETE FROM fivrec_fleet.versions WHERE version > 2")
        run = Run("1", "fleet worker", Actor("test"), KeyRing(()), log, now=lambda: datetime.now(UTC))
        clock = FleetClock()
        worker = FleetWorker(queue, Stored(KeyRing(()), Path()), Cycle(none, run, clock=clock), clock, 1)
        worker.turn = lambda job: done(took, job)  # type: ignore[method-assign]
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        await waited.wait()
        stop.set()
        await task
        (depth,) = await queue.rows("depth", task=TASK)
    assert (took, depth["waiting"]) == ([], 1)


async def none(*_: object) -> Any:
    """Stands in for the cycle's resolver, and does nothing."""


async def done(took: list[Job], job: Job) -> None:
    took.append(job)
