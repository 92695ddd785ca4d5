"""Login attempts, revoked tokens, kept connections: on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from reconciler.database import accounts, login_limit
from reconciler.database.accounts import Account, TokenState
from reconciler.database.connection import Connection, connect
from reconciler.database.login_limit import LoginLimit
from reconciler.database.pool import ConnectionPool
from reconciler.database.rows import Scope
from reconciler.database.schema import build_migration_sql, read_catalogue
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from tests.support.connections import lent

SCOPE = Scope("acme", "production")
LIMIT = LoginLimit(failures=10, window_s=900)
EMAIL = "admin@empresa.com"


@pytest.fixture
def ready(database: Secret) -> Secret:
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(build_migration_sql("public"))
    return database


@pytest.fixture
async def conn(ready: Secret) -> AsyncIterator[Connection]:
    opened = await connect(ready, application_name="test")
    yield opened
    await opened.close()


async def fail(conn: Connection, email: str = EMAIL, address: str = "10.0.0.1") -> bool:
    """Make one failing attempt. Returns whether it was admitted."""
    return await login_limit.begin_attempt(conn, SCOPE, email, address, LIMIT) is not None


async def test_the_eleventh_attempt_of_an_account_is_refused(conn: Connection) -> None:
    tries = [await fail(conn, address=f"10.0.0.{number}") for number in range(12)]
    assert tries == [True] * 10 + [False] * 2


async def test_the_eleventh_attempt_of_an_address_is_refused(conn: Connection) -> None:
    tries = [await fail(conn, email=f"someone{number}@empresa.com") for number in range(12)]
    assert tries == [True] * 10 + [False] * 2


async def test_a_network_of_ipv6_is_one_address(conn: Connection) -> None:
    """Its owner can use another address of it for each attempt."""
    memory, now = login_limit.AttemptsInMemory(), 1000.0
    for in_memory in (False, True):
        tries = []
        for number in range(12):
            email, address = f"someone{number}@empresa.com", f"2001:db8:1:2:{number:x}::1"
            if in_memory:
                tries.append(memory.begin(SCOPE, email, address, LIMIT, now))
            else:
                tries.append(await fail(conn, email, address))
        assert tries == [True] * 10 + [False] * 2
    assert await fail(conn, address="2001:db8:1:3::1")
    assert [await fail(conn, f"{n}@x.com", f"{lead}10.0.0.1") for n in range(6) for lead in ("", "::ffff:")] == (
        [True] * 10 + [False] * 2
    )


async def test_attempts_at_once_are_counted_one_by_one(ready: Secret) -> None:
    pool = ConnectionPool(at_once=20)

    async def one() -> bool:
        async with lent(pool, ready) as conn:
            return await fail(conn)

    let_in = await asyncio.gather(*(one() for _ in range(30)))
    await pool.aclose()
    assert let_in.count(True) == 10


async def test_nobody_locks_an_account_out_from_elsewhere(conn: Connection) -> None:
    first = await login_limit.begin_attempt(conn, SCOPE, EMAIL, "10.0.0.1", LIMIT)
    assert first is not None
    await login_limit.record_success(conn, SCOPE, first)
    for number in range(20):
        await fail(conn, address=f"10.9.9.{number}")
    assert await fail(conn, address="10.0.0.1")
    assert not await fail(conn, address="10.0.0.2")


async def test_a_success_forgives_its_own_failures_and_the_window_all(conn: Connection) -> None:
    for _ in range(9):
        await fail(conn)
    last = await login_limit.begin_attempt(conn, SCOPE, EMAIL, "10.0.0.1", LIMIT)
    assert last is not None
    await login_limit.record_success(conn, SCOPE, last)
    assert await fail(conn)
    assert not await fail(conn)  # the address has failed ten times, whatever the account
    await conn.execute("UPDATE fivrec.logins SET at = at - interval '15 minutes'")
    assert await fail(conn)


async def test_a_mistyped_account_name_is_not_stored(conn: Connection) -> None:
    await fail(conn, email="my-password-by-mistake")
    rows = await (await conn.execute("SELECT l::text FROM fivrec.logins l")).fetchall()
    assert "my-password-by-mistake" not in str(rows)


async def test_a_token_given_back_is_nobodys(conn: Connection) -> None:
    assert await accounts.read_token_state(conn, SCOPE, "none", "t1") == TokenState(None, False, False)
    await accounts.revoke(conn, SCOPE, "old", datetime.now(UTC) - timedelta(hours=2))
    await accounts.revoke(conn, SCOPE, "t1", datetime.now(UTC) + timedelta(minutes=15))
    assert (await accounts.read_token_state(conn, SCOPE, "none", "t1")).revoked
    assert not (await accounts.read_token_state(conn, SCOPE, "none", "t2")).revoked
    kept = await (await conn.execute("SELECT jti FROM fivrec.revoked_tokens")).fetchall()
    assert kept == [("t1",)]


async def test_without_fivrecs_schema_no_token_was_given_back(seed_database: Secret) -> None:
    conn = await connect(seed_database, application_name="test")
    try:
        assert not (await accounts.read_token_state(conn, SCOPE, "none", "t1")).revoked
    finally:
        await conn.close()


async def test_tokens_that_cannot_be_read_do_not_count_as_valid(conn: Connection, ready: Secret) -> None:
    with psycopg.connect(ready.reveal(), autocommit=True) as owner:
        owner.execute("ALTER TABLE fivrec.revoked_tokens ALTER jti TYPE integer USING 1")
    with pytest.raises(DatabaseError) as caught:
        await accounts.read_token_state(conn, SCOPE, "none", "t1")
    assert caught.value.code != accounts.SCHEMA_MISSING


USER_ID = "11111111-1111-4111-8111-111111111111"
ODD_USERS = {
    "an id that is a uuid": ("ALTER id DROP DEFAULT, ALTER id TYPE uuid USING id::uuid", USER_ID),
    "an id that is a number": ("ALTER id DROP DEFAULT, ALTER id TYPE bigint USING 7", "7"),
    "a role that is an enum": ("ALTER role DROP DEFAULT, ALTER role TYPE odd_role USING role::odd_role", USER_ID),
    "padded letters": ("ALTER email TYPE char(60), ALTER role TYPE char(9)", USER_ID),
    "a hash in bytes": ("ALTER password TYPE bytea USING convert_to(password, 'UTF8')", USER_ID),
    "no name": ("ALTER name DROP NOT NULL, ALTER name TYPE text USING NULL", USER_ID),
}
"""What the app did to users, and the id that the account has then."""


@pytest.mark.parametrize("name", ODD_USERS)
async def test_an_account_is_read_whatever_the_types_of_users(conn: Connection, name: str) -> None:
    altered, user_id = ODD_USERS[name]
    row = f"('{USER_ID}', 'Ana', 'admin@empresa.com', '$2b$12$x', 'admin')"
    await conn.execute(f"INSERT INTO users (id, name, email, password, role) VALUES {row}")
    await conn.execute("CREATE TYPE odd_role AS ENUM ('admin', 'agent')")
    await conn.execute("DROP TABLE conversations, messages CASCADE")
    await conn.execute(f"ALTER TABLE users {altered}".encode())
    await conn.commit()
    expected = Account(user_id, "" if name == "no name" else "Ana", EMAIL, Secret("$2b$12$x"), "admin")
    assert await accounts.read_account(conn, SCOPE, EMAIL) == expected
    assert await accounts.read_declared_account(conn, SCOPE, "Admin@empresa.com") == expected
    assert await accounts.read_token_state(conn, SCOPE, user_id, "t") == TokenState(expected, False, False)


@pytest.mark.usefixtures("direct")
async def test_a_kept_connection_is_used_again_and_a_dead_one_is_not(ready: Secret) -> None:
    pool = ConnectionPool(at_once=1)
    pids = []
    for _ in range(2):
        async with lent(pool, ready) as conn:
            pids.append(conn.info.backend_pid)
    with psycopg.connect(ready.reveal(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 30000)", [pids[0]])  # and wait until it is gone
    async with lent(pool, ready) as conn:
        pids.append(conn.info.backend_pid)
    await pool.aclose()
    assert pids[0] == pids[1] != pids[2]


async def test_connections_beyond_those_kept_are_closed(ready: Secret) -> None:
    pool, all_lent = ConnectionPool(at_once=4, kept=1), asyncio.Barrier(4)

    async def one() -> Connection:
        async with lent(pool, ready) as conn:
            await all_lent.wait()
            return conn

    used = await asyncio.gather(*(one() for _ in range(4)))
    assert sorted(conn.closed for conn in used) == [False, True, True, True]
    await pool.aclose()


async def test_the_catalogue_names_the_tables(conn: Connection) -> None:
    found = await read_catalogue(conn)
    assert {"fivrec.logins.account", "fivrec.logins: logins_account_idx", "fivrec.revoked_tokens.jti"} <= found
