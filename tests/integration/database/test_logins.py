"""The logins of docs/logins.md: every statement of the page runs, and each login may do its job and no more."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import errors

from reconciler.database.status_queries import HistoryFilter, LogFilter, read_checks, read_history, read_status
from reconciler.database.store import Scope
from reconciler.database.usage_outbox import read_usage_counts
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.conftest import Connect
from tests.support.cli_process import fivrec
from tests.support.engine import INSTANCE, desired_of, document, run_of

ROOT = Path(__file__).parents[3]
PART = re.compile(r"^-- (\w+): as .*\n((?:(?!-- |```).+\n)+)", re.MULTILINE)
ROLES = ("fivrec_abc", "fivrec_provision", "app_abc", "fivrec_read")


def parts(text: str) -> dict[str, str]:
    return dict(PART.findall(text))


def test_the_page_and_the_command_have_the_same_statements() -> None:
    page = (ROOT / "docs/logins.md").read_text(encoding="utf-8")
    printed = fivrec("sql", "--logins")
    assert (printed.code, printed.stderr) == (0, "")
    assert parts(page) == parts(printed.stdout)
    assert list(parts(page)) == ["provision", "adopt", "fivrec", "app", "read"]


@dataclass(frozen=True)
class Logins:
    """The roles of the page under unique names, and how to become each of them."""

    server: str
    name: str
    suffix: str
    password: str

    def run(self, part: str, role: str | None = None) -> None:
        text = parts((ROOT / "sql/logins.sql").read_text(encoding="utf-8"))[part]
        names = {"fivapp_abc": self.name} | {one: one + self.suffix for one in ROLES}
        text = re.sub(r"\b(" + "|".join(names) + r")\b", lambda found: names[found[0]], text)
        url = self.url(role, self.name) if role else self.server
        if part == "adopt":
            url = urlunsplit(urlsplit(self.server)._replace(path=f"/{self.name}"))
        with psycopg.connect(url, autocommit=True) as conn:
            for statement in filter(None, map(str.strip, text.split(";"))):
                conn.execute(statement.encode())
            if part == "provision":
                for one in ROLES:
                    conn.execute(f"ALTER ROLE {one}{self.suffix} PASSWORD '{self.password}'".encode())

    def url(self, role: str, database: str) -> str:
        server = urlsplit(self.server)
        address = server.netloc.rpartition("@")[2]
        return urlunsplit(server._replace(netloc=f"{role}{self.suffix}:{self.password}@{address}", path=f"/{database}"))


@pytest.fixture
def logins(postgres_url: str, absent_database: Secret) -> Iterator[Logins]:
    """Made by the page's first part; all of it is removed after the test."""
    name = urlsplit(absent_database.reveal()).path.lstrip("/")
    made = Logins(postgres_url, name, f"_{secrets.token_hex(4)}", secrets.token_hex(8))
    made.run("provision")
    yield made
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        for role in ROLES:
            conn.execute(f"DROP ROLE {role}{made.suffix}".encode())


async def apply(logins: Logins, keys: KeyRing, folder: Path, login: str = "fivrec_abc"):
    url = Secret(logins.url(login, logins.name))
    spec = DatabaseSpec(url, provision_url=Secret(logins.url("fivrec_provision", "postgres")))
    desired = replace(desired_of(document(), url), database=spec)
    return desired, await reconcile(desired, run_of(keys, folder))


@pytest.fixture
async def made(logins: Logins, keys: KeyRing, tmp_path: Path) -> Logins:
    """A database created by the provisioning login and filled by fivrec's, with the rights of the other logins."""
    _, report = await apply(logins, keys, tmp_path)
    assert (report.outcome, report.error) == ("changed", None)
    for part in ("fivrec", "app", "read"):
        logins.run(part, "fivrec_abc")
    return logins


def refused(url: str, statement: str) -> bool:
    with psycopg.connect(url, autocommit=True) as conn:
        try:
            conn.execute(statement.encode())
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
            return True
    return False


@pytest.mark.usefixtures("direct")
async def test_fivrecs_login_owns_one_database_and_no_more(made: Logins, keys: KeyRing, tmp_path: Path) -> None:
    desired, report = await apply(made, keys, tmp_path)
    assert (report.outcome, report.error) == ("in_sync", None)
    url = made.url("fivrec_abc", made.name)
    assert refused(url, "CREATE DATABASE another")
    assert refused(url, "CREATE ROLE another")
    assert (await preview(desired, run_of(keys, tmp_path))).outcome == "in_sync"


