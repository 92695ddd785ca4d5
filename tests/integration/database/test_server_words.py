"""Refusals by servers, poolers and clouds are classified correctly, with the original message and no secret."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.database.connection import connect, rollback, with_deadline
from reconciler.database.pipeline import Limits
from reconciler.engine.reconcile import reconcile
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.conftest import Connect
from tests.support.engine import desired_of, document, run_of
from tests.support.pgbouncer import through_pgbouncer

QUICK = Limits(connect_s=2, total_s=5)


async def refusal(url: str) -> tuple[str, str, str]:
    with pytest.raises(DatabaseError) as raised:
        await connect(Secret(url), limits=QUICK, application_name="fivrec test")
    error = raised.value
    assert "canary" not in f"{error.message} {error.hint} {error.__cause__!r}"
    return error.code, error.message.partition(": ")[2], error.hint


@asynccontextmanager
async def saying(severity: str, sqlstate: str, words: str) -> AsyncIterator[str]:
    """Yields the URL of a server that begins every session with this error."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        fields = {"S": severity, "V": "FATAL", "C": sqlstate, "M": words}
        body = b"".join(name.encode() + value.encode() + b"\0" for name, value in fields.items()) + b"\0"
        writer.write(b"E" + struct.pack("!I", len(body) + 4) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://fiv:canary@127.0.0.1:{port}/fivapp_a?sslmode=disable"


LET_IN = "the server does not let fiv in: "
SAID = {
    "28P01 password": ('password authentication failed for user "fiv"', "database_auth", LET_IN),
    "28000 NOLOGIN": ('role "fiv" is not permitted to log in', "database_auth", LET_IN),
    "28000 no role": ('role "fiv" does not exist', "database_auth", LET_IN),
    "57P03 start": (
        "the database system is starting up",
        "database_unreachable",
        "the server is starting or stopping: ",
    ),
    "57P03 stop": (
        "the database system is shutting down",
        "database_unreachable",
        "the server is starting or stopping: ",
    ),
    "53300 all": ("sorry, too many clients already", "too_many_connections", "the server has no free connection: "),
    "53300 role": (
        'too many connections for role "fiv"',
        "too_many_connections",
        "the login has all the connections that it may have: ",
    ),
    "53300 database": (
        'too many connections for database "fivapp_a"',
        "too_many_connections",
        "the database has all the connections that it may have: ",
    ),
    "42501 connect": (
        'permission denied for database "fivapp_a"',
        "database_denied",
        "fiv may not connect to the database: ",
    ),
    "55000 closed": (
        'database "fivapp_a" is not currently accepting connections',
        "database_unreachable",
        "the database is closed: ",
    ),
}


@pytest.mark.parametrize("name", SAID)
async def test_a_refusal_carries_the_servers_words_and_its_sqlstate(name: str) -> None:
    words, code, before = SAID[name]
    async with saying("FATAL", name[:5], words) as url:
        assert (await refusal(url))[:2] == (code, f"{before}{words} (SQLSTATE {name[:5]})")


@pytest.mark.parametrize("what", ["role", "database"])
async def test_a_connection_limit_names_what_to_alter(what: str) -> None:
    async with saying("FATAL", "53300", f'too many connections for {what} "fiv"') as url:
        assert (await refusal(url))[2].startswith(f"ALTER {what.upper()} … CONNECTION LIMIT, or ")


@pytest.mark.parametrize("words", ["no more connections allowed (max_client_conn)", "Max client connections reached"])
async def test_a_full_pooler_is_distinguished_from_a_full_server(words: str) -> None:
    async with saying("FATAL", "08P01", words) as url:
        assert (await refusal(url))[:2] == ("too_many_connections", f"the pooler has no free connection: {words}")


@pytest.mark.parametrize(
    "words",
    [
        "Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.",
        "The endpoint has been disabled. Enable it using Neon API and retry.",
        "Tenant or user not found",
        "SSL certificate quota exceeded for this project",
    ],
)
async def test_a_clouds_own_words_are_shown_and_not_guessed_at(words: str) -> None:
    async with saying("ERROR", "XX000", words) as url:
        code, message, _ = await refusal(url)
    assert (code, message) == ("database_error", f"the server refused the connection: {words}")


async def test_a_password_in_the_servers_words_is_masked() -> None:
    async with saying("FATAL", "28000", "no pg_hba.conf entry for user fiv, password canary") as url:
        code, message, _ = await refusal(url)
    assert (code, message.endswith("password (sensitive) (SQLSTATE 28000)")) == ("database_auth", True)


@pytest.mark.usefixtures("direct")
async def test_a_real_server_says_why_it_lets_nobody_in(database: Secret, login: Callable[..., str]) -> None:
    url = login(database)
    role, name = urlsplit(url).username, urlsplit(url).path.lstrip("/")
    assert role is not None
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        steps = {
            "ALTER ROLE {role} NOLOGIN": ("database_auth", "is not permitted to log in (SQLSTATE 28000)"),
            "ALTER ROLE {role} LOGIN CONNECTION LIMIT 0": ("too_many_connections", f'"{role}" (SQLSTATE 53300)'),
            "ALTER ROLE {role} CONNECTION LIMIT -1; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC": (
                "database_denied",
                f'permission denied for database "{name}" (SQLSTATE 42501)',
            ),
        }
        for step, (code, end) in steps.items():
            for one in step.split("; "):
                names = {"role": sql.Identifier(role), "name": sql.Identifier(name)}
                conn.execute(sql.SQL(one).format(**names))  # type: ignore[arg-type]
            found = await refusal(url)
            assert (found[0], found[1].endswith(end)) == (code, True), found


@pytest.mark.usefixtures("direct")
async def test_pgbouncer_in_statement_mode_is_named(database: Secret, keys: KeyRing, tmp_path) -> None:
    with through_pgbouncer(database.reveal(), mode="statement") as url:
        report = await reconcile(desired_of(document(), Secret(url)), run_of(keys, tmp_path))
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "database_pooler")
    assert "PgBouncer is in statement mode" in report.error.message
    assert "pool_mode = transaction" in report.error.hint


