"""Whatever else is wrong with an instance, every run records Connect's status and makes the lock follow it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.engine.batch import run_within
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.run import SharedConnect
from reconciler.engine.status_and_logs import query_status
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.checking import COMMANDS, REFUSE, check_as, connect_says
from tests.support.connect_server import STATUS, answering, body, hanging, misbehaving
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

DEEP = "[" * 1200 + "]" * 1200
SHOUT = """
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.name := upper(NEW.name); RETURN NEW; END$$;
"""
PUT_OFF = "UPDATE queues SET description = 'by hand' WHERE name = 'Sales';"

WRONG: dict[str, str] = {
    "a number without end in enabled_features": "UPDATE instance_config SET enabled_features = '{\"a\": 1e999}'",
    "NUL in enabled_features": 'UPDATE instance_config SET enabled_features = \'{"a": "\\u0000"}\'',
    "half a surrogate pair in enabled_features": "UPDATE instance_config SET enabled_features = '{\"\\ud800\": true}'",
    "1,200 levels in enabled_features": f"UPDATE instance_config SET enabled_features = '{DEEP}'",
    "a number without end in a managed setting": "UPDATE settings SET value = '1e999' WHERE key = 'locale'",
    "NUL in a managed setting": "UPDATE settings SET value = '\"\\u0000\"' WHERE key = 'locale'",
    "1,200 levels in a managed setting": f"UPDATE settings SET value = '{DEEP}' WHERE key = 'locale'",
    "NUL in a setting of the app's": "INSERT INTO settings (key, value) VALUES ('mine', '\"\\u0000\"')",
    "5,000 digits in a setting of the app's": f"INSERT INTO settings (key, value) VALUES ('mine', '{'9' * 5000}')",
    "a made-up key id": "UPDATE instance_config SET instance_key = 'fivenc:v1:0badf00d:AAAA'",
    "an instance key that is no envelope": "UPDATE instance_config SET instance_key = 'fivenc:v1:'",
    "a time before Christ in fivrec.applied": "UPDATE fivrec.applied SET applied_at = '0044-03-15 BC'",
    "numbers in fivrec.applied": "UPDATE fivrec.applied SET fields = '5'",
    "a table that is gone": "DROP TABLE plans CASCADE",
    "a column that is gone": "ALTER TABLE queues DROP COLUMN description",
    "a column of another type": "ALTER TABLE queues ALTER is_active DROP DEFAULT, "
    "ALTER is_active TYPE interval USING '1 day'",
    "a trigger that refuses queues": f"{REFUSE}; {PUT_OFF}"
    "CREATE TRIGGER t BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION refuse()",
    "a trigger that rewrites queues": f"{SHOUT}; {PUT_OFF}"
    "CREATE TRIGGER t BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION shout()",
    "a trigger that refuses audit rows": f"{REFUSE};"
    "CREATE TRIGGER t BEFORE INSERT ON fivrec.audit_log FOR EACH ROW EXECUTE FUNCTION refuse()",
    "a trigger that refuses checks": f"{REFUSE};"
    "CREATE TRIGGER t BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION refuse()",
    "a trigger that drops checks": "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "RETURN NULL; END$$; CREATE TRIGGER t BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION drop_it()",
    "a trigger that drops audit rows": "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "RETURN NULL; END$$; CREATE TRIGGER t BEFORE INSERT ON fivrec.audit_log FOR EACH ROW EXECUTE FUNCTION drop_it()",
    "a rule that drops checks": "CREATE RULE r AS ON INSERT TO status_check_logs DO INSTEAD NOTHING",
    "a trigger that ends the connection": "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$;"
    "CREATE TRIGGER t BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION end_it()",
    "a trigger that cancels itself": "CREATE FUNCTION stop_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END$$;"
    "CREATE TRIGGER t BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION stop_it()",
    "a trigger that divides by zero": "CREATE FUNCTION div() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "PERFORM 1 / 0; RETURN NEW; END$$;"
    "CREATE TRIGGER t BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION div()",
    "a deferred trigger that refuses the status": "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "IF NEW.status = 'suspended' THEN RAISE EXCEPTION 'late'; END IF; RETURN NULL; END$$;"
    "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON instance_config DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION late()",
    "a status column that is too short": "ALTER TABLE status_check_logs ALTER status_received TYPE varchar(6)",
    "an enum without suspended": "CREATE TYPE st AS ENUM ('active', 'inactive');"
    "ALTER TABLE instance_config ALTER status DROP DEFAULT, ALTER status TYPE st USING status::st",
    "an audit log that is gone": "DROP TABLE fivrec.audit_log CASCADE",
    "a CHECK that knows no suspended instance": "ALTER TABLE instance_config ADD CHECK (status <> 'suspended')",
    "features in another type": "ALTER TABLE instance_config ALTER enabled_features DROP DEFAULT, "
    "ALTER enabled_features TYPE text[] USING '{}'",
    "an administrator twice, but for the case": "UPDATE users SET email = 'Admin@Empresa.com';"
    "INSERT INTO users (name, email, password, role) VALUES ('b', 'ADMIN@EMPRESA.COM', 'x', 'admin')",
    "a guard": "INSERT INTO plans (id, name, price, billing_interval, features) "
    "SELECT 'old' || n, 'old' || n, 1, 'month', '[]' FROM generate_series(1, 9) n",
}
YES_NO: dict[str, tuple[str, Any, Any]] = {
    "integer": ("integer USING is_locked::int", 1, 0),
    "numeric": ("numeric(1) USING is_locked::int", 1, 0),
    "a bit": ("bit(1) USING is_locked::int::bit(1)", "1", "0"),
    "text": ("text", "true", "false"),
    "letters": ("char(1) USING CASE WHEN is_locked THEN 'Y' ELSE 'N' END", "Y", "N"),
    "decimals": ("numeric(3, 2) USING is_locked::int", Decimal(1), Decimal(0)),
    "words of the app's language": ("varchar(3) USING CASE WHEN is_locked THEN 'sim' ELSE 'nao' END", "sim", "nao"),
    "padded words": ("char(5) USING CASE WHEN is_locked THEN 'YES' ELSE 'NO' END", "YES  ", "NO   "),
    "an enum": ("yes_no USING is_locked::text::yes_no", "true", "false"),
    "a domain": ("answer", True, False),
    "integer, without a value": ("integer USING NULL", 1, 0),
}
LOCKED: dict[str, str] = {
    name: f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"
    for name in ("messages", "users", "queues", "settings", "status_check_logs", "fivrec.audit_log")
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_suspended_instance_is_locked_whatever_else_is_wrong(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    run = run_of(keys, tmp_path)
    first = await reconcile(desired_of(document(), database), run)
    assert first.error is None
    await run_sql(database, WRONG[name])
    locked = "SELECT is_locked FROM instance_config"
    for number, command in enumerate(COMMANDS, start=2):
        this = replace(run, id=f"run-{number}")
        connect_says(tmp_path, "suspended")
        await check_as(command, database, this)
        assert await run_sql(database, locked) == [(True,)], command
        connect_says(tmp_path, "active")
        await check_as(command, database, replace(this, id=f"run-{number}-again"))
        assert await run_sql(database, locked) == [(False,)], command


@pytest.mark.parametrize("name", YES_NO)
async def test_the_lock_takes_the_words_of_its_column(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(), database)
    await reconcile(desired, run)
    typed, yes, no = YES_NO[name]
    await run_sql(database, "CREATE TYPE yes_no AS ENUM ('true', 'false'); CREATE DOMAIN answer AS boolean NOT NULL")
    await run_sql(database, f"ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, ALTER is_locked TYPE {typed}")
    for number, status in enumerate(("suspended", "active", "suspended", "active"), start=2):
        connect_says(tmp_path, status)
        report = await reconcile(desired, replace(run, id=f"run-{number}", check_only=number < 4))
        assert (report.outcome, report.error) == ("changed", None)
        locked = yes if status == "suspended" else no
        assert await run_sql(database, "SELECT is_locked FROM instance_config") == [(locked,)]
        view = await query_status(desired, run)
        assert view is not None
        assert view.is_locked is (status == "suspended")
        assert (await preview(desired, run)).outcome == "in_sync"


@pytest.mark.parametrize("typed", ["integer", "text", "bit(1)"])
async def test_a_first_apply_locks_in_the_columns_own_words(
    seed_database: Secret, keys: KeyRing, tmp_path: Path, typed: str
) -> None:
    await run_sql(
        seed_database,
        f"DELETE FROM instance_config; ALTER TABLE instance_config DROP is_locked, ADD is_locked {typed}",
    )
    run, desired = run_of(keys, tmp_path), desired_of(document(admin=None), seed_database)
    (tmp_path / "connect.json").unlink(missing_ok=True)
    assert (await reconcile(desired, run)).error is None
    connect_says(tmp_path, "suspended")
    assert (await reconcile(desired, replace(run, id="second"))).error is None
    (stored,) = await run_sql(seed_database, "SELECT is_locked::text FROM instance_config")
    assert stored == ({"integer": "1", "text": "true", "bit(1)": "1"}[typed],)


@pytest.mark.parametrize("table", LOCKED)
async def test_a_suspended_instance_is_locked_while_a_table_is(
    database: Secret, keys: KeyRing, tmp_path: Path, table: str
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    run = replace(run, limits=replace(run.limits, lock_wait_s=0.2))
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(await psycopg.AsyncConnection.connect(database.reveal()))
        await other.execute(LOCKED[table].encode())
        for number, command in enumerate(COMMANDS, start=2):
            connect_says(tmp_path, "suspended")
            await check_as(command, database, replace(run, id=f"run-{number}"))
            assert await run_sql(database, "SELECT is_locked FROM instance_config") == [(True,)], command
            connect_says(tmp_path, "active")
            await check_as(command, database, replace(run, id=f"run-{number}-again"))
            assert await run_sql(database, "SELECT is_locked FROM instance_config") == [(False,)], command


async def test_a_locked_log_that_refers_to_the_row_keeps_no_lock_back(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(
        database, "ALTER TABLE status_check_logs ADD FOREIGN KEY (instance_config_id) REFERENCES instance_config"
    )
    connect_says(tmp_path, "suspended")
    async with await psycopg.AsyncConnection.connect(database.reveal()) as other:
        await other.execute("LOCK TABLE status_check_logs")
        limits = replace(run.limits, lock_wait_s=0.2)
        await check_as("check", database, replace(run, id="second", limits=limits))
    assert await run_sql(database, "SELECT is_locked FROM instance_config") == [(True,)]


OWN_ROW = """
CREATE TABLE users (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text, email text NOT NULL, password text,
  role text DEFAULT 'agent', environment text NOT NULL DEFAULT 'production');
