"""Pipelines on a real server: what they hold is sent at once, and all else is as in psycopg."""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString

import psycopg
import pytest

from reconciler.database.connection import Connection, with_deadline
from reconciler.database.pipeline import MOST_BYTES
from reconciler.database.transaction import read_more
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from tests.support.connections import Connect
from tests.support.fault_proxy import FaultProxy, server_of, through


async def in_a_pipeline(conn: Connection, *texts: str, then: Callable[[], None] = lambda: None) -> None:
    async with with_deadline(conn), conn.pipeline():
        for text in texts:
            await conn.execute(text.encode())
        then()


@pytest.mark.usefixtures("direct")
async def test_a_pipeline_is_one_write(database: Secret, open_connection: Connect) -> None:
    async with FaultProxy(*server_of(database)) as proxy:
        conn = await open_connection(through(database, proxy.port), "fivrec test")
        proxy.traffic.chunks.clear()
        async with conn.pipeline():
            cursors = [await conn.execute("SELECT %(number)s::integer", {"number": number}) for number in range(20)]
        rows = [await cursor.fetchone() for cursor in cursors]
        written = [size for direction, size in proxy.traffic.chunks if direction == "to_server"]
        assert (rows, len(written)) == ([(number,) for number in range(20)], 1)


async def test_a_result_may_be_asked_for_within(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    async with conn.pipeline() as pipeline:
        first = await (await conn.execute("SELECT 1")).fetchone()
        await pipeline.sync()
        later = await conn.execute("SELECT 2")
    assert (first, await later.fetchone()) == ((1,), (2,))


async def test_the_first_error_is_the_pipelines(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    with pytest.raises(DatabaseError, match="SQLSTATE 22012"):
        await in_a_pipeline(conn, "BEGIN", "SELECT 1/0", "SELECT nothing_of_this_name", "COMMIT")
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    await conn.rollback()
    assert await (await conn.execute("SELECT 3")).fetchone() == (3,)


async def test_data_larger_than_any_buffer_passes_through(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    text = "x" * 4_000_000
    async with conn.pipeline():
        cursors = [await conn.execute("SELECT %(text)s::text, %(text)s::text", {"text": text}) for _ in range(4)]
    assert [await cursor.fetchone() for cursor in cursors] == [(text, text)] * 4


async def test_statements_are_prepared_as_they_repeat(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    conn.prepare_threshold = 2
    for number in range(5):
        async with conn.pipeline():
            cursors = [await conn.execute("SELECT %(number)s::integer + 1", {"number": number}) for _ in range(2)]
        assert [await cursor.fetchone() for cursor in cursors] == [(number + 1,)] * 2
    prepared = await conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%::integer + 1'")
    assert await prepared.fetchone() == (1,)


async def test_an_exception_within_leaves_nothing_behind(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)

    def fail() -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        await in_a_pipeline(conn, "BEGIN", "CREATE TABLE left_behind (id integer)", then=fail)
    await conn.rollback()
    found = await conn.execute("SELECT to_regclass('left_behind')")
    assert await found.fetchone() == (None,)


@pytest.mark.usefixtures("direct")
async def test_a_connection_lost_within_is_an_error(database: Secret, open_connection: Connect) -> None:
    async with FaultProxy(*server_of(database)) as proxy:
        conn = await open_connection(through(database, proxy.port), "fivrec test")
        with pytest.raises(DatabaseError) as caught:
            await in_a_pipeline(conn, "BEGIN", "SELECT 1", then=proxy.drop_all)
        assert (caught.value.code, conn.closed) == ("database_unreachable", True)


@pytest.mark.usefixtures("direct")
async def test_more_data_than_a_reading_may_take_is_broken_off(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    half = f"SELECT repeat('x', {MOST_BYTES // 2})"
    await in_a_pipeline(conn, half)
    await in_a_pipeline(conn, half)  # each has the whole bound
    with pytest.raises(DatabaseError, match="more than 128 MiB") as raised:
        await in_a_pipeline(conn, half, half, half)
    assert (raised.value.code, conn.closed) == ("too_much_data", True)


@pytest.mark.usefixtures("direct")
async def test_the_bound_counts_many_small_rows(
    database: Secret, open_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.database.pipeline.MOST_BYTES", 1_000_000)
    conn = await open_connection(database)
    await in_a_pipeline(conn, "SELECT repeat('x', 100) FROM generate_series(1, 5000)")
    with pytest.raises(DatabaseError) as raised:
        await in_a_pipeline(conn, "SELECT repeat('x', 100) FROM generate_series(1, 500000)")
    assert raised.value.code == "too_much_data"


@pytest.mark.parametrize(
    "text",
    ["SELECT generate_series(1, 11)", """SELECT '[[], {}, {"a": 1, "b": [1, 2]}]'::jsonb FROM generate_series(1, 2)"""],
    ids=["rows", "items of JSON"],
)
async def test_rows_and_items_of_json_have_bounds_of_their_own(
    text: LiteralString, database: Secret, open_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.database.pipeline.MOST_ROWS", 10)
    monkeypatch.setattr("reconciler.database.pipeline.MOST_PARTS", 10)
    conn = await open_connection(database)
    fitting = await read_more(
        conn, {"rows": "SELECT generate_series(1, 10)", "json": "SELECT '[[], {}, 1]'::jsonb"}, {}
    )
    assert [len(rows) for rows in fitting.values()] == [10, 1]
    with pytest.raises(DatabaseError, match="items of JSON") as raised:
        async with with_deadline(conn, 5):
            await read_more(conn, {"rows": text}, {})
    assert raised.value.code == "too_much_data"
