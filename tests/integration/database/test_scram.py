"""Logins by SCRAM keys on a real server: they are admitted, and a changed password is noticed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import psycopg
import pytest
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from reconciler.database import scram
from reconciler.database.connection import Connection, connect
from reconciler.database.scram import ObservedConnection
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from tests.support.connections import Connect

pytestmark = [
    pytest.mark.usefixtures("direct"),
    pytest.mark.skipif(pq.version() < 180_000, reason="this libpq takes no SCRAM keys"),
]


@pytest.fixture(autouse=True)
def _traces_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "_traces", iter(range(1000)))


@pytest.fixture
def url(database: Secret, owner_of: Callable[[Secret], Secret]) -> Secret:
    return owner_of(database)


def has_keys(conn: Connection) -> bool:
    return any(item.keyword == b"scram_client_key" and item.val for item in conn.pgconn.info)


async def three(url: Secret, open_connection: Connect) -> None:
    opened = [await open_connection(url) for _ in range(3)]
    assert not any(map(has_keys, opened))
    if not isinstance(opened[-1], ObservedConnection) or opened[-1].salt is None:
        pytest.skip("this server does not log in by SCRAM")


def set_password(database: Secret, url: Secret, password: str) -> None:
    user = conninfo_to_dict(url.reveal())["user"]
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(str(user)), password))


async def test_the_fourth_connection_of_a_login_is_by_keys(url: Secret, open_connection: Connect) -> None:
    await three(url, open_connection)
    for _ in range(2):
        conn = await open_connection(url)
        assert has_keys(conn)
        assert await (await conn.execute("SELECT current_user")).fetchone() == (conn.info.user,)


async def test_a_password_from_the_environment_is_known_too(
    url: Secret, open_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = str(conninfo_to_dict(url.reveal())["password"])
    monkeypatch.setenv("PGPASSWORD", password)
    await three(without := Secret(url.reveal().replace(f":{password}@", "@")), open_connection)
    assert has_keys(await open_connection(without))


async def test_a_new_salt_costs_one_refusal_and_then_the_password_is_used(
    database: Secret, url: Secret, open_connection: Connect
) -> None:
    await three(url, open_connection)
    set_password(database, url, str(conninfo_to_dict(url.reveal())["password"]))
    for _ in range(4):
        assert not has_keys(await open_connection(url))


async def test_another_password_is_reported_as_usual(database: Secret, url: Secret, open_connection: Connect) -> None:
    await three(url, open_connection)
    set_password(database, url, "another")
    with pytest.raises(DatabaseError) as raised:
        await connect(url, application_name="fivrec test")
    assert raised.value.code == "database_auth"


async def test_what_keys_can_not_change_is_not_asked_twice(
    database: Secret, url: Secret, open_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(url, open_connection)
    asked = []
    monkeypatch.setattr(ObservedConnection, "_connect_gen", lambda *_: asked.append(1))
    with pytest.raises(DatabaseError) as raised:
        await connect(url, application_name="fivrec test", dbname="no_such_database")
    assert (raised.value.code, asked) == ("database_missing", [])
    assert has_keys(await open_connection(url))


async def test_a_watched_login_that_fails_is_reported_as_usual(url: Secret, open_connection: Connect) -> None:
    await open_connection(url)
    with pytest.raises(DatabaseError) as raised:
        await connect(url, application_name="fivrec test", dbname="no_such_database")
    assert raised.value.code == "database_missing"


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EMFILE])
async def test_the_password_is_used_if_no_file_in_memory_is_available(
    url: Secret, open_connection: Connect, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refused(*_: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "memfd_create", refused)
    for _ in range(4):
        assert not has_keys(await open_connection(url))
