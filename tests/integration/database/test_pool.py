"""Kept connections: few, working ones, to the address that the name resolves to now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from reconciler.database import pool as pool_module
from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.pool import PREPARE_AFTER, ConnectionPool
from reconciler.database.store import Scope
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Snapshot
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import lent


async def use(pool: ConnectionPool, url: Secret) -> tuple[Connection, int]:
    """Returns the connection that was used, and its server process."""
    async with lent(pool, url) as conn:
        return conn, conn.info.backend_pid


async def test_the_one_unused_for_longest_goes_first(make_database: Callable[[], Secret]) -> None:
    pool = ConnectionPool(kept=2)
    first, second, third = make_database(), make_database(), make_database()
    one, two = await use(pool, first), await use(pool, second)
    assert await use(pool, first) == one
    await use(pool, third)
    assert len(pool) == 2
    assert two[0].closed
    assert await use(pool, first) == one
    await pool.aclose()
    assert (len(pool), one[0].closed) == (0, True)
    assert (pool._idle_of, pool._places, pool._lent) == ({}, {}, {})


async def test_an_idle_connection_makes_room_if_the_server_is_full(
    make_database: Callable[[], Secret], owner_of: Callable[[Secret], Secret]
) -> None:
    """Otherwise the first ones would keep all places, and the others would never get one."""
    pool = ConnectionPool()
    one, two = owner_of(make_database()), make_database()
    login = urlsplit(one.reveal())
    other = Secret(urlunsplit(login._replace(path=urlsplit(two.reveal()).path)))
    with psycopg.connect(two.reveal(), autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {login.username} CONNECTION LIMIT 1")  # type: ignore[arg-type]
    first, _ = await use(pool, one)
    second, _ = await use(pool, other)
    assert (first.closed, second.closed, len(pool)) == (True, False, 1)
    async with lent(pool, other):
        with pytest.raises(DatabaseError) as raised:
            await use(pool, one)  # no connection idles
    assert raised.value.code == "too_many_connections"
    await pool.aclose()


async def test_a_place_that_the_server_frees_late_is_waited_for(
    make_database: Callable[[], Secret], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy server counts a closed connection for longer than a tenth of a second."""
    pool, real, refused = ConnectionPool(), pool_module.connect, 0
    first, _ = await use(pool, make_database())

    async def connect(url: Secret, **more: Any) -> Connection:
        nonlocal refused
        if refused < 5:
            refused += 1
            raise DatabaseError("full", code="too_many_connections")
        return await real(url, **more)

    monkeypatch.setattr(pool_module, "connect", connect)
    second, _ = await use(pool, make_database())
    assert (first.closed, second.closed, len(pool)) == (True, False, 1)
    await pool.aclose()


async def test_one_that_the_server_left_is_not_used_again(database: Secret) -> None:
    pool = ConnectionPool()
    conn, pid = await use(pool, database)
    with psycopg.connect(database.reveal(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    again, process = await use(pool, database)
    assert (process != pid, again is not conn) == (True, True)
    await pool.aclose()


async def test_one_within_a_transaction_or_cut_off_is_closed(database: Secret) -> None:
    pool = ConnectionPool()
    async with lent(pool, database) as conn:
        await conn.execute("BEGIN")
    assert (len(pool), conn.closed) == (0, True)

    async def sleeping() -> None:
        async with lent(pool, database) as held:
            await held.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(sleeping())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(pool) <= 1
    conn, _ = await use(pool, database)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await pool.aclose()


async def test_a_database_whose_host_moved_is_connected_again(
    database: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(database.reveal())
    user = parts.netloc.rpartition("@")[0]
    named = Secret(urlunsplit(parts._replace(netloc=f"{user}@localhost:{parts.port}")))
    leads_to = ["127.0.0.1", "::1"]

    async def resolve_host(host: str) -> tuple[str, ...]:
        if not leads_to:
            raise OSError("no name server")
        return tuple(leads_to)

    monkeypatch.setattr(pool_module, "resolve_host", resolve_host)
    monkeypatch.setattr(pool_module, "NAMES_S", 0.05)
    pool = ConnectionPool()
    first = await use(pool, named)
    for _ in range(3):
        assert await use(pool, named) == first
        await asyncio.sleep(0.06)
    leads_to.clear()  # an unresolved name does not mean another address
    for _ in range(3):
        assert await use(pool, named) == first
        await asyncio.sleep(0.06)
    leads_to.append("192.0.2.7")
    async with asyncio.timeout(30):
        while (await use(pool, named))[1] == first[1]:
            await asyncio.sleep(0.06)
    await pool.aclose()


@pytest.mark.parametrize("locked", [False, True])
async def test_prepared_statements_still_read_an_altered_table(
    migrated: Secret, scope: Scope, keys: KeyRing, locked: bool
) -> None:
    pool = ConnectionPool()

    async def read() -> tuple[Connection, Snapshot]:
        async with lent(pool, migrated) as conn:
            snapshot = await store.begin(conn, scope, keys, lock=locked)
            await conn.execute("COMMIT")
            return conn, snapshot

    for _ in range(PREPARE_AFTER + 2):
        before, snapshot = await read()
    with psycopg.connect(migrated.reveal(), autocommit=True) as app:
        app.execute("ALTER TABLE users ALTER COLUMN name TYPE varchar(200), ADD COLUMN team text")
        app.execute("ALTER TABLE plans ALTER COLUMN description TYPE varchar(900)")
    assert await read() == (before, snapshot)
    await pool.aclose()
