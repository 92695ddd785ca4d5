"""Creating databases: by which login, for which owner, from which template, and dropped again by a refused run."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.database.connection import create_database, database_exists, drop_new_database
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, EnvironmentSpec
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.conftest import Connect
from tests.support.engine import desired_of, document, run_of
from tests.support.isolated import environment
from tests.support.watching import until

STATE = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datallowconn FROM pg_database WHERE datname = %s
"""


def with_login(url: Secret, user: str, password: str, database: str | None = None) -> Secret:
    parts = urlsplit(url.reveal())
    address = parts.netloc.rpartition("@")[2]
    path = parts.path if database is None else f"/{database}"
    return Secret(urlunsplit(parts._replace(netloc=f"{user}:{password}@{address}", path=path)))


def administer(url: str, statement: str, *values: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        cursor = conn.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def roles(postgres_url: str, absent_database: Secret) -> Iterator[Callable[..., tuple[str, str]]]:
    """Makes roles with these attributes; they are dropped after the test with the database."""
    made: list[str] = []

    def make(attributes: str = "", member_of: str = "") -> tuple[str, str]:
        name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(8)
        administer(postgres_url, f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{password}'")
        if member_of:
            administer(postgres_url, f"GRANT {member_of} TO {name}")
        made.append(name)
        return name, password

    yield make
    name = sql.Identifier(urlsplit(absent_database.reveal()).path.lstrip("/"))
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        for role in reversed(made):
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.usefixtures("direct")
async def test_the_provisioning_login_makes_what_the_urls_login_owns(
    absent_database: Secret, roles: Callable[..., tuple[str, str]], postgres_url: str, keys: KeyRing, tmp_path: Path
) -> None:
    owner = roles()
    provisioner = roles("CREATEDB", member_of=owner[0])
    url = with_login(absent_database, *owner)
    desired = desired_of(document(plans=None), url, connect=None)
    spec = DatabaseSpec(url, provision_url=with_login(absent_database, *provisioner, database="postgres"))
    report = await reconcile(replace(desired, database=spec), run_of(keys, tmp_path))
    assert (report.outcome, report.error) == ("changed", None)
    name = urlsplit(url.reveal()).path.lstrip("/")
    assert administer(postgres_url, STATE, name) == [(owner[0], "UTF8", True)]
    sessions = "SELECT FROM pg_stat_activity WHERE usename = %s"
    until(lambda: administer(postgres_url, sessions, provisioner[0]) == [])  # a session ends a moment after its client
    assert (await reconcile(replace(desired, database=spec), run_of(keys, tmp_path))).outcome == "in_sync"


@pytest.mark.usefixtures("direct")
async def test_a_provisioning_login_that_lacks_a_right_is_told_which(
    absent_database: Secret, roles: Callable[..., tuple[str, str]], postgres_url: str
) -> None:
    owner, neither, creator = roles(), roles(), roles("CREATEDB")
    url = with_login(absent_database, *owner)
    (has_options,) = administer(postgres_url, "SELECT current_setting('server_version_num')::integer >= 160000")[0]
    if has_options:
        administer(postgres_url, f"GRANT {owner[0]} TO {creator[0]} WITH SET FALSE")
    for login in (neither, creator):
        with pytest.raises(DatabaseError) as raised:
            await create_database(url, provision=with_login(absent_database, *login, database="postgres"))
        assert (raised.value.code, raised.value.hint) == (
            "database_denied",
            f"ALTER ROLE {login[0]} CREATEDB; GRANT {owner[0]} TO {login[0]}" + has_options * " WITH SET TRUE",
        )
        assert "(SQLSTATE 42501)" in raised.value.message
    assert not await database_exists(absent_database)
    administer(postgres_url, raised.value.hint)
    assert await create_database(url, provision=with_login(absent_database, *creator, database="postgres"))


@pytest.mark.usefixtures("direct")
async def test_without_the_database_postgres_template1_serves(
    absent_database: Secret, roles: Callable[..., tuple[str, str]], postgres_url: str
) -> None:
    login = roles("CREATEDB")
    maintenance = postgres_url.rpartition("/")[2]
    administer(postgres_url, f"REVOKE CONNECT ON DATABASE {maintenance} FROM PUBLIC")
    try:
        assert await create_database(with_login(absent_database, *login))
    finally:
        administer(postgres_url, f"GRANT CONNECT ON DATABASE {maintenance} TO PUBLIC")
    assert await database_exists(absent_database)


@pytest.mark.usefixtures("direct")
async def test_the_provisioning_urls_database_comes_first(
    absent_database: Secret, database: Secret, roles: Callable[..., tuple[str, str]], postgres_url: str
) -> None:
    owner = roles()
    provisioner = roles("CREATEDB", member_of=owner[0])
    for closed in ("postgres", "template1"):
        administer(postgres_url, f"REVOKE CONNECT ON DATABASE {closed} FROM PUBLIC")
    try:
        named = urlsplit(database.reveal()).path.lstrip("/")
        provision = with_login(absent_database, *provisioner, database=named)
        assert await create_database(with_login(absent_database, *owner), provision=provision)
    finally:
        for closed in ("postgres", "template1"):
            administer(postgres_url, f"GRANT CONNECT ON DATABASE {closed} TO PUBLIC")


@pytest.mark.usefixtures("direct")
async def test_what_template1_holds_is_not_in_a_new_database(absent_database: Secret, postgres_url: str) -> None:
    template = urlunsplit(urlsplit(postgres_url)._replace(path="/template1"))
    administer(template, "CREATE TABLE users (junk integer)")
    try:
        assert await create_database(absent_database)
    finally:
        administer(template, "DROP TABLE users")
    assert administer(absent_database.reveal(), "SELECT to_regclass('public.users') IS NULL") == [(True,)]


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("provisioned", [False, True])
async def test_a_refused_run_leaves_no_database_that_it_made(
    provisioned: bool,
    absent_database: Secret,
    roles: Callable[..., tuple[str, str]],
    keys: KeyRing,
    tmp_path: Path,
) -> None:
    login = roles("BYPASSRLS CREATEDB")
    url = with_login(absent_database, *login)
    desired = desired_of(document(plans=None, environment=environment(isolation="enforced")), url, connect=None)
    spec = DatabaseSpec(url)
    if provisioned:
        provisioner = roles("CREATEDB", member_of=login[0])
        spec = replace(spec, provision_url=with_login(absent_database, *provisioner, database="postgres"))
    desired = replace(desired, database=spec, environment=EnvironmentSpec("production", "enforced"))
    for _ in range(2):
        report = await reconcile(desired, run_of(keys, tmp_path))
        assert report.error is not None
        assert (report.outcome, report.exit_code, report.error.code) == ("refused", 3, "isolation_refused")
        assert not await database_exists(absent_database)
    assert (await preview(desired, run_of(keys, tmp_path))).outcome == "changed"
    assert not await database_exists(absent_database)


@pytest.mark.usefixtures("direct")
async def test_a_new_database_that_is_used_already_is_not_dropped(
    absent_database: Secret, open_connection: Connect
) -> None:
    await create_database(absent_database)
    conn, other = await open_connection(absent_database), await open_connection(absent_database)
    assert not await drop_new_database(conn, absent_database)
    await other.execute("CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    await other.close()
    assert not await drop_new_database(conn, absent_database)
    await conn.execute("DROP FUNCTION f()")
    assert await drop_new_database(conn, absent_database)
    assert conn.closed
    assert not await database_exists(absent_database)


@pytest.mark.usefixtures("direct")
async def test_runs_at_once_lose_nothing_to_one_that_is_refused(
    absent_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    fine = desired_of(document(plans=None), absent_database, connect=None)
    bound = document(plans=None, environment=environment(isolation="enforced"))
    refused = replace(
        desired_of(bound, absent_database, connect=None), environment=EnvironmentSpec("production", "enforced")
    )
    for number in range(4):
        reports = await asyncio.gather(
            reconcile(refused, run_of(keys, tmp_path, 2 * number)),
            reconcile(fine, run_of(keys, tmp_path, 2 * number + 1)),
        )
        if reports[1].outcome == "changed":
            assert (await preview(fine, run_of(keys, tmp_path))).outcome == "in_sync"
        else:
            assert reports[1].error is not None
        name = urlsplit(absent_database.reveal()).path.lstrip("/")
        server = urlunsplit(urlsplit(absent_database.reveal())._replace(path="/postgres"))
        administer(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