@pytest.mark.usefixtures("direct")
async def test_the_apps_login_writes_rows_and_no_code(made: Logins, keys: KeyRing, tmp_path: Path) -> None:
    url = made.url("app_abc", made.name)
    with psycopg.connect(url) as conn:
        for table, row in {
            "users": "(name, email, password, environment) VALUES ('A', 'a@b.c', 'x', 'production')",
            "queues": "(name, environment) VALUES ('Mine', 'production')",
            "clients": "(name, environment) VALUES ('C', 'production')",
            "settings": "(key, value) VALUES ('theme', '\"dark\"')",
        }.items():
            conn.execute(f"INSERT INTO {table} {row}".encode())
        conn.execute(
            "INSERT INTO conversations (client_id, queue_id, environment) "
            "SELECT c.id, q.id, 'production' FROM clients c, queues q WHERE q.name = 'Mine'"
        )
        conn.execute(
            "INSERT INTO messages (conversation_id, content, environment) "
            "SELECT id, 'oi', 'production' FROM conversations"
        )
        conn.execute("UPDATE users SET name = 'B' WHERE email = 'a@b.c'")
        conn.execute("DELETE FROM settings WHERE key = 'theme'")
    for statement in (
        "CREATE TABLE mine (x integer)",
        "CREATE TEMPORARY TABLE mine (x integer)",
        "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE SCHEMA mine",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "TRUNCATE users",
        "SELECT * FROM fivrec.applied",
    ):
        assert refused(url, statement), statement
    _, report = await apply(made, keys, tmp_path)
    assert (report.outcome, report.error) == ("in_sync", None)


@pytest.mark.usefixtures("direct")
async def test_the_read_only_login_sees_the_plan_and_writes_nothing(
    made: Logins, keys: KeyRing, tmp_path: Path, open_connection: Connect
) -> None:
    url = made.url("fivrec_read", made.name)
    queues = {"items": [{"name": "Sales", "description": "new"}], "unmanaged": "keep"}
    for wanted, outcome in ((document(), "in_sync"), (document(queues=queues), "changed")):
        report = await preview(desired_of(wanted, Secret(url)), run_of(keys, tmp_path))
        assert (report.outcome, report.error) == (outcome, None)
    deep = await preview(desired_of(document(), Secret(url)), run_of(keys, tmp_path, deep=True))
    assert (deep.outcome, deep.error) == ("in_sync", None)
    conn, scope = await open_connection(Secret(url)), Scope(INSTANCE, "production")
    assert (await read_usage_counts(conn, scope)).queues == 2
    assert (await read_status(conn, scope)) is not None
    assert len(await read_checks(conn, scope, LogFilter(limit=9))) == 1
    assert len(await read_history(conn, scope, HistoryFilter(limit=99))) > 1
    for statement in (
        "INSERT INTO queues (name, environment) VALUES ('x', 'production')",
        "UPDATE users SET name = 'x'",
        "DELETE FROM fivrec.audit_log",
        "CREATE TABLE mine (x integer)",
    ):
        assert refused(url, statement), statement
    applied = await reconcile(desired_of(document(queues=queues), Secret(url)), run_of(keys, tmp_path))
    assert (applied.outcome, applied.error and applied.error.code) == ("refused", "foreign_schema")


@pytest.mark.usefixtures("direct")
async def test_tables_of_a_later_fivrec_have_the_same_rights(made: Logins) -> None:
    with psycopg.connect(made.url("fivrec_abc", made.name), autocommit=True) as conn:
        conn.execute("CREATE TABLE public.later (x integer); CREATE TABLE fivrec.later (x integer)")
    app, read = made.url("app_abc", made.name), made.url("fivrec_read", made.name)
    assert not refused(app, "INSERT INTO public.later VALUES (1)")
    assert refused(app, "SELECT * FROM fivrec.later")
    assert not refused(read, "SELECT * FROM fivrec.later")
    assert refused(read, "INSERT INTO public.later VALUES (1)")


@pytest.mark.usefixtures("direct")
async def test_a_database_that_the_app_made_is_handed_over(
    logins: Logins, postgres_url: str, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {logins.name}".encode())
    seed = (ROOT / "tests/fixtures/seed.sql").read_text(encoding="utf-8")
    with psycopg.connect(urlunsplit(urlsplit(postgres_url)._replace(path=f"/{logins.name}")), autocommit=True) as conn:
        conn.execute(seed.encode())
    logins.run("adopt")
    _, report = await apply(logins, keys, tmp_path)
    assert (report.outcome, report.error) == ("changed", None)
    logins.run("fivrec", "fivrec_abc")
    assert (await apply(logins, keys, tmp_path))[1].outcome == "in_sync"
