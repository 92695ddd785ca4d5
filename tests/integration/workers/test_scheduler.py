"""What the fleet's scheduler stores in the queue's database, on a real one."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Origin
from reconciler.support.log import EventLog
from reconciler.watch.manifests import ManifestSource
from reconciler.watch.metrics import Gauges
from reconciler.workers import scheduler as module
from reconciler.workers.common import ANSWERS
from reconciler.workers.job_queue import Queue, open_queue
from reconciler.workers.metrics import GAUGES
from reconciler.workers.scheduler import Scheduler
from tests.support.harness import rows, run_sql

DUE = "SELECT instance, due_at < 'infinity' FROM fivrec_fleet.instances ORDER BY 1"
LATER = f"UPDATE fivrec_fleet.instances SET declared_at = now() - make_interval(secs => {module.LEASE_S + 1})"


def manifests(*names: str, digest: str = "1", minutes: float = 60) -> tuple[Manifest, ...]:
    document = {"config": {"check_interval_minutes": minutes}}
    return tuple(Manifest(name, {}, document, Origin("m.yaml", 1, digest + name), Path()) for name in names)


def build_scheduler(queue: Queue, held: Sequence[Manifest], path: str = "m", **more: Any) -> Scheduler:
    whole = more.pop("whole", True)
    source = ManifestSource((path,), lambda _: tuple(held), tuple(held), whole=whole)
    more = {"every_s": None, "keys": None, **more}
    return Scheduler(queue, source, EventLog(io.StringIO()), **more)


async def declare(scheduler: Scheduler, held: Sequence[Manifest]) -> None:
    scheduler.source.held = tuple(held)
    await scheduler.declare(held)


@pytest.fixture
def url(make_database: Callable[[], Secret]) -> str:
    return make_database().reveal()


@pytest.fixture
async def queue(url: str) -> AsyncIterator[Queue]:
    async with open_queue(Secret(url)) as opened:
        await opened.make_schema()
        await opened.make_schema()  # may be repeated
        yield opened


async def test_limit_once_and_other_paths_forget_nothing(queue: Queue, url: str) -> None:
    await build_scheduler(queue, manifests("a", "b")).declare(manifests("a", "b"))
    run_sql(url, LATER)
    for other in (
        build_scheduler(queue, manifests("a"), whole=False),
        build_scheduler(queue, manifests("a"), once=True),
        build_scheduler(queue, manifests("c"), "elsewhere"),
    ):
        other._started -= module.LEASE_S + 1  # it has been running for long
        await other.declare(other.source.held)
    assert rows(url, DUE) == [("a", True), ("b", True), ("c", True)]


async def test_limit_and_once_keep_the_interval_of_what_is_scheduled(queue: Queue, url: str) -> None:
    found = []
    for scheduler in (
        build_scheduler(queue, manifests("a", "b"), every_s=6),
        build_scheduler(queue, manifests("a", "c"), whole=False),
        build_scheduler(queue, manifests("a"), once=True),
        build_scheduler(queue, manifests("a"), once=True, every_s=30),
        build_scheduler(queue, manifests("a", digest="2"), once=True),
    ):
        await scheduler.declare(scheduler.source.held)
        found.append(dict(rows(url, "SELECT instance, interval_s FROM fivrec_fleet.instances")))
    assert [row["a"] for row in found] == [6, 6, 6, 30, 3600]
    assert found[-1] == {"a": 3600, "b": 6, "c": 3600}


async def test_removed_instances_get_no_cycle_and_are_then_forgotten(queue: Queue, url: str) -> None:
    scheduler = build_scheduler(queue, manifests("a", "b"))
    await scheduler.declare(scheduler.source.held)
    await declare(scheduler, manifests("a"))
    assert rows(url, DUE) == [("a", True), ("b", False)]
    run_sql(url, LATER)
    scheduler._started -= module.LEASE_S + 1  # it has been running for long
    await scheduler.refresh()
    assert rows(url, DUE) == [("a", True)]


async def test_after_a_restore_nobody_is_forgotten_for_a_lease(queue: Queue, url: str) -> None:
    """An instance moved to other paths after the backup was made; its former scheduler finds it first."""
    scheduler = build_scheduler(queue, manifests("a", "b"))
    await scheduler.declare(scheduler.source.held)
    await declare(scheduler, manifests("a"))
    run_sql(url, LATER + ", due_at = slot_at, failures = 3")
    scheduler._started -= module.LEASE_S + 1  # it has been running for long
    await scheduler.refresh()
    withdrawn = rows(url, DUE)
    await scheduler.refresh()
    other = build_scheduler(queue, manifests("b"), "elsewhere")
    await other.declare(other.source.held)
    kept = rows(url, "SELECT instance, due_at < 'infinity', failures FROM fivrec_fleet.instances ORDER BY 1")
    assert (withdrawn, kept) == ([("a", True), ("b", False)], [("a", True, 3), ("b", True, 3)])


async def test_another_version_of_the_manifests_forgets_nothing_new(queue: Queue, url: str) -> None:
    new, old = build_scheduler(queue, manifests("a", "b", digest="2")), build_scheduler(queue, manifests("a"))
    await new.declare(new.source.held)
    run_sql(url, "UPDATE fivrec_fleet.instances SET heard = true, failures = 3, usage_due = true")
    await old.declare(old.source.held)
    await new.refresh()
    await old.refresh()
    kept = "SELECT instance, digest, heard, usage_due, due_at < 'infinity' FROM fivrec_fleet.instances ORDER BY 1"
    assert rows(url, kept) == [("a", "1a", True, True, True), ("b", "2b", True, True, True)]
    await declare(new, manifests("a", digest="2"))
    both = rows(url, DUE)
    await declare(new, manifests("a", "b", digest="2"))
    assert (both, rows(url, kept)[1]) == ([("a", True), ("b", False)], ("b", "2b", True, True, True))


async def test_an_outage_of_the_queue_ends_with_what_the_files_say_then(
    queue: Queue, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with what they said when the scheduler began: another one may have declared more since."""
    file, write, failed = tmp_path / "m.yaml", queue.run, []
    file.write_text("1", encoding="utf-8")

    async def run(name: str, **values: Any) -> None:
        if not failed:
            failed.append(name)
            file.write_text("22", encoding="utf-8")
            raise DatabaseError("the queue is away", code="database_unreachable")
        written.extend(values.get("digests", ()))
        await write(name, **values)

    async def looks() -> AsyncIterator[None]:
        return
        yield

    written: list[str] = []
    monkeypatch.setattr(queue, "run", run)
    monkeypatch.setattr(module, "wait_s", lambda _: 0.0)
    source = ManifestSource((str(file),), lambda _: manifests("a", digest=file.read_text(encoding="utf-8")), ())
    assert source.changed()
    source.reload()
    scheduler = Scheduler(queue, source, EventLog(io.StringIO()), every_s=None, keys=None)
    await scheduler._follow(looks)
    digest = "SELECT digest FROM fivrec_fleet.instances"
    assert (failed, set(written), rows(url, digest)) == (["declare"], {"22a"}, [("22a",)])


