"""Connections and databases on a real server: what is refused, and with which message."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from reconciler.database.connection import (
    connect,
    create_database,
    database_exists,
    database_name,
    rollback,
    with_deadline,
)
from reconciler.database.pipeline import Limits
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from tests.support.connections import Connect
from tests.support.listening import closed_port

QUICK = Limits(connect_s=2, total_s=5)


def changed(url: Secret, **parts: str) -> Secret:
    """Returns the URL with another user, password, host or port."""
    old = urlsplit(url.reveal())
    user = parts.get("user", old.username)
    password = parts.get("password", old.password)
    host, port = parts.get("host", old.hostname), parts.get("port", old.port)
    return Secret(urlunsplit(old._replace(netloc=f"{user}:{password}@{host}:{port}")))


async def refusal(url: Secret) -> DatabaseError:
    with pytest.raises(DatabaseError) as raised:
        await connect(url, limits=QUICK, application_name="fivrec test")
    error = raised.value
    assert "canary" not in f"{error.message} {error.hint} {error.__cause__!r} {error.__context__ and error.__cause__}"
    return error


async def test_a_connection_says_who_it_is(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database, "fivrec apply 1234abcd")
    cursor = await conn.execute("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    assert await cursor.fetchone() == ("fivrec apply 1234abcd",)


async def test_a_missing_database_has_its_own_error(absent_database: Secret) -> None:
    error = await refusal(absent_database)
    assert (error.code, error.exit_code) == ("database_missing", 1)
    assert database_name(absent_database) in error.message


@pytest.mark.usefixtures("direct")
async def test_a_wrong_password_has_its_own_error(database: Secret) -> None:
    assert (await refusal(changed(database, password="canary"))).code == "database_auth"
    assert (await refusal(changed(database, user="nobody-there", password="canary"))).code == "database_auth"


async def test_a_server_that_is_too_old_is_named(database: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.database.connection._OLDEST", 990_000)
    error = await refusal(database)
    assert (error.code, error.exit_code) == ("database_too_old", 1)
    assert re.search(r": PostgreSQL 1\d lacks", error.message)
    assert "PostgreSQL 15 or newer" in error.hint


async def test_a_server_that_does_not_answer_is_unreachable(database: Secret) -> None:
    with closed_port() as port:
        error = await refusal(changed(database, port=str(port), password="canary"))
    assert (error.code, "connection refused" in error.message) == ("database_unreachable", True)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        error = await refusal(changed(database, port=str(deaf.getsockname()[1]), password="canary"))
        assert (error.code, "no answer in time" in error.message) == ("database_unreachable", True)


async def test_a_host_that_is_no_host_is_unreachable(database: Secret) -> None:
    error = await refusal(changed(database, host="no-such-host.invalid", password="canary"))
    assert error.code == "database_unreachable"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("require_auth=canary", "require_auth"),
        pytest.param(
            "scram_client_key=canary",
            "SCRAM client key",
            marks=pytest.mark.skipif(psycopg.pq.version() < 180_000, reason="this libpq does not know the parameter"),
        ),
        ("sslmode=prefer&sslnegotiation=direct", "sslnegotiation with this sslmode"),
    ],
)
async def test_a_setting_that_libpq_refuses_is_named(database: Secret, setting: str, named: str) -> None:
    error = await refusal(Secret(f"{changed(database, password='canary').reveal()}?{setting}"))
    assert error.code == "database_url"
    assert error.message.endswith(f": libpq does not take the value of {named}")


async def test_a_service_that_no_file_defines_is_named(
    database: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text("[another]\nhost=127.0.0.1\n")
    url = Secret(changed(database, password="canary").reveal() + "?service=fivapp")
    for file, said in (
        ("services", 'the service "fivapp" is in no service file'),
        ("none", "no service file can be read"),
    ):
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / file))
        error = await refusal(url)
        assert (error.code, said in error.message, "pg_service.conf" in error.hint) == ("database_url", True, True)


@pytest.mark.usefixtures("direct")
async def test_the_third_host_is_reached_past_two_silent_ones(database: Secret) -> None:
    port = urlsplit(database.reveal()).port
    with socket.socket() as one, socket.socket() as two:
        for deaf in (one, two):
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
        ports = f"{one.getsockname()[1]},{two.getsockname()[1]},{port}"
        several = urlsplit(database.reveal())
        netloc = several.netloc.rpartition("@")[0] + "@127.0.0.1,localhost,127.0.0.1"
        url = urlunsplit(several._replace(netloc=netloc, query=f"port={ports}"))
        conn = await connect(Secret(url), limits=QUICK, application_name="fivrec test")
    assert conn.info.port == port
    await conn.close()


@pytest.mark.parametrize("wanted", ["standby", "read-only"])
async def test_session_attributes_that_no_server_has_are_named(wanted: str, database: Secret) -> None:
    error = await refusal(Secret(f"{database.reveal()}?target_session_attrs={wanted}"))
    assert error.code == "database_unreachable"
    assert "no server there matches target_session_attrs" in error.message
    assert "target_session_attrs" in error.hint


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ("gssencmode=require", "database_unreachable", "gssencmode asks for what this server, or this client, "),
        ("require_auth=none", "database_auth", "the server and this client can't agree on a way to log in"),
        ("channel_binding=require&require_auth=none", "database_auth", "can't agree on a way to log in"),
    ],
)
async def test_a_demand_that_can_not_be_met_is_named(database: Secret, asked: str, code: str, said: str) -> None:
    error = await refusal(Secret(f"{database.reveal()}?{asked}"))
    assert (error.code, said in error.message) == (code, True)


async def test_a_server_without_tls_is_refused_if_tls_is_mandatory(database: Secret) -> None:
    url = Secret(changed(database, password="canary").reveal() + "?sslmode=require")
    with psycopg.connect(database.reveal()) as conn:
        if conn.execute("SHOW ssl").fetchone() == ("on",):
            pytest.skip("this server speaks TLS")
    assert (await refusal(url)).code == "database_tls"


async def test_a_database_is_created_once(absent_database: Secret) -> None:
    assert not await database_exists(absent_database)
    assert await create_database(absent_database)
    assert await database_exists(absent_database)
    assert not await create_database(absent_database)


async def test_runs_that_create_one_database_at_once_all_find_it(absent_database: Secret) -> None:
    made = await asyncio.gather(*(create_database(absent_database) for _ in range(6)))
    assert sorted(made) == [False] * 5 + [True]


async def test_a_login_that_may_not_create_says_what_it_lacks(
    absent_database: Secret, database: Secret, owner_of
) -> None:
    owner = urlsplit(owner_of(database).reveal())
    url = changed(absent_database, user=owner.username, password=owner.password)
    with pytest.raises(DatabaseError) as raised:
        await create_database(url)
    assert raised.value.code == "database_denied"
    assert f"ALTER ROLE {owner.username} CREATEDB" in raised.value.hint


async def test_a_table_of_another_owner_says_whose_login_it_needs(
    database: Secret, owner_of, open_connection: Connect
) -> None:
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("CREATE TABLE users (id varchar)")
    conn = await open_connection(owner_of(database))
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10):
            await conn.execute("ALTER TABLE users ADD COLUMN name text")
    assert (raised.value.code, raised.value.hint) == (
        "database_denied",
        "run as the owner of what is named, or GRANT the owner's role to this login",
    )


TOO_LONG_FOR_AN_INDEX = """\
CREATE TABLE t (a text PRIMARY KEY);
INSERT INTO t SELECT string_agg('canary' || md5(n::text), '') FROM generate_series(1, 200) n"""


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT pg_sleep(5)", "statement_timeout"),
        ("SELECT * FROM nowhere", "schema_missing"),
        (
            "CREATE TABLE t (password text CHECK (password <> 'canary')); INSERT INTO t VALUES ('canary')",
            "rows_unfit",
        ),
        ("SELECT 'canary'::integer", "value_unfit"),
        (TOO_LONG_FOR_AN_INDEX, "value_unfit"),
        ("DO $$ BEGIN RAISE EXCEPTION 'canary'; END $$", "trigger_refused"),
        ("DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = 'XX999'; END $$", "database_error"),
        ("SET TRANSACTION READ ONLY; CREATE TABLE x ()", "database_read_only"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "database_unreachable"),
        ("DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = 'idle_session_timeout'; END $$", "database_unreachable"),
    ],
)
async def test_errors_have_different_codes_and_quote_no_value(
    statement: str, code: str, database: Secret, open_connection: Connect
) -> None:
    conn = await open_connection(database)
    await conn.execute(f"SET statement_timeout = '{300 if 'pg_sleep' in statement else 9000}ms'".encode())
    await conn.execute("BEGIN")
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10):
            await conn.execute(statement)
    assert raised.value.code == code
    assert "canary" not in f"{raised.value.message} {raised.value.hint} {raised.value.__cause__!r}"
    await rollback(conn)


async def test_a_name_of_the_apps_stays_in_its_line(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10):
            await conn.execute(
                'CREATE TABLE t (a int CONSTRAINT "x\n::error::\x1b[31m" CHECK (a > 0)); INSERT INTO t VALUES (0)'
            )
    assert raised.value.code == "rows_unfit"
    assert "x\\n::error::\\x1b[31m" in raised.value.message
    assert raised.value.message.isprintable()


async def test_a_lock_of_the_app_is_waited_for_no_longer_than_asked(database: Secret, open_connection: Connect) -> None:
    holder, conn = await open_connection(database), await open_connection(database)
    await holder.execute("CREATE TABLE t ()")
    await holder.execute("BEGIN; LOCK TABLE t")
    await conn.execute("SET lock_timeout = '200ms'")
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10):
            await conn.execute("BEGIN; LOCK TABLE t")
    assert raised.value.code == "lock_timeout"


@pytest.mark.usefixtures("direct")
async def test_rollback_of_a_dead_connection_closes_it(database: Secret, open_connection: Connect) -> None:
    conn = await open_connection(database)
    await conn.execute("BEGIN")
    with psycopg.connect(database.reveal(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
    await rollback(conn)
    assert conn.closed
    await rollback(conn)
