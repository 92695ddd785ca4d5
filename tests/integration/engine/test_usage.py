"""Usage reports that Connect does not accept: when they are sent again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import query_status
from reconciler.engine.usage import Usage, send_usage, send_waiting
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, Desired
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connect_server import answering, misbehaving
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of
from tests.support.fault_proxy import proxied


@pytest.mark.parametrize(("asked", "waits"), [("120", 120), ("86400", 300)])
async def test_a_report_waits_as_long_as_connect_asks(
    asked: str, waits: int, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Up to 5 minutes, like a check."""
    desired, run = await _applied(database, keys, tmp_path)
    refusal = answering(b"{}", 429, {"Retry-After": asked})
    async with misbehaving(refusal) as server:
        desired = replace(desired, connect=ConnectTarget(server.url, Secret("key-of-the-test")))
        usage = await send_usage(desired, run)
        tried = len(server.requests)
        left = await _left_s(database)
        assert usage.outcome is not None
        assert usage.outcome.problem is not None
        assert (usage.outcome.problem.code, usage.outcome.waiting) == ("connect_http_error", 1)
        await send_waiting(desired, run)
        assert len(server.requests) == tried
    assert waits - 10 < left <= waits


async def test_a_report_whose_commit_got_no_answer_is_queued_and_sent_once(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """It used to count as failed, and the next `usage --send` sent two."""
    desired, run = await _applied(database, keys, tmp_path)

    async def sent(url: Secret) -> Usage:
        return await send_usage(replace(desired, connect=to, database=replace(desired.database, url=url)), run)

    async with misbehaving(answering(b"{}")) as server, proxied(database) as (proxy, url):
        to = ConnectTarget(server.url, Secret("key-of-the-test"))
        await sent(url)
        first = len(proxy.traffic.messages)  # has a longer handshake than the following ones
        await sent(url)
        texts = [message.text for message in proxy.traffic.messages]
        queued = next(n for n, text in enumerate(texts[first:]) if "INSERT INTO fivrec.usage_outbox" in text)

        def cut_the_next_commit() -> bool:
            proxy.faults.cut_answer = b"COMMIT"
            return False

        proxy.at(len(texts) + queued + 1, cut_the_next_commit)
        usage = await sent(url)
        assert proxy.traffic.cuts == 1
    assert usage.outcome is not None
    assert usage.outcome.taken == (usage.id,)
    assert await run_sql(database, "SELECT count(*) FROM fivrec.usage_outbox") == [(3,)]


async def test_reports_that_are_refused_for_ever_keep_no_newer_one_back(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """For example those of an environment that Connect rejects: a hundred of them are tried at once, and more wait."""
    desired, run = await _applied(database, keys, tmp_path)

    async def by_key(writer: asyncio.StreamWriter) -> None:
        refused = (server.header("idempotency-key", -1) or "").startswith("old-")
        await answering(b"{}", 422 if refused else 200)(writer)

    async with misbehaving(by_key) as server:
        desired = replace(desired, connect=ConnectTarget(server.url, Secret("key-of-the-test")))
        first = await send_usage(desired, run)
        assert first.outcome is not None
        assert first.outcome.sent == 1
        await run_sql(
            database,
            "INSERT INTO fivrec.usage_outbox (id, instance, environment, payload, created_at) "
            "SELECT 'old-' || n, instance, environment, payload, created_at - n * interval '1 hour' "
            "FROM fivrec.usage_outbox, generate_series(1, 101) n",
        )
        second = await send_usage(desired, run)
    assert second.outcome is not None
    assert second.id in second.outcome.taken
    assert [server.header("idempotency-key", number) for number in (1, -1)] == ["old-99", second.id]
    assert await run_sql(database, "SELECT count(*) FROM fivrec.usage_outbox WHERE sent_at IS NULL") == [(101,)]


async def test_a_report_that_is_refused_for_what_it_holds_waits_ever_longer(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = await _applied(database, keys, tmp_path)
    waited = []
    async with misbehaving(answering(b"{}", 409)) as server:
        desired = replace(desired, connect=ConnectTarget(server.url, Secret("key-of-the-test")))
        await send_usage(desired, run)
        for attempts in (2, 3, 30):
            waited.append(round(await _left_s(database), -2))
            await run_sql(database, f"UPDATE fivrec.usage_outbox SET attempts = {attempts - 1}")
            await send_waiting(desired, run, all_of_them=True)
        waited.append(round(await _left_s(database), -2))
    assert waited == [300, 600, 1200, 86400]
    view = await query_status(desired, run)
    assert view is not None
    assert view.unsent is not None
    assert (view.unsent.count, view.unsent.error) == (1, "Fi.V Connect API returned 409")


async def _applied(database: Secret, keys: KeyRing, tmp_path: Path) -> tuple[Desired, Run]:
    environment = {"name": "development", "isolation": "constraints", "purge_development_data": False}
    desired, run = desired_of(document(environment=environment), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).outcome == "changed"
    return desired, run


async def _left_s(database: Secret) -> float:
    async with await psycopg.AsyncConnection.connect(database.reveal()) as conn:
        query = "SELECT extract(epoch FROM next_attempt_at - now())::float8 FROM fivrec.usage_outbox"
        ((left,),) = await (await conn.execute(query)).fetchall()
    return float(left)