async def test_a_scheduler_logs_that_the_queue_answers_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    log, stop, rows_of = io.StringIO(), asyncio.Event(), queue.rows
    source = ManifestSource(("m",), lambda _: manifests("a"), manifests("a"))
    scheduler = Scheduler(queue, source, EventLog(log), every_s=None, keys=None)
    failing = iter([True, True])

    async def rows(name: str, **values: Any) -> list[dict[str, Any]]:
        if name == "enqueue_due" and next(failing, False):
            raise DatabaseError("the queue is away", code="database_unreachable")
        return await rows_of(name, **values)

    async def looks() -> AsyncIterator[None]:
        await stop.wait()
        yield

    monkeypatch.setattr(queue, "rows", rows)
    monkeypatch.setattr(module, "wait_s", lambda _: 0.0)
    running = asyncio.create_task(scheduler.run(stop, looks))
    said: list[str] = []
    async with asyncio.timeout(120):
        while len(said) < 3:
            await asyncio.sleep(0.05)
            said = [line for line in log.getvalue().splitlines() if "the queue" in line]
    stop.set()
    await running
    assert ["away" in line for line in said] == [True, True, False]
    assert ANSWERS in said[-1]


async def test_rows_missing_from_the_table_come_back(queue: Queue, url: str) -> None:
    scheduler = build_scheduler(queue, manifests("a", "b", digest="2"))
    await scheduler.declare(scheduler.source.held)
    await scheduler.refresh()
    # As in a backup: one instance is missing, another one's manifest is old.
    run_sql(
        url,
        "DELETE FROM fivrec_fleet.instances WHERE instance = 'a'",
        "UPDATE fivrec_fleet.instances SET digest = 'old'",
        "UPDATE fivrec_fleet.schedulers SET at = at - interval '1 hour'",
    )
    await scheduler.refresh()
    assert rows(url, "SELECT instance, digest FROM fivrec_fleet.instances ORDER BY 1") == [("a", "2a"), ("b", "2b")]


