"""Rows hidden by a policy are an error, never taken for absent: not inserted again, counted as 0 or called in sync."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from reconciler.database.status_queries import LogFilter, read_checks, read_status
from reconciler.database.store import Scope
from reconciler.database.usage_outbox import read_usage_counts
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import verify_history
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import EnvironmentSpec
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.conftest import Connect
from tests.support.databases import owning
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.isolated import apply, environment

SHARED = ("users", "queues", "clients", "conversations", "messages")
COUNT = (
    "SELECT (SELECT count(*) FROM queues), (SELECT count(*) FROM settings), (SELECT count(*) FROM status_check_logs)"
)
HIDING = {
    "a policy for INSERT alone": """
        ALTER TABLE queues ENABLE ROW LEVEL SECURITY; CREATE POLICY ins ON queues FOR INSERT WITH CHECK (true);
        ALTER TABLE conversations ENABLE ROW LEVEL SECURITY; ALTER TABLE clients ENABLE ROW LEVEL SECURITY""",
    "a policy that hides some rows": """
        ALTER TABLE settings ENABLE ROW LEVEL SECURITY;
        CREATE POLICY part ON settings USING (key <> 'locale') WITH CHECK (true)""",
    "a policy by a setting of the app": """
        ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON users USING (environment = current_setting('app.tenant', true))""",
    "a policy whose name begins as fivrec's do": """
        ALTER TABLE queues ENABLE ROW LEVEL SECURITY;
        CREATE POLICY fivrec_tenant ON queues USING (name <> 'Sales') WITH CHECK (true)""",
    "no policy at all": "ALTER TABLE instance_config ENABLE ROW LEVEL SECURITY",
}


def counts(url: Secret) -> tuple[int, ...]:
    with psycopg.connect(url.reveal()) as conn:
        row = conn.execute(COUNT).fetchone()
        assert row is not None
        return tuple(row)


def hand_over(database: Secret, login: str) -> None:
    """Give the app's tables to a role of the app, and grant the login all rights on their rows."""
    tables = ", ".join((*SHARED, "settings", "instance_config", "plans", "status_check_logs"))
    owning(database, "; ".join(f"ALTER TABLE {table} OWNER TO CURRENT_USER" for table in tables.split(", ")))
    owning(database, f"GRANT ALL ON SCHEMA public TO {login}; GRANT ALL ON {tables} TO {login}")


