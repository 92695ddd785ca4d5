"""kill -9 anywhere: one further run reaches the state of an undisturbed one, and the audit log's chain is intact.

FIVREC_TEST_SEED chooses the random moments, FIVREC_TEST_KILLS their number (default 100).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.model.secret import Secret
from tests.support.databases import drop_database, with_database
from tests.support.fault_proxy import proxied
from tests.support.fault_state import chain_of, state_of
from tests.support.processes import Runner, runner

Record = Callable[[str, object], None]

SEED = int(os.environ.get("FIVREC_TEST_SEED", "20261123"))
KILLS = int(os.environ.get("FIVREC_TEST_KILLS", "100"))


@dataclass
class Killing:
    """Kills the first apply of a database that does not exist, and lets one further run repair it."""

    runner: Runner
    server: str
    name: Callable[[], str]
    undisturbed: tuple[Any, ...] = ()
    found: Counter[str] = field(default_factory=Counter)

    async def apply(self, url: Secret) -> None:
        pid = await self.runner.start(url)
        await self.runner.go(pid)
        ended = await self.runner.wait(pid)
        assert ended.code == 0, ended

    async def killed_after_message(self, number: int) -> None:
        url = Secret(with_database(self.server, self.name()))
        try:
            async with proxied(url) as (proxy, through):
                pid = await self.runner.start(through)
                proxy.at(number, lambda: killed(pid))
                await self.runner.go(pid)
                await self._healed(url, pid, f"message {number}")
        finally:
            drop_database(self.server, url.reveal().rsplit("/", 1)[-1])

    async def killed_at_moment(self, seconds: float) -> None:
        url = Secret(with_database(self.server, self.name()))
        try:
            pid = await self.runner.start(url)
            await self.runner.go(pid)
            await asyncio.sleep(seconds)
            killed(pid)
            await self._healed(url, pid, f"seed {SEED}, {seconds * 1000:.1f} ms")
        finally:
            drop_database(self.server, url.reveal().rsplit("/", 1)[-1])

    async def _healed(self, url: Secret, pid: int, point: str) -> None:
        ended = await self.runner.wait(pid)
        assert ended.code in (-signal.SIGKILL, 0), (point, ended)
        self.found[await left_behind(url)] += 1
        await self.apply(url)
        assert await seen(url) == self.undisturbed, point


def killed(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


OTHERS = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def left_behind(url: Secret) -> str:
    try:
        async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
            while await (await conn.execute(OTHERS)).fetchall():  # the killed run's session ends its statement first
                await asyncio.sleep(0.01)
            cursor = await conn.execute("SELECT to_regclass('fivrec.audit_log') IS NOT NULL")
            return "all of it" if (await cursor.fetchone() or (False,))[0] else "an empty database"
    except psycopg.OperationalError:
        return "no database"


async def seen(url: Secret) -> tuple[Any, ...]:
    """Returns the rows and the audit log's actions, except the database's creation: a killed run does not log it."""
    audit = [(entry.kind, entry.name, entry.action) for entry in await chain_of(url) if entry.kind != "database"]
    return await state_of(url), audit


@pytest.fixture
async def killing(postgres_url: str, fresh_name: Callable[[], str], tmp_path: Path) -> AsyncIterator[Killing]:
    async with runner(tmp_path) as started:
        killing = Killing(started, postgres_url, fresh_name)
        url = Secret(with_database(postgres_url, fresh_name()))
        try:
            await killing.apply(url)
            killing.undisturbed = await seen(url)
            yield killing
        finally:
            drop_database(postgres_url, url.reveal().rsplit("/", 1)[-1])


@pytest.mark.slow
async def test_a_kill_after_any_statement_is_healed_by_one_run(
    killing: Killing, tmp_path: Path, record_property: Record
) -> None:
    name = killing.name()
    try:
        async with proxied(Secret(with_database(killing.server, name))) as (proxy, through):
            await killing.apply(through)
            statements = [number for number, message in enumerate(proxy.traffic.messages, 1) if message.is_statement]
    finally:
        drop_database(killing.server, name)
    for number in (statements[0] - 1, *statements):  # the first one creates the database
        await killing.killed_after_message(number)
    record_property(
        "killed by 9",
        f"{len(statements)} kills after a statement each, one before the first; left behind: {dict(killing.found)}",
    )
    assert set(killing.found) == {"no database", "an empty database", "all of it"}


@pytest.mark.slow
async def test_a_kill_at_random_moments_is_healed_by_one_further_run(killing: Killing, record_property: Record) -> None:
    print(f"seed {SEED}")
    choose = random.Random(SEED)
    name = killing.name()
    try:
        begun = time.monotonic()
        await killing.apply(Secret(with_database(killing.server, name)))
        whole = time.monotonic() - begun
    finally:
        drop_database(killing.server, name)
    for _ in range(KILLS):
        await killing.killed_at_moment(choose.uniform(0, whole))
    assert killing.found.total() == KILLS
    assert set(killing.found) <= {"no database", "an empty database", "all of it"}
    record_property("killed by 9", f"{KILLS} kills within {whole * 1000:.0f} ms; left behind: {dict(killing.found)}")