TABLE = "CREATE TABLE t (password text CHECK (password <> 'canary'), n integer UNIQUE); INSERT INTO t VALUES ('a', 1);"
FIVRECS_OWN = "CREATE FUNCTION fivrec.f() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SELECT FROM nowhere'; END$$"
STATEMENTS = {
    "0A": ("SELECT 1 UNION SELECT 2 FOR UPDATE", "is not allowed with UNION/INTERSECT/EXCEPT (SQLSTATE 0A000)"),
    "25": ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "must be called before any query (SQLSTATE 25001)"),
    "53": (
        "SET work_mem = '64kB'; SET temp_file_limit = 1; SELECT g FROM generate_series(1, 20000) g ORDER BY g",
        "(1kB) (SQLSTATE 53400)",
    ),
    "54": (f"SELECT {', '.join(['1'] * 2000)}", "target lists can have at most 1664 entries (SQLSTATE 54011)"),
    "55": ("SELECT lastval()", "lastval is not yet defined in this session (SQLSTATE 55000)"),
    "57": ("SELECT pg_sleep(5)", "canceling statement due to statement timeout (SQLSTATE 57014)"),
    "XX": ("SELECT int4_avg_accum(array[1]::bigint[], 1)", "expected 2-element int8 array (SQLSTATE XX000)"),
    "22": ("SELECT 'canary'::integer", "its column (SQLSTATE 22P02)"),
    "23": (f"{TABLE} INSERT INTO t VALUES ('canary', 2)", "(t, t_password_check) (SQLSTATE 23514)"),
    "23 double": (f"{TABLE} INSERT INTO t VALUES ('b', 1)", "(t, t_n_key) (SQLSTATE 23505)"),
    "P0": ("DO $$ BEGIN RAISE EXCEPTION 'canary'; END $$", "refused what was to be written (SQLSTATE P0001)"),
    "42 of fivrec's own": (
        f"CREATE SCHEMA fivrec; {FIVRECS_OWN}; SELECT fivrec.f()",
        'relation "nowhere" does not exist (SQLSTATE 42P01)',
    ),
    "22 of the app": (
        "CREATE FUNCTION f() RETURNS integer LANGUAGE plpgsql AS $$BEGIN RETURN 'canary'; END$$; SELECT f()",
        "the app's function f(), which a write runs, refused or failed (SQLSTATE 22P02)",
    ),
    "53 of the app": ("DO $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '53100'; END $$", "(SQLSTATE 53100)"),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statements_error_carries_words_that_quote_no_row(
    name: str, database: Secret, open_connection: Connect
) -> None:
    statement, end = STATEMENTS[name]
    conn = await open_connection(database)
    await conn.execute(f"SET statement_timeout = '{300 if 'pg_sleep' in statement else 9000}ms'".encode())
    await conn.execute("BEGIN; SELECT")
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10):
            await conn.execute(statement.encode())
    assert raised.value.message.endswith(str(end)), raised.value.message
    assert "canary" not in f"{raised.value.message} {raised.value.hint} {raised.value.__cause__!r}"
    await rollback(conn)


@pytest.mark.usefixtures("direct")
async def test_a_session_that_was_ended_is_named_by_its_database(database: Secret, open_connection: Connect) -> None:
    """libpq keeps nothing of a lost connection, and in a pipeline not even the server's message."""
    conn, other = await open_connection(database), await open_connection(database)
    await other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
    with pytest.raises(DatabaseError) as raised:
        async with with_deadline(conn, 10), conn.pipeline():
            await conn.execute("SELECT 1")
    url, error = urlsplit(database.reveal()), raised.value
    place = f"database {url.path.lstrip('/')} on 127.0.0.1:{url.port}"
    assert (error.code, error.message.partition(": ")[0]) == ("database_unreachable", place)
    assert "idle_session_timeout" in error.hint
