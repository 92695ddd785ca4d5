"""The schema: the setup script run by psql and by apply, on empty databases and on the app's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row, tuple_row

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.schema import (
    build_migration_sql,
    build_setup_script,
    expected_catalogue,
    latest_version,
    migrations,
    parse_version,
    read_catalogue,
)
from reconciler.database.statements import ISOLATED, query
from reconciler.database.status_queries import BreakingRow, read_breaking_rows
from reconciler.database.store import Scope, Writes
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Key
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.package_files import resource_path
from tests.support.connections import Connect
from tests.support.postgres_server import find_program

SCRIPT = resource_path("sql/database-setup-script.sql")
SHARED = ("users", "clients", "queues", "conversations", "messages")
RELEASED = (
    "1f9de43242b6",
    "8a5636383c88",
    "5592b69778f8",
    "aa794cfc080b",
    "b9a6a763c5fe",
    "eb634dafb8b8",
    "e4d753667af2",
    "4c54307e93a4",
    "a9c1ea1b26c9",
    "641bcd296ef0",
    "652c31d3db99",
)
"""The checksums of 0.2.0's migrations, shortened."""


def test_the_setup_script_is_what_the_migrations_make() -> None:
    assert SCRIPT.read_text() == build_setup_script()


def test_migrations_are_numbered_without_gaps_and_plain_sql() -> None:
    assert [item.version for item in migrations()] == list(range(1, latest_version() + 1))
    for item in migrations():
        statements = [line for line in item.text.splitlines() if not line.startswith("--")]
        assert not any(line.startswith(("BEGIN;", "COMMIT", "\\")) for line in statements), item.name
        assert item.text.isascii(), item.name  # a database may be in any encoding


def test_a_migration_that_was_released_is_not_edited() -> None:
    """0.2.0 compares texts: it would take the database for an older one, and restore its own text. A change needs a new
    migration."""
    assert tuple(item.checksum[:12] for item in migrations()[: len(RELEASED)]) == RELEASED


def test_the_script_looks_twice_for_what_the_tables_lack() -> None:
    done = [line for line in build_setup_script().splitlines() if line.lstrip().startswith(("DO", "PERFORM"))]
    assert [line.strip() for line in done if "fivrec.build(" in line or "fivrec.validate(" in line] == [
        "PERFORM fivrec.build(ARRAY['unique', 'index', 'check', 'foreign key']);",
        "PERFORM fivrec.validate();",
    ]


async def test_the_references_in_statements_are_those_that_migrations_isolate(conn: Connection) -> None:
    made = await (
        await conn.execute(
            "SELECT DISTINCT c.conrelid::regclass::text, a.attname::text, c.confrelid::regclass::text "
            "FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
            "WHERE c.conname LIKE '%\\_environment\\_fkey'"
        )
    ).fetchall()
    said = await (await conn.execute(f"SELECT * FROM (VALUES {ISOLATED}) AS one")).fetchall()
    assert (sorted(said), len(said)) == (sorted(made), 5)


async def test_the_catalogue_file_is_what_a_migrated_database_has(conn: Connection) -> None:
    assert await read_catalogue(conn) == expected_catalogue()


@pytest.mark.parametrize("options", [[], ["-v", "ON_ERROR_STOP=1"], ["-v", "ON_ERROR_STOP=1", "-1"]])
@pytest.mark.parametrize("made_by_the_app", [False, True])
async def test_psql_runs_the_script_and_apply_sees_no_schema_change(
    *,
    options: list[str],
    made_by_the_app: bool,
    request: pytest.FixtureRequest,
    scope: Scope,
    keys: KeyRing,
    open_connection: Connect,
) -> None:
    url: Secret = request.getfixturevalue("seed_database" if made_by_the_app else "database")
    before = _rows(url) if made_by_the_app else {}
    for _ in range(2):
        answer = _psql(url, *options, "-c", f"\\i {SCRIPT}")
        assert (answer.returncode, answer.stderr) == (0, "")
    conn = await open_connection(url)
    snapshot = await store.begin(conn, scope, keys, lock=False, deep=True)
    assert (snapshot.schema_version, snapshot.missing) == (latest_version(), ())
    assert {table: rows for table, rows in _rows(url).items() if rows} == before