@pytest.fixture
async def applied(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> tuple[Secret, Secret]:
    """Yields a superuser's URL and fivrec's, after an apply; the app's tables then belong to another role."""
    url = owner_of(database)
    report = await apply(url, keys, tmp_path)
    assert report.outcome == "changed", report.error
    hand_over(database, urlsplit(url.reveal()).username or "")
    assert (await apply(url, keys, tmp_path)).outcome == "in_sync"
    return database, url


async def test_a_policy_named_like_fivrecs_elsewhere_hides_nothing(
    applied: tuple[Secret, Secret], keys: KeyRing, tmp_path: Path
) -> None:
    """The owner of any other table can give it a policy of that name: only the app's tables count."""
    admin, url = applied
    owning(admin, HIDING["a policy that hides some rows"])
    owning(admin, "CREATE TABLE other (a integer); CREATE POLICY fivrec_environment ON other USING (true)")
    before = counts(admin)
    report = await apply(url, keys, tmp_path)
    assert (report.outcome, report.error and report.error.code) == ("failed", "rows_hidden")
    assert counts(admin) == before


@pytest.mark.parametrize("how", HIDING)
async def test_hidden_rows_are_an_error_and_nothing_is_written(
    how: str, applied: tuple[Secret, Secret], keys: KeyRing, tmp_path: Path
) -> None:
    database, url = applied
    owning(database, HIDING[how])
    before = counts(database)
    desired, run = desired_of(document(plans=None), url, connect=None), run_of(keys, tmp_path)
    for report in (await reconcile(desired, run), await preview(desired, run), await reconcile(desired, run)):
        assert report.error is not None
        assert (report.outcome, report.exit_code, report.error.code) == ("failed", 1, "rows_hidden")
        assert "row-level security hides rows: " in report.error.message
        assert "BYPASSRLS" in report.error.hint
    assert counts(database) == before
    owning(database, f"ALTER ROLE {urlsplit(url.reveal()).username} BYPASSRLS")
    assert (await reconcile(desired, run)).outcome == "in_sync"


async def test_the_audit_log_is_verified_beside_hidden_rows(
    applied: tuple[Secret, Secret], keys: KeyRing, tmp_path: Path
) -> None:
    database, url = applied
    owning(database, HIDING["a policy for INSERT alone"])
    chain = await verify_history(desired_of(document(), url), run_of(keys, tmp_path), None)
    assert (chain.finding, chain.unchecked) == (None, None)
    assert chain.count > 0


async def test_hidden_rows_are_not_counted_as_0(applied: tuple[Secret, Secret], open_connection: Connect) -> None:
    database, url = applied
    owning(database, HIDING["a policy for INSERT alone"])
    owning(database, "ALTER TABLE status_check_logs ENABLE ROW LEVEL SECURITY")
    owning(database, HIDING["no policy at all"])
    conn, scope = await open_connection(url), Scope(INSTANCE, "production")
    for reading in (
        read_usage_counts(conn, scope),
        read_status(conn, scope),
        read_checks(conn, scope, LogFilter(limit=1)),
    ):
        with pytest.raises(DatabaseError) as raised:
            await reading
        assert raised.value.code == "rows_hidden"


async def test_rows_hidden_before_the_first_apply_are_an_error(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    url = owner_of(database)
    login = urlsplit(url.reveal()).username
    owning(
        database,
        "CREATE TABLE users (id varchar PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, "
        "password text NOT NULL, role text, environment text NOT NULL DEFAULT 'production');"
        f"GRANT ALL ON users TO {login};"
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON users USING (name = CURRENT_USER)",
    )
    report = await apply(url, keys, tmp_path)
    assert (report.outcome, report.error and report.error.code) == ("failed", "rows_hidden")


async def test_an_owner_whom_its_own_policies_bind_hides_rows_too(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    url = owner_of(database)
    await apply(url, keys, tmp_path)
    owning(url, "ALTER TABLE queues ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON queues USING (false)")
    assert (await apply(url, keys, tmp_path)).outcome == "in_sync"  # an owner sees every row
    owning(url, "ALTER TABLE queues FORCE ROW LEVEL SECURITY")
    report = await apply(url, keys, tmp_path)
    assert (report.outcome, report.error and report.error.code) == ("failed", "rows_hidden")


async def test_a_trigger_of_the_app_may_write_if_a_policy_allows_it(
    applied: tuple[Secret, Secret], keys: KeyRing, tmp_path: Path
) -> None:
    database, url = applied
    login = urlsplit(url.reveal()).username
    owning(
        database,
        "CREATE TABLE app_audit (what text); ALTER TABLE app_audit ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY ins ON app_audit FOR INSERT WITH CHECK (true); GRANT INSERT ON app_audit TO {login};"
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO public.app_audit VALUES (NEW.name); RETURN NEW; END$$;"
        "CREATE TRIGGER note BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION public.note()",
    )
    queues = {"items": [{"name": "Sales", "description": "new"}], "unmanaged": "keep"}
    report = await apply(url, keys, tmp_path, queues=queues)
    assert report.outcome == "changed", report.error
    with psycopg.connect(database.reveal()) as conn:
        assert conn.execute("SELECT * FROM app_audit").fetchall() == [("Sales",)]


async def test_isolation_is_known_if_sessions_quote_all_names(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    """A policy is compared as text, and the server then writes that text differently."""
    url = owner_of(database)
    owning(database, f"ALTER ROLE {urlsplit(url.reveal()).username} SET quote_all_identifiers = on")
    for isolation in ("enforced", "constraints"):
        wanted = environment(isolation=isolation)
        assert (await apply(url, keys, tmp_path, environment=wanted)).outcome == "changed"
        assert (await apply(url, keys, tmp_path, environment=wanted)).outcome == "in_sync"


async def test_enforced_lets_a_login_without_row_security_read(
    database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    url = owner_of(database)
    enforced = environment(isolation="enforced")
    assert (await apply(url, keys, tmp_path, environment=enforced)).outcome == "changed"
    owning(database, f"ALTER ROLE {urlsplit(url.reveal()).username} SET row_security = off")
    assert (await apply(url, keys, tmp_path, environment=enforced)).outcome == "in_sync"
    desired = desired_of(document(plans=None, environment=enforced), url)
    desired = replace(desired, environment=EnvironmentSpec(**enforced))
    tested = await production_test(desired, run_of(keys, tmp_path), allow_embedded=True)
    (said,) = [check.message for check in tested if check.name == "isolation"]
    assert f"{urlsplit(url.reveal()).username} has row_security off: under enforced its statements fail" in said
    assert (await apply(url, keys, tmp_path)).outcome == "changed"  # back to constraints
    assert (await apply(url, keys, tmp_path)).outcome == "in_sync"
