"""A link that freezes: the command ends within 30 s, and the server frees the instance's lock within 10.

The server notices nothing, as when a cable is pulled. If the freeze comes within a pipeline, the server is neither idle
nor within a statement; there its transaction_timeout frees the lock (PostgreSQL 17 and newer).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.cut_messages import Message
from tests.support.engine import desired_of, document, run_of
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.fault_state import rows

Record = Callable[[str, object], None]

ENDS_S, FREES_S = 30, 10
NEW = {"items": [{"name": "Sales", "description": "after the freeze"}], "unmanaged": "keep"}
HELD = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
    "(SELECT oid FROM pg_database WHERE datname = %s) AND objsubid = 1"
)


@dataclass
class Frozen:
    point: str
    ended_s: float
    freed_s: float
    report: InstanceReport
    written: bool


def points(messages: list[Message], version: int) -> dict[str, int]:
    """Returns where to freeze: before anything, at each awaited response, and in the middle of the pipelines."""
    syncs = [number for number, message in enumerate(messages, 1) if message.kind in "SQ"]
    commit = next(number for number, message in enumerate(messages, 1) if message.text == "COMMIT")
    found = {f"answer {place}": number for place, number in enumerate(syncs, 1)}
    found = {"at the first byte": 1, **found}
    if version < 170000:
        return found
    return {**found, "within reading": syncs[0] - 9, "within writing": commit - 4}


@pytest.mark.slow
async def test_a_frozen_link_ends_the_command_and_frees_the_lock(
    make_database: Callable[[], Secret], keys: KeyRing, tmp_path: Path, record_property: Record
) -> None:
    first = await _prepared(make_database(), keys, tmp_path)
    async with proxied(first) as (proxy, url):
        await reconcile(desired_of(document(queues=NEW), url), run_of(keys, tmp_path, 2))
        ((version,),) = await rows(first, "SELECT current_setting('server_version_num')::integer")
        chosen = points(proxy.traffic.messages, version)
    urls = [await _prepared(make_database(), keys, tmp_path) for _ in chosen]
    found = await asyncio.gather(
        *(
            _freeze(point, number, url, keys, tmp_path)
            for (point, number), url in zip(chosen.items(), urls, strict=True)
        )
    )
    for item in found:
        error = item.report.error.code if item.report.error else None
        record_property(
            "frozen link",
            f"{item.point}: ended {item.ended_s:.1f} s, freed {item.freed_s:.1f} s, {item.report.outcome} {error}",
        )
    for item in found:
        error = item.report.error.code if item.report.error else None
        assert item.ended_s <= ENDS_S, item.point
        assert item.freed_s <= FREES_S, item.point
        if item.report.outcome == "changed":
            assert item.written, item.point
            assert error is None, item.point
        else:
            assert item.report.outcome == "failed", item.point
            assert error in ("database_timeout", "database_unreachable", "commit_unknown"), item.point
            assert error == "commit_unknown" or not item.written, item.point


async def _prepared(url: Secret, keys: KeyRing, work_dir: Path) -> Secret:
    assert (await reconcile(desired_of(document(), url), run_of(keys, work_dir))).outcome == "changed"
    return url


async def _freeze(point: str, number: int, url: Secret, keys: KeyRing, work_dir: Path) -> Frozen:
    async with proxied(url) as (proxy, through):
        frozen_at = asyncio.get_running_loop().create_future()
        proxy.at(number, lambda: _frozen(proxy, frozen_at))
        run = asyncio.create_task(reconcile(desired_of(document(queues=NEW), through), run_of(keys, work_dir, 2)))
        begun = await frozen_at
        freed = asyncio.create_task(_freed(url, begun))
        report = await run
        ended = time.monotonic() - begun
        freed_s = await freed
        found = await rows(url, "SELECT description FROM queues WHERE name = 'Sales'")
    return Frozen(point, ended, freed_s, report, found == [("after the freeze",)])


def _frozen(proxy: FaultProxy, at: asyncio.Future[float]) -> bool:
    proxy.freeze()
    at.set_result(time.monotonic())
    return False


async def _freed(url: Secret, begun: float) -> float:
    """Returns how many seconds after the freeze the instance became free for good."""
    name = url.reveal().rsplit("/", 1)[-1]
    free_since: float | None = None
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        while free_since is None or time.monotonic() - free_since < 1:
            held = (await (await conn.execute(HELD, (name,))).fetchone() or (0,))[0]
            if held:
                free_since = None
            elif free_since is None:
                free_since = time.monotonic()
            await asyncio.sleep(0.1)
    return free_since - begun