async def test_apply_adopts_the_apps_database_and_keeps_every_row(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    before = _rows(seed_database)
    conn = await open_connection(seed_database)
    found = await store.begin(conn, scope, keys, lock=True)
    assert (found.schema_version, found.owner, found.answered) == (None, "client-abc-123", True)
    assert {str(key) for key in found.state} == {
        "admin/admin@empresa.com",
        "config/client-abc-123",
        "plan/plan_starter",
        "status/client-abc-123",
    }
    await store.commit(conn, Writes(run_id="r", migrate=True), scope)
    after = await store.begin(conn, scope, keys, lock=True)
    assert after.schema_version == latest_version()
    assert _comparable(after.state) == _comparable(found.state)
    assert {table: rows for table, rows in _rows(seed_database).items() if rows} == before


def _comparable(state: dict) -> dict:
    # A stored secret equals no other, not even when it is read twice.
    return {key: {**row.fields, "instance_key": None, "password": None} for key, row in state.items()}


async def test_the_apps_tables_are_the_seeds_column_by_column(
    make_database, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    theirs, ours = make_database(), make_database()
    with psycopg.connect(theirs.reveal(), autocommit=True) as raw:
        raw.execute((Path(__file__).parents[2] / "fixtures" / "seed.sql").read_text())
    with psycopg.connect(ours.reveal(), autocommit=True) as raw:
        raw.execute(build_migration_sql("public"))
    tables = ["users", "instance_config", "plans", "status_check_logs"]
    assert _columns(ours, tables) == _columns(theirs, tables)
    assert _unique_email(ours)


def _columns(url: Secret, tables: list[str]) -> list[tuple]:
    with psycopg.connect(url.reveal()) as raw:
        return raw.execute(
            "SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ANY(%s) ORDER BY 1, 2",
            (tables,),
        ).fetchall()


def _unique_email(url: Secret) -> bool:
    with psycopg.connect(url.reveal()) as raw:
        raw.execute("INSERT INTO users (name, email, password) VALUES ('a', 'a@b.c', 'x')")
        with pytest.raises(errors.UniqueViolation):
            raw.execute("INSERT INTO users (name, email, password, environment) VALUES ('b','a@b.c','x','development')")
    return True


async def test_a_users_table_without_unique_email_gains_it(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("ALTER TABLE users DROP CONSTRAINT users_email_key")
    await _migrate(seed_database, scope, keys, open_connection)
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("DELETE FROM users")
    assert _unique_email(seed_database)


TIMES = {
    **dict.fromkeys(("users", "instance_config", "plans", "status_check_logs"), ("created_at",)),
    **dict.fromkeys(("queues", "clients", "messages"), ("created_at",)),
    "conversations": ("last_activity_at", "created_at"),
    "settings": ("created_at", "updated_at"),
}


async def test_adopting_claims_no_time_for_rows_without_one(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        for table in ("users", "instance_config", "plans", "status_check_logs"):
            raw.execute(f"ALTER TABLE {table} DROP COLUMN created_at")
        for table in ("queues", "clients", "messages"):
            raw.execute(f"CREATE TABLE {table} (id varchar PRIMARY KEY, name text)")
            raw.execute(f"INSERT INTO {table} VALUES ('old', 'Old')")
        raw.execute("CREATE TABLE conversations (id varchar PRIMARY KEY)")
        raw.execute("INSERT INTO conversations VALUES ('old')")
        raw.execute("CREATE TABLE settings (key text PRIMARY KEY)")
        raw.execute("INSERT INTO settings VALUES ('old')")
        await _migrate(seed_database, scope, keys, open_connection)
        for table, columns in TIMES.items():
            for column in columns:
                found = raw.execute(f"SELECT count(*), count({column}) FROM {table}").fetchone()
                assert (found[0] > 0, found[1]) == (True, 0), (table, column)
        raw.execute("INSERT INTO conversations DEFAULT VALUES")
        raw.execute("INSERT INTO settings (key) VALUES ('new')")
        new = raw.execute(
            "SELECT last_activity_at, created_at FROM conversations WHERE id <> 'old' UNION ALL "
            "SELECT created_at, updated_at FROM settings WHERE key = 'new'"
        ).fetchall()
        assert all(time is not None for row in new for time in row)


async def test_a_time_of_the_apps_own_keeps_its_default(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("ALTER TABLE plans ALTER COLUMN created_at DROP DEFAULT")
        await _migrate(seed_database, scope, keys, open_connection)
        raw.execute("INSERT INTO plans (id, name, price, billing_interval, features) VALUES ('n','N',1,'monthly','[]')")
        assert raw.execute("SELECT created_at FROM plans WHERE id = 'n'").fetchone() == (None,)


@pytest.mark.parametrize(
    "lost",
    [
        "ALTER TABLE users DROP COLUMN environment CASCADE",
        "ALTER TABLE queues DROP COLUMN description",
        "ALTER TABLE plans DROP COLUMN stripe_price_id",
        "ALTER TABLE instance_config DROP COLUMN is_locked",
        "ALTER TABLE clients DROP COLUMN phone",
        "DROP TABLE messages",
        "DROP TABLE settings",
        "DROP TABLE fivrec.usage_outbox",
        "DROP INDEX status_check_logs_recent_idx",
        "ALTER TABLE messages DROP CONSTRAINT messages_environment_check",
        "ALTER TABLE messages DROP CONSTRAINT messages_conversation_id_environment_fkey",
        "ALTER TABLE users DROP CONSTRAINT users_email_key",
        "ALTER TABLE queues ALTER COLUMN environment DROP NOT NULL",
        "ALTER TABLE queues ALTER COLUMN environment DROP DEFAULT",
        "ALTER TABLE queues ALTER COLUMN environment SET DEFAULT 'development'",
        "ALTER TABLE messages DROP CONSTRAINT messages_environment_check, ALTER COLUMN environment DROP NOT NULL",
    ],
)
async def test_dropped_schema_objects_are_named_and_restored(
    lost: str, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(migrated.reveal(), autocommit=True) as raw:
        raw.execute(lost)
    conn = await open_connection(migrated)
    found = await store.begin(conn, scope, keys, lock=True, deep=True)
    assert found.missing != ()
    assert all(any(word in name for word in lost.replace("fivrec.", "").split()) for name in found.missing)
    await store.commit(conn, Writes(run_id="r", migrate=True), scope)
    assert (await store.begin(conn, scope, keys, lock=True, deep=True)).missing == ()


async def test_duplicates_from_when_emails_were_not_unique_are_named(
    migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(migrated.reveal(), autocommit=True) as raw:
        raw.execute("ALTER TABLE users DROP CONSTRAINT users_email_key")
        raw.execute("INSERT INTO users (name, email, password) VALUES ('a', 'a@b.c', 'x'), ('b', 'a@b.c', 'x')")
    conn = await open_connection(migrated)
    assert (await store.begin(conn, scope, keys, lock=True, deep=True)).missing == ("users: unique (email)",)
    with pytest.raises(DatabaseError) as raised:
        await store.commit(conn, Writes(run_id="r", migrate=True), scope)
    assert (raised.value.code, "users_email_key" in raised.value.message) == ("rows_unfit", True)


async def test_rules_that_the_app_keeps_in_its_own_way_are_not_missed(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("CREATE TABLE queues (id varchar PRIMARY KEY, name text, environment varchar(20))")
        raw.execute("INSERT INTO queues VALUES ('q', 'Of none', NULL)")
        raw.execute("CREATE TABLE clients (id varchar PRIMARY KEY, name text, environment varchar(20))")
        own = "current_setting('fiv.environment', true)"
        raw.execute(f"ALTER TABLE users DROP CONSTRAINT users_email_key, ALTER environment SET DEFAULT {own}")
        raw.execute("CREATE UNIQUE INDEX one_account ON users (email)")
        conn = await _migrate(seed_database, scope, keys, open_connection)
        assert (await store.begin(conn, scope, keys, lock=False, deep=True)).missing == ()
        await store.rollback(conn)
        raw.execute("UPDATE queues SET environment = 'production'")
        await _migrate(seed_database, scope, keys, open_connection)
        nullable = "SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = 'environment' AND NOT attnotnull"
        assert raw.execute(nullable + " AND attrelid IN ('queues'::regclass, 'clients'::regclass)").fetchall() == []


async def test_a_column_that_reading_needs_is_missed_without_deep(
    migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(migrated.reveal(), autocommit=True) as raw:
        raw.execute("INSERT INTO plans (id, name, price, billing_interval, features) VALUES ('p','P',1,'monthly','[]')")
        raw.execute("ALTER TABLE plans DROP COLUMN max_users")
    conn = await open_connection(migrated)
    found = await store.begin(conn, scope, keys, lock=False)
    assert found.missing == ("plans.max_users",)
    assert found.state[Key("plan", "p")].fields["max_users"] == 1


async def test_an_edited_migration_is_stale_and_a_newer_one_is_not() -> None:
    recorded = [(item.version, item.checksum) for item in migrations()]
    assert parse_version(recorded) == latest_version()
    assert parse_version([]) is None
    assert parse_version(recorded[:3]) == 3
    assert parse_version([*recorded[:2], (3, "edited"), *recorded[3:]]) == 2
    assert parse_version([*recorded, (99, "of a newer fivrec")]) == 99
    assert parse_version([*((version, "edited by it") for version, _ in recorded), (99, "of a newer fivrec")]) == 99
    assert parse_version([(version, "of an older fivrec") for version in range(1, 9)]) == 8


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO clients (name, environment) VALUES ('Cliente', 'development')",
        "INSERT INTO queues (name) VALUES ('Sales')",
        "INSERT INTO conversations DEFAULT VALUES",
        "INSERT INTO messages DEFAULT VALUES",
        "INSERT INTO settings (key) VALUES ('locale')",
    ],
)
async def test_all_but_names_and_keys_may_be_left_out(statement: str, conn: Connection) -> None:
    cursor = await conn.execute(f"{statement} RETURNING true")
    assert await cursor.fetchall() == [(True,)]


async def test_foreign_keys_among_shared_tables_carry_environment(conn: Connection) -> None:
    cursor = await conn.execute(
        """
        SELECT c.conname, array_agg(a.attname) FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)
        WHERE c.contype = 'f' AND c.conrelid = ANY(%(shared)s::regclass[])
          AND c.confrelid = ANY(%(shared)s::regclass[])
        GROUP BY c.conname
        """,
        {"shared": list(SHARED)},
    )
    found = await cursor.fetchall()
    assert len(found) == 5
    assert all("environment" in columns for _, columns in found)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO messages (conversation_id, environment) VALUES ('c', 'development')",
        "INSERT INTO conversations (queue_id, environment) VALUES ('q', 'development')",
        "UPDATE conversations SET environment = 'development' WHERE id = 'c'",
        "UPDATE queues SET environment = 'development' WHERE id = 'q'",
    ],
)
async def test_no_row_can_point_into_the_other_environment(statement: str, conn: Connection) -> None:
    await conn.execute("INSERT INTO queues (id, name) VALUES ('q', 'Sales')")
    await conn.execute("INSERT INTO conversations (id, queue_id) VALUES ('c', 'q')")
    await conn.execute("INSERT INTO messages (conversation_id) VALUES ('c')")
    with pytest.raises(errors.ForeignKeyViolation):
        await conn.execute(statement)


@pytest.mark.parametrize("table", SHARED)
@pytest.mark.parametrize("value", ["staging", "", None])
async def test_no_row_can_be_of_no_environment(table: str, value: str | None, conn: Connection) -> None:
    columns = {"users": "(name, email, password, environment) VALUES ('a', 'e', 'p', %s)"}
    names = {"clients", "queues"}
    rest = columns.get(table) or (
        "(name, environment) VALUES ('a', %s)" if table in names else "(environment) VALUES (%s)"
    )
    with pytest.raises((errors.CheckViolation, errors.NotNullViolation)):
        await conn.execute(f"INSERT INTO {table} {rest}", (value,))


async def test_rows_that_break_the_rules_are_kept_and_no_more_come(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("CREATE TABLE queues (id varchar PRIMARY KEY, name text NOT NULL, environment text)")
        raw.execute("CREATE TABLE conversations (id varchar PRIMARY KEY, queue_id varchar, environment text NOT NULL)")
        raw.execute("INSERT INTO queues VALUES ('q1', 'Sales', 'production'), ('q2', 'Old', NULL)")
        raw.execute("INSERT INTO conversations VALUES ('c1', 'q1', 'production'), ('c2', 'q1', 'development')")
    conn = await _migrate(seed_database, scope, keys, open_connection)
    assert await read_breaking_rows(conn, scope) == (
        BreakingRow("conversations", "c2", "queue_id"),
        BreakingRow("queues", "q2", "environment"),
    )
    with pytest.raises(errors.CheckViolation):
        await conn.execute("INSERT INTO queues (id, name, environment) VALUES ('q3', 'x', NULL)")
    with pytest.raises(errors.ForeignKeyViolation):
        await conn.execute("INSERT INTO conversations (id, queue_id, environment) VALUES ('c3', 'q1', 'development')")
    await conn.execute("DELETE FROM conversations WHERE id = 'c2'")
    await conn.execute("DELETE FROM queues WHERE id = 'q2'")
    conn = await _migrate(seed_database, scope, keys, open_connection)
    assert await read_breaking_rows(conn, scope) == ()


async def test_rows_without_an_id_that_break_the_rules_are_named_too(
    seed_database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as raw:
        raw.execute("CREATE TABLE clients (id text, name text, environment text)")
        raw.execute("INSERT INTO clients VALUES ('1', 'a', NULL), (NULL, 'b', NULL)")
    conn = await _migrate(seed_database, scope, keys, open_connection)
    assert {row.id for row in await read_breaking_rows(conn, scope)} == {"1", None}


async def _migrate(url: Secret, scope: Scope, keys: KeyRing, open_connection: Connect) -> Connection:
    conn = await open_connection(url)
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, Writes(run_id="r", migrate=True), scope)
    return conn


def _rows(url: Secret) -> dict[str, list[dict]]:
    """Returns every row of every table of the app, with the columns that the seed names."""
    tables = ("users", "instance_config", "plans", "status_check_logs", *SHARED[1:], "settings")
    found = {}
    with psycopg.connect(url.reveal(), row_factory=dict_row) as raw:
        for table in tables:
            there = raw.cursor(row_factory=tuple_row).execute("SELECT to_regclass(%s)", (table,)).fetchone()
            if there != (None,):
                found[table] = raw.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
    return found


def _psql(url: Secret, *options: str) -> subprocess.CompletedProcess[str]:
    psql = find_program("psql") or shutil.which("psql")
    if psql is None:
        pytest.skip("no psql on this machine")
    command = [psql, "-X", "-q", "-d", url.reveal(), *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PGOPTIONS": ""}, check=False)


@pytest.mark.parametrize(("schema", "deferred"), [("public", "on"), ("other", "")])
async def test_only_tables_that_are_there_are_validated_later(database: Secret, schema: str, deferred: str) -> None:
    with psycopg.connect(database.reveal()) as conn:
        conn.execute("CREATE SCHEMA other; CREATE TABLE public.messages (id text)")
        conn.execute(build_migration_sql(schema, defer=True).partition(";")[0].encode())
        assert conn.execute("SELECT current_setting('fivrec.defer')").fetchone() == (deferred,)


async def test_tables_committed_while_waiting_for_the_lock_are_seen(database: Secret, open_connection: Connect) -> None:
    """A session remembers that a name did not exist, and learns of new ones only when it locks a relation."""
    waiting, other = await open_connection(database), await open_connection(database)
    text, params = query("adopt", "tables"), {"schema": "public", "tables": ["users", "fivrec.audit_log"]}
    absent = {("users", False, False), ("fivrec.audit_log", False, False)}
    assert set(await (await waiting.execute(text, params)).fetchall()) == absent
    await waiting.execute("SELECT to_regclass('fivrec.audit_log'), to_regclass('public.users')")
    await waiting.execute("BEGIN")
    await waiting.execute("SELECT FROM pg_class, pg_namespace LIMIT 1")
    await other.execute("CREATE SCHEMA fivrec; CREATE TABLE fivrec.audit_log (); CREATE TABLE users ()")
    present = {("users", True, True), ("fivrec.audit_log", True, True)}
    assert set(await (await waiting.execute(text, params)).fetchall()) == present
    await waiting.execute("ROLLBACK")