INSERT INTO users (name, email, password, role)
  VALUES ('a', 'Admin@empresa.com', 'x', 'admin'), ('b', 'ADMIN@empresa.com', 'x', 'admin');
CREATE TABLE instance_config (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), instance_id text NOT NULL,
  instance_key text NOT NULL, connect_api_url text NOT NULL, status text, billing_status text, is_locked boolean,
  last_status_check timestamp, created_at timestamp DEFAULT now());
CREATE TABLE status_check_logs (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), instance_config_id varchar NOT NULL,
  check_type text NOT NULL, success boolean NOT NULL, status_received text, error_message text, response_time integer,
  created_at timestamp DEFAULT now());
INSERT INTO instance_config (instance_id, instance_key, connect_api_url) VALUES ('client-abc-123', 'k', 'embedded:');
"""


async def test_the_apps_own_row_is_locked_before_the_first_apply(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """The administrator is ambiguous, so nothing can be applied; Connect's status is followed all the same."""
    await run_sql(database, OWN_ROW)
    refused = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert refused.error is not None
    assert refused.error.code == "ambiguous"
    await run_sql(database, "DELETE FROM status_check_logs")
    for number, command in enumerate(COMMANDS, start=2):
        for status, locked in (("suspended", True), ("active", False)):
            connect_says(tmp_path, status)
            await check_as(command, database, run_of(keys, tmp_path, number))
            found = await run_sql(database, "SELECT status, is_locked FROM instance_config")
            assert found == [(status, locked)], command
    assert await run_sql(database, "SELECT to_regnamespace('fivrec') IS NULL, count(*) FROM users") == [(True, 2)]
    assert await run_sql(database, "SELECT count(*) FROM status_check_logs WHERE success") == [(2 * len(COMMANDS),)]


