"""A connection cut anywhere: the report matches the database, and the next run repairs it.

Each failure can be replayed by its point: `pytest -k …` makes the same cuts again; random ones print their seed.
FIVREC_TEST_SEED sets it, FIVREC_TEST_CUTS the number of random ones (default 40).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of
from tests.support.fault_proxy import FaultProxy, proxied
from tests.support.fault_state import chain_of, rows

Record = Callable[[str, object], None]

SEED = int(os.environ.get("FIVREC_TEST_SEED", "20261123"))
RANDOM_CUTS = int(os.environ.get("FIVREC_TEST_CUTS", "40"))
CUT = "database_unreachable", "commit_lost"


class Trials:
    """One database in which each trial changes a queue's description; its expected rows are known at every step."""

    def __init__(self, url: Secret, keys: KeyRing, work_dir: Path) -> None:
        self.url, self.keys, self.work_dir = url, keys, work_dir
        self.number = 0
        self.seen: dict[str, int] = {}

    async def apply(self, description: str, url: Secret | None = None) -> InstanceReport:
        self.number += 1
        queues = {"items": [{"name": "Sales", "description": description}], "unmanaged": "keep"}
        run = run_of(self.keys, self.work_dir, self.number)
        return await reconcile(desired_of(document(queues=queues), url or self.url), run)

    async def held(self) -> tuple[str, int]:
        """Returns the current description, and how often this run's changes are in the audit log."""
        ((found,),) = await rows(self.url, "SELECT description FROM queues WHERE name = 'Sales'")
        run_id = f"00000000-0000-4000-8000-{self.number:012d}"
        query = f"SELECT count(*) FROM fivrec.audit_log WHERE run_id = '{run_id}' AND kind = 'queue'"
        return found, (await rows(self.url, query))[0][0]

    async def check(self, point: Any, wanted: str, report: InstanceReport) -> None:
        """Check that the report is true, and that a further run succeeds."""
        error = report.error.code if report.error else None
        self.seen[error or report.outcome] = self.seen.get(error or report.outcome, 0) + 1
        held = await self.held()
        told = f"{point}: {report.outcome}, {report.error}, but there is {held}"
        if report.outcome == "changed":
            assert held == (wanted, 1), told
            assert error is None, told
        else:
            assert (report.outcome, error in CUT) == ("failed", True), told
            assert held[0] != wanted, told
            assert held[1] == 0, told
        again = await self.apply(wanted)
        assert (again.outcome, again.error) == ("in_sync" if report.outcome == "changed" else "changed", None), told
        assert (await self.held())[0] == wanted


@pytest.fixture
async def trials(database: Secret, keys: KeyRing, tmp_path: Path) -> Trials:
    trials = Trials(database, keys, tmp_path)
    assert (await trials.apply("at first")).outcome == "changed"
    return trials


@pytest.mark.slow
async def test_a_cut_after_any_message_to_the_server_is_reported_correctly(
    trials: Trials, record_property: Record
) -> None:
    async with proxied(trials.url) as (proxy, url):
        await trials.apply("undisturbed", url)
        count = len(proxy.traffic.messages)
    for number in range(1, count + 1):
        async with proxied(trials.url) as (proxy, url):
            proxy.at(number, lambda: True)
            report = await trials.apply(f"after message {number}", url)
            assert proxy.traffic.cuts == 1, number
        await trials.check(f"message {number}", f"after message {number}", report)
    await chain_of(trials.url)
    record_property("connections cut", f"{count} cuts after a message: {trials.seen}")
    assert {"changed", "database_unreachable", "commit_lost"} <= set(trials.seen)


@pytest.mark.slow
async def test_a_cut_at_random_bytes_of_responses_is_reported_correctly(
    trials: Trials, record_property: Record
) -> None:
    print(f"seed {SEED}")
    choose = random.Random(SEED)
    async with proxied(trials.url) as (proxy, url):
        await trials.apply("undisturbed", url)
        total = proxy.traffic.to_client
    for number in range(RANDOM_CUTS):
        byte = choose.randrange(1, total)
        async with proxied(trials.url) as (proxy, url):
            proxy.arm(byte, "to_client")
            report = await trials.apply(f"cut {number}", url)
        if report.error is None:  # the cut came when the connection had nothing more to send
            assert report.outcome == "changed"
        await trials.check(f"seed {SEED}, byte {byte}", f"cut {number}", report)
    await chain_of(trials.url)
    record_property("connections cut", f"{RANDOM_CUTS} cuts within an answer: {trials.seen}")


async def test_a_commit_whose_answer_was_lost_is_found_to_be_done(trials: Trials) -> None:
    async with proxied(trials.url) as (proxy, url):
        proxy.faults.cut_answer = b"COMMIT"
        report = await trials.apply("committed", url)
    assert (report.outcome, report.error, report.exit_code) == ("changed", None, 0)
    assert await trials.held() == ("committed", 1)


async def test_a_run_that_changed_nothing_records_its_check_once(trials: Trials) -> None:
    checks = "SELECT count(*) FROM status_check_logs"
    before = (await rows(trials.url, checks))[0][0]
    async with proxied(trials.url) as (proxy, url):
        proxy.faults.cut_answer = b"COMMIT"
        report = await trials.apply("at first", url)
    assert (report.outcome, report.error) == ("in_sync", None)
    assert (await rows(trials.url, checks))[0][0] == before + 1


async def test_an_outcome_that_cannot_be_looked_up_is_unknown(trials: Trials) -> None:
    async with proxied(trials.url) as (proxy, url):
        proxy.faults.cut_answer = b"COMMIT"
        proxy.at(await _commit_of(trials), lambda: refuse(proxy))
        report = await trials.apply("who knows", url)
    assert report.error is not None
    assert (report.outcome, report.error.code, report.exit_code) == ("failed", "commit_unknown", 1)
    assert "not known" in report.error.message


async def _commit_of(trials: Trials) -> int:
    """Returns which of an apply's messages is the COMMIT."""
    async with proxied(trials.url) as (proxy, url):
        await trials.apply("counted", url)
        texts = [message.text for message in proxy.traffic.messages]
    return texts.index("COMMIT") + 1


def refuse(proxy: FaultProxy) -> bool:
    proxy.faults.refuse = True
    return False


async def test_a_failed_run_is_recorded_over_a_new_connection(trials: Trials) -> None:
    async with proxied(trials.url) as (proxy, url):
        proxy.at(await _commit_of(trials) - 2, lambda: True)
        report = await trials.apply("never", url)
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "commit_lost")
    last = (await chain_of(trials.url))[-1]
    assert (last.kind, last.action) == ("run", "failed")
    assert "commit_lost" in str(last.fields)