async def test_after_an_outage_it_is_looked_at_once_for_a_restore(
    queue: Queue, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers refuse jobs with the old digests (manifest_differs): this used to last half a minute."""
    rows_of = queue.rows
    scheduler = build_scheduler(queue, manifests("a", digest="2"))
    await scheduler.declare(scheduler.source.held)
    await scheduler.refresh()
    failing, away = iter([True]), asyncio.Event()

    async def rows_once_away(name: str, **values: Any) -> list[dict[str, Any]]:
        if name == "enqueue_due" and next(failing, False):
            run_sql(
                url,
                "UPDATE fivrec_fleet.instances SET digest = 'old'",
                "UPDATE fivrec_fleet.schedulers SET at = at - interval '1 hour'",
            )
            away.set()
            raise DatabaseError("the queue is away", code="database_unreachable")
        return await rows_of(name, **values)

    monkeypatch.setattr(queue, "rows", rows_once_away)
    monkeypatch.setattr(module, "wait_s", lambda _: 0.0)
    ticking = asyncio.create_task(scheduler._tick())
    try:
        async with asyncio.timeout(120):
            await away.wait()
            while rows(url, "SELECT digest FROM fivrec_fleet.instances") != [("2a",)]:
                await asyncio.sleep(0.05)
    finally:
        ticking.cancel()


async def test_times_of_a_wrong_clock_are_pulled_in(queue: Queue, url: str) -> None:
    scheduler = build_scheduler(queue, manifests("a", "b", minutes=60))
    await scheduler.declare(scheduler.source.held)
    run_sql(
        url,
        "UPDATE fivrec_fleet.instances SET (slot_at, due_at) = "
        "(now() + interval '50 minutes', now() + interval '50 minutes')",
        "UPDATE fivrec_fleet.instances SET slot_at = now() + interval '3 days', due_at = now() + interval '3 days' "
        "WHERE instance = 'b'",
    )
    await scheduler.refresh()
    latest = "SELECT max(GREATEST(due_at, slot_at)) <= now() + interval '1 hour' FROM fivrec_fleet.instances"
    assert rows(url, latest) == [(True,)]


async def test_slots_stay_spread_whatever_comes_and_goes(queue: Queue, url: str) -> None:
    chance = random.Random(14)
    scheduler = build_scheduler(queue, ())
    here, count = set[str](), 0
    for _ in range(12):
        new = {f"i{count + number}" for number in range(chance.randrange(120))}
        count += len(new)
        here = set(chance.sample(sorted(here), k=len(here) * 2 // 3)) | new
        slow = set(chance.sample(sorted(here), k=len(here) // 3))
        held = [*manifests(*(here - slow), minutes=1), *manifests(*slow, minutes=2)]
        held = [replace(one, origin=Origin("m", 1, f"{one.instance in slow}")) for one in held]
        await declare(scheduler, held)
    slots = """SELECT interval_s, floor(extract(epoch FROM fivrec_fleet.next_slot(place, interval_s, now())))::bigint
               FROM fivrec_fleet.instances WHERE due_at < 'infinity'"""
    found = Counter(rows(url, slots))
    for interval in (60.0, 120.0):
        of_it = {slot: number for (each, slot), number in found.items() if each == interval}
        assert sum(of_it.values()) > 50
        assert max(of_it.values()) <= max(0.05 * sum(of_it.values()), 2)


async def test_intervals_that_get_shorter_share_no_second(queue: Queue, url: str) -> None:
    names = [f"i{number}" for number in range(300)]
    scheduler = build_scheduler(queue, manifests(*names, minutes=1440))
    await scheduler.declare(scheduler.source.held)
    run_sql(url, "UPDATE fivrec_fleet.instances SET slot_at = fivrec_fleet.next_slot(place, interval_s, now())")
    await declare(scheduler, manifests(*names, digest="2", minutes=1))
    slots = "SELECT floor(extract(epoch FROM slot_at))::bigint, slot_at <= now() + interval '61 s'"
    found = rows(url, f"{slots} FROM fivrec_fleet.instances")
    assert all(soon for _, soon in found)
    assert max(Counter(found).values()) <= 0.05 * len(names)


async def test_removed_instances_leave_no_uneven_slots(queue: Queue, url: str) -> None:
    scheduler = build_scheduler(queue, manifests(*(f"i{number}" for number in range(300)), minutes=1))
    await scheduler.declare(scheduler.source.held)
    slot = "fivrec_fleet.next_slot(place, interval_s, now())"
    left = [name for (name,) in rows(url, f"SELECT instance FROM fivrec_fleet.instances ORDER BY {slot} LIMIT 60")]
    await declare(scheduler, manifests(*left, minutes=1))
    await declare(scheduler, manifests(*left, "back", minutes=1))
    slots = f"SELECT floor(extract(epoch FROM {slot}))::bigint FROM fivrec_fleet.instances WHERE due_at < 'infinity'"
    assert max(Counter(rows(url, slots)).values()) <= 0.05 * 61


async def test_manually_scheduled_instances_are_still_withdrawn(queue: Queue, url: str) -> None:
    """`fleet schedule FILE --once` or --limit beside a scheduler of the whole folder."""
    scheduler = build_scheduler(queue, manifests("a", "b", "c"))
    await scheduler.declare(scheduler.source.held)
    await build_scheduler(queue, manifests("b"), "m/b.yaml", once=True).declare(manifests("b"))
    await build_scheduler(queue, manifests("c"), "elsewhere", whole=False).declare(manifests("c"))
    await declare(scheduler, manifests("a"))
    assert rows(url, DUE) == [("a", True), ("b", False), ("c", False)]


async def test_instances_of_a_vanished_scheduler_are_withdrawn(queue: Queue, url: str) -> None:
    scheduler = build_scheduler(queue, manifests("a", "b"))
    await scheduler.declare(scheduler.source.held)
    other = build_scheduler(queue, manifests("b", "c"), "elsewhere")
    await other.declare(other.source.held)
    await declare(scheduler, manifests("a"))
    at_once = rows(url, DUE)
    run_sql(url, LATER)
    await scheduler.refresh()
    assert (at_once, rows(url, DUE)) == (
        [("a", True), ("b", True), ("c", True)],
        [("a", True), ("b", False), ("c", True)],
    )


async def test_a_schedulers_page_shows_who_is_declared_as_the_rows_have_it(queue: Queue, url: str) -> None:
    schedulers = [build_scheduler(queue, manifests("a", "b", "gone")) for _ in range(2)]
    for scheduler in schedulers:
        scheduler.shows_instances = True
        await scheduler.declare(scheduler.source.held)
        await declare(scheduler, manifests("a", "b"))
    standing = json.dumps({"status": "suspended", "billing_status": "overdue", "locked": True, "reachable": True})
    drift = json.dumps({"left": {"queue": 2}, "told": ["queue/Sales"], "next_look": 9e9, "problems": ["backup"]})
    run_sql(
        url,
        f"UPDATE fivrec_fleet.instances SET standing = '{standing}', drift = '{drift}', failures = 3,"
        " ended_at = now() - interval '60 s', last_success = now() - interval '1 day' WHERE instance = 'a'",
    )
    pages = []
    for scheduler in schedulers:
        await scheduler._read_rows()
        page = Gauges(dict, scheduler.instance_facts, GAUGES).page().decode()
        pages.append({line for line in page.splitlines() if 'instance="' in line and "_age_" not in line})
    assert pages[0] == pages[1]
    assert {line for line in pages[0] if not line.endswith(" 0.0")} == {
        'fivrec_locked{instance="a"} 1.0',
        'fivrec_failures_in_a_row{instance="a"} 3.0',
        'fivrec_instance_drift{instance="a",kind="queue"} 2.0',
        'fivrec_instance_database_problem{instance="a",problem="backup"} 1.0',
        'fivrec_instance_status{instance="a",status="suspended"} 1.0',
        'fivrec_instance_status{instance="b",status="unknown"} 1.0',
        'fivrec_instance_billing{billing_status="overdue",instance="a"} 1.0',
        'fivrec_instance_billing{billing_status="unknown",instance="b"} 1.0',
    }


async def test_schedulers_read_what_they_show_at_the_same_time(
    queue: Queue, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = (build_scheduler(queue, manifests("a")) for _ in range(2))
    await early.declare(early.source.held)
    shown = []
    for second in (1000.0, 1005.0, 1009.9, 1010.1, 1010.4):
        monkeypatch.setattr(module.time, "time", lambda second=second: second)
        run_sql(url, f"UPDATE fivrec_fleet.instances SET failures = {second:.0f}")
        early.shows_instances, late.shows_instances = True, second > 1004
        for scheduler in (early, late):
            await scheduler._read_rows()
        shown.append([[one.failures for one in scheduler.instance_facts()] for scheduler in (early, late)])
    assert shown == [[[1000], []], [[1000], [1005]], [[1000], [1005]], [[1010], [1010]], [[1010], [1010]]]


async def test_outdated_results_of_the_queue_are_not_shown(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = build_scheduler(queue, manifests("a"))
    scheduler.shows_instances = True
    await scheduler.declare(scheduler.source.held)
    stop = asyncio.Event()

    async def looks() -> AsyncIterator[None]:
        await stop.wait()
        yield

    running = asyncio.create_task(scheduler.run(stop, looks))
    async with asyncio.timeout(120):
        while not list(scheduler.instance_facts()):
            await asyncio.sleep(0.05)
    stop.set()
    await running
    facts = scheduler.queue_facts()
    assert (facts["instances"], facts["overdue"], facts["silence_s"] < 20) == (1, 0, True)
    monkeypatch.setattr(module, "OLD_S", -1.0)
    scheduler.last_contact -= 3600.0
    page = Gauges(scheduler.queue_facts, scheduler.instance_facts, GAUGES).page().decode()
    assert re.findall(r"^(fivrec_(?:queue|fleet|inst|lock|run)\S*) (\d+)", page, re.MULTILINE) == [
        ("fivrec_queue_silence_seconds", "3600")
    ]