async def test_a_missing_key_keeps_no_suspended_instance_open(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    connect_says(tmp_path, "suspended")
    stranger = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    report = await reconcile(desired_of(document(), database), run_of(stranger, tmp_path, 2))
    assert (report.outcome, report.exit_code, report.error and report.error.code) == ("failed", 78, "key_retired")
    assert await run_sql(database, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
    said = "SELECT success, status_received FROM status_check_logs ORDER BY created_at DESC LIMIT 1"
    assert await run_sql(database, said) == [(True, "suspended")]


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_run_without_the_key_is_the_last_run_all_the_same(
    database: Secret, keys: KeyRing, tmp_path: Path, suspend: bool
) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    connect_says(tmp_path, "suspended")
    stranger = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    await reconcile(desired_of(document(), database, suspend=suspend), run_of(stranger, tmp_path, 2))
    said = "SELECT run_id::text, outcome, error FROM fivrec.last_run"
    assert await run_sql(database, said) == [(run_of(keys, tmp_path, 2).id, "failed", "key_retired")]


async def test_a_suspended_manifest_is_not_locked_by_the_plain_check(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(database, WRONG["a trigger that refuses audit rows"])
    connect_says(tmp_path, "suspended")
    await reconcile(desired_of(document(), database, suspend=True), replace(run, id="second"))
    assert await run_sql(database, "SELECT is_locked FROM instance_config") == [(False,)]


async def test_what_takes_too_long_is_locked_and_on_record(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(), database)
    await reconcile(desired, run)
    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(9); RETURN NEW; END$$;"
    await run_sql(database, f"{slow} CREATE TRIGGER t BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION slow()")
    for number, (status, locked) in enumerate((("suspended", True), ("active", False)), start=2):
        await run_sql(database, "ALTER TABLE queues DISABLE TRIGGER t; UPDATE queues SET description = 'by hand'")
        await run_sql(database, "ALTER TABLE queues ENABLE TRIGGER t")
        connect_says(tmp_path, status)
        late = replace(run, id=f"run-{number}", timeout_s=2)
        report = await run_within(reconcile, desired, late, time.monotonic())
        said = "not done within 2 s, waiting for the database; what was not committed was rolled back"
        assert (report.outcome, report.exit_code, report.error and report.error.message) == ("failed", 1, said)
        assert report.connect is not None
        assert await run_sql(database, "SELECT status, is_locked FROM instance_config") == [(status, locked)]
        assert await run_sql(database, "SELECT run_id, outcome, error FROM fivrec.last_run") == [
            (f"run-{number}", "failed", "timeout")
        ]
        assert await run_sql(database, "SELECT DISTINCT description FROM queues") == [("by hand",)]


@pytest.mark.parametrize("kept", [False, True])
async def test_plans_that_outlast_the_timeout_keep_no_lock_back(
    database: Secret, keys: KeyRing, tmp_path: Path, kept: bool
) -> None:
    """Over two new connections at once, and over a reused one."""
    said: dict[str, Any] = {"status": STATUS, "plans": answering(body([]))}

    async def say(writer: asyncio.StreamWriter) -> None:
        asked = connect.requests[-1].split()[1]
        await (said["plans"] if asked.endswith("/plans") else answering(body(said["status"])))(writer)

    shared, development = SharedConnect(1), {"name": "development", "isolation": "constraints"}
    run = run_of(keys, tmp_path, connect=shared if kept else None)
    async with misbehaving(say) as connect:
        desired = desired_of(document(environment=development), database, connect=connect.url)
        first = await reconcile(desired, run)
        assert first.outcome == "changed", first.error
        said |= {"status": {**STATUS, "status": "suspended"}, "plans": hanging}
        report = await run_within(reconcile, desired, replace(run, id="run-2", timeout_s=2), time.monotonic())
        await shared.aclose()
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "timeout")
    assert await run_sql(database, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
    checks = "SELECT success, status_received FROM status_check_logs ORDER BY created_at"
    assert await run_sql(database, checks) == [(True, "active"), (True, "suspended")]


ANOTHER = (
    "INSERT INTO instance_config (instance_id, instance_key, connect_api_url) "
    "VALUES ('client-abc-123', 'k', 'embedded:')"
)


async def test_a_row_that_the_app_adds_later_is_locked_too(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """POST /api/instance/config may insert another row each time, unlocked by default; the app may read any of them."""
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    connect_says(tmp_path, "suspended")
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path, 2))
    for number, command in enumerate(COMMANDS, start=3):
        await run_sql(database, ANOTHER)
        dry = await reconcile(desired_of(document(), database), run_of(keys, tmp_path, number, dry=True))
        (change,) = dry.changes
        assert [(item.field, item.before, item.after) for item in change.fields] == [
            ("status", "active", "suspended"),
            ("is_locked", False, True),
        ]
        await check_as(command, database, run_of(keys, tmp_path, number))
        found = await run_sql(database, "SELECT DISTINCT status, is_locked FROM instance_config")
        assert found == [("suspended", True)], command
