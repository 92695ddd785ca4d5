"""Eight concurrent applies of one instance, each with its own manifest: each succeeds or is busy, the last one's is
complete."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.secret import Secret
from tests.support.databases import drop_database, with_database
from tests.support.fault_state import chain_of, rows
from tests.support.processes import runner

Record = Callable[[str, object], None]

AT_ONCE = 8


def sections(choose: random.Random, number: int) -> dict[str, Any]:
    """Returns a manifest that puts its number into every row that it creates or changes."""
    names = [f"Queue {name}" for name in choose.sample(range(6), 3)]
    return {
        "queues": {"items": [{"name": name, "description": f"by {number}"} for name in names], "unmanaged": "keep"},
    }


async def held(url: Secret) -> dict[str, str]:
    return dict(await rows(url, "SELECT name, description FROM queues"))


@pytest.mark.parametrize("seed", range(1, 6))
async def test_each_is_done_or_busy_and_the_last_one_wins_whole(
    seed: int, postgres_url: str, fresh_name: Callable[[], str], tmp_path: Path, record_property: Record
) -> None:
    choose = random.Random(seed)
    url = Secret(with_database(postgres_url, fresh_name()))
    try:
        async with runner(tmp_path) as started:
            wanted = {number: sections(choose, number) for number in range(1, AT_ONCE + 1)}
            pids = {number: await started.start(url, **wanted[number]) for number in wanted}
            for number in choose.sample(sorted(pids), AT_ONCE):
                await started.go(pids[number])
                await asyncio.sleep(choose.uniform(0, 0.05))
            ended = {number: await started.wait(pid) for number, pid in pids.items()}
        codes = {number: end.code for number, end in ended.items()}
        failed = {number: end.report for number, end in ended.items() if end.code not in (0, 4)}
        assert not failed, seed
        done = {number for number, code in codes.items() if code == 0}
        entries = await chain_of(url)
        wrote = [int(entry.run_id[-12:]) for entry in entries if entry.kind == "queue"]
        assert set(wrote) == done, seed
        assert_whole(await held(url), wanted, list(dict.fromkeys(wrote)))
        record_property("8 applies at once", f"seed {seed}: {len(done)} done, {AT_ONCE - len(done)} busy")
    finally:
        drop_database(postgres_url, url.reveal().rsplit("/", 1)[-1])


def assert_whole(found: dict[str, str], wanted: dict[int, dict[str, Any]], order: list[int]) -> None:
    """Check that the rows are those of the manifests in the audit log's order, and that the last one's are complete."""
    expected: dict[str, str] = {}
    for number in order:
        expected |= {item["name"]: item["description"] for item in wanted[number]["queues"]["items"]}
    assert found == expected
    last = {item["name"]: item["description"] for item in wanted[order[-1]]["queues"]["items"]}
    assert last.items() <= found.items()
