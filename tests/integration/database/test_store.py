"""The store: one instance read and written as a whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from reconciler.database import store, transaction
from reconciler.database.connection import Connection
from reconciler.database.lost_commit import was_committed
from reconciler.database.pipeline import Limits
from reconciler.database.rows import OWN, kinds_with_rows, several
from reconciler.database.schema import latest_version
from reconciler.database.statements import query, statement, statements
from reconciler.database.status_queries import read_chain
from reconciler.database.store import CheckRow, LastRunRow, Scope, Writes, row_write
from reconciler.database.usage_outbox import PendingUsage, write_usage
from reconciler.database.writes import build_statements
from reconciler.model.changes import Create, Deactivate, FieldChange, Remove, Update
from reconciler.model.errors import Busy, DatabaseError, MissingSetting, Refused
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, Key, Resource, same
from reconciler.planning.audit import Actor, Context, Event, chain
from reconciler.planning.audit_check import Tail
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.package_files import resource_path
from tests.support.audit_chain import verify
from tests.support.connections import Connect
from tests.support.fault_proxy import proxied

CHECK = CheckRow("manual", success=True, status_received="active", error_message=None, response_time_ms=41)
LAST_RUN = LastRunRow("apply", "ana", None, "unchanged", drift=0, open_drift=())
INSTANCE = "client-abc-123"
PLAN = {
    "name": "Starter",
    "description": None,
    "price": 2900,
    "currency": "BRL",
    "billing_interval": "monthly",
    "features": ["basic_chat", "é"],
    "max_users": 2,
    "max_conversations": None,
    "storage_limit": 500,
    "is_active": True,
    "stripe_product_id": "prod_starter",
    "stripe_price_id": None,
}
DESIRED: dict[Key, dict[str, Any]] = {
    Key("setting", "company_name"): {"value": "Nome da Empresa"},
    Key("setting", "nothing"): {"value": None},
    Key("setting", "tree"): {"value": {"a": [1, True, "x"]}},
    Key("config", INSTANCE): {
        "connect_api_url": "https://connect.fiv-app.com",
        "instance_key": Secret("the-key"),
        "check_interval_minutes": 30,
    },
    Key("admin", "admin@empresa.com"): {"name": "Administrador", "password": Secret("$2b$hash"), "role": "admin"},
    Key("queue", "Sales"): {"description": None, "is_active": True},
    Key("queue", "Technical Support"): {"description": "Suporte técnico", "is_active": True},
    Key("plan", "plan_starter"): PLAN,
    Key("status", INSTANCE): {
        "status": "suspended",
        "billing_status": "overdue",
        "enabled_features": {"chat": True, "ai_agent": False},
        "is_locked": True,
    },
}
ENVIRONMENT = {"name": "production", "isolation": "constraints"}


def creations(keys: KeyRing, scope: Scope) -> Writes:
    sealed = {
        "config": {"instance_key": keys.encrypt(Secret("the-key"), INSTANCE, "instance_config", "instance_key")},
        "admin": {"password": "$2b$hash"},
    }
    changes = [
        Create(key, (), "manifest", "new", Resource(key, fields))
        for key, fields in {Key("environment", INSTANCE): ENVIRONMENT, **DESIRED}.items()
    ]
    rows = [row_write(change, scope, sealed.get(change.key.kind)) for change in changes]
    applied = ((Key("environment", INSTANCE), ENVIRONMENT), (Key("queue", "Sales"), {"description": None}))
    return Writes(run_id="run-1", rows=tuple(row for row in rows if row), applied=applied)


@pytest.fixture
async def filled(conn: Connection, scope: Scope, keys: KeyRing) -> Connection:
    """A connection to a database in which everything in DESIRED is written."""
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, creations(keys, scope), scope)
    return conn


async def update(conn: Connection, scope: Scope, keys: KeyRing, key: Key, sealed: dict | None = None, **fields: Any):
    """Write one update over the observed row, and read again."""
    observed = (await store.begin(conn, scope, keys, lock=True)).state[key]
    desired = Resource(key, fields)
    change = Update(key, (), "manifest", "intent", desired, observed)
    write = row_write(change, scope, sealed)
    await store.commit(conn, Writes(run_id="u", rows=(write,)), scope)
    return await read(conn, scope, keys)


async def read(conn: Connection, scope: Scope, keys: KeyRing | None):
    snapshot = await store.begin(conn, scope, keys, lock=False)
    await store.rollback(conn)
    return snapshot


def revealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a resource's fields with secrets as text: a stored password equals no Secret."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}


async def test_an_empty_database_reads_as_one_without_schema(
    database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    snapshot = await read(await open_connection(database), scope, keys)
    assert (snapshot.schema_version, snapshot.state, snapshot.applied, snapshot.missing) == (None, {}, {}, ())


async def test_written_rows_are_read_back(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    snapshot = await read(filled, scope, keys)
    fields = {key: revealed(row.fields) for key, row in snapshot.state.items()}
    written = {key: revealed(row) for key, row in DESIRED.items()}
    assert fields == {Key("environment", INSTANCE): ENVIRONMENT, **written}
    assert all(same(fields[key][name], value) for key, row in written.items() for name, value in row.items())
    assert snapshot.schema_version == latest_version()
    assert (snapshot.owner, snapshot.answered, snapshot.audit_head) == (INSTANCE, False, (0, ""))
    assert snapshot.config_id == snapshot.state[Key("config", INSTANCE)].row_id
    applied = snapshot.applied[Key("queue", "Sales")]
    assert applied == Applied({"description": None}, "run-1", applied.at)
    assert applied.at.tzinfo is UTC


async def test_every_creation_may_be_repeated(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    before = await read(filled, scope, keys)
    await store.begin(filled, scope, keys, lock=True)
    await store.commit(filled, creations(keys, scope), scope)
    after = await read(filled, scope, keys)
    assert [replace(row, fields=revealed(row.fields)) for row in after.state.values()] == [
        replace(row, fields=revealed(row.fields)) for row in before.state.values()
    ]


async def test_the_key_is_stored_encrypted_and_read_as_a_secret(
    filled: Connection, scope: Scope, keys: KeyRing
) -> None:
    cursor = await filled.execute("SELECT instance_key FROM instance_config")
    (stored,) = await cursor.fetchone()
    assert stored.startswith("fivenc:v1:")
    unread = await read(filled, scope, None)
    assert unread.state[Key("config", INSTANCE)].fields["instance_key"] == Secret(stored)


async def test_a_plain_or_foreign_key_equals_no_declared_one(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    await filled.execute("UPDATE instance_config SET instance_key = 'the-key'")
    found = (await read(filled, scope, keys)).state[Key("config", INSTANCE)]
    assert found.fields["instance_key"] != Secret("the-key")
    other = (await read(filled, Scope("other", "production"), keys)).state[Key("config", INSTANCE)]
    assert other.fields["instance_key"] != Secret("the-key")


async def test_a_stored_password_equals_no_declared_one(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    await filled.execute("UPDATE users SET password = 'declared'")
    found = (await read(filled, scope, keys)).state[Key("admin", "admin@empresa.com")]
    assert found.fields["password"] != Secret("declared")


async def test_a_key_that_does_not_fit_leaves_no_transaction_open(filled: Connection, scope: Scope) -> None:
    stranger = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    with pytest.raises(MissingSetting) as raised:
        await store.begin(filled, scope, stranger, lock=True)
    assert raised.value.code == "key_retired"
    assert filled.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_an_update_keeps_the_secrets_it_does_not_name(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    key = Key("admin", "admin@empresa.com")
    after = await update(filled, scope, keys, key, name="Maria", role="admin", password=Secret("declared"))
    assert revealed(after.state[key].fields) == {"name": "Maria", "password": "$2b$hash", "role": "admin"}
    key = Key("config", INSTANCE)
    after = await update(filled, scope, keys, key, connect_api_url="https://x", check_interval_minutes=5)
    assert after.state[key].fields["instance_key"] == Secret("the-key")


async def test_pending_payment_leaves_the_lock_as_it_is(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    key = Key("status", INSTANCE)
    fields = {"status": "pending_payment", "billing_status": "overdue", "enabled_features": {}}
    assert (await update(filled, scope, keys, key, **fields)).state[key].fields == {**fields, "is_locked": True}


async def test_a_config_is_taken_over_in_its_row(filled: Connection, keys: KeyRing) -> None:
    scope = Scope("new-owner", "production")
    observed = (await store.begin(filled, scope, keys, lock=True)).state[Key("config", INSTANCE)]
    key = Key("config", "new-owner")
    desired = Resource(key, DESIRED[Key("config", INSTANCE)])
    sealed = {"instance_key": keys.encrypt(Secret("new"), "new-owner", "instance_config", "instance_key")}
    write = row_write(Update(key, (), "manifest", "intent", desired, observed), scope, sealed)
    await store.commit(filled, Writes(run_id="u", rows=(write,)), scope)
    after = await read(filled, scope, keys)
    assert (after.owner, after.config_id) == ("new-owner", observed.row_id)
    assert after.state[key].fields["instance_key"] == Secret("new")


async def test_renaming_keeps_the_row(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    snapshot = await store.begin(filled, scope, keys, lock=True)
    writes = []
    for old, new in ((Key("queue", "Sales"), "Vendas"), (Key("admin", "admin@empresa.com"), "nova@empresa.com")):
        row = snapshot.state[old]
        desired = Resource(Key(old.kind, new), row.fields, renamed_from=old.name)
        writes.append(row_write(Update(desired.key, (), "manifest", "intent", desired, row), scope, None))
    await store.commit(filled, Writes(run_id="u", rows=tuple(writes)), scope)
    after = await read(filled, scope, keys)
    assert after.state[Key("queue", "Vendas")].row_id == snapshot.state[Key("queue", "Sales")].row_id
    renamed = after.state[Key("admin", "nova@empresa.com")]
    assert revealed(renamed.fields) == revealed(DESIRED[Key("admin", "admin@empresa.com")])
    assert Key("queue", "Sales") not in after.state


async def test_queues_are_deactivated_and_removed(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    state = (await store.begin(filled, scope, keys, lock=True)).state
    sales, support = state[Key("queue", "Sales")], state[Key("queue", "Technical Support")]
    off = row_write(Deactivate(sales.key, (), "manifest", "intent", sales), scope)
    gone = row_write(Remove(support.key, (), "manifest", "intent", support), scope)
    await store.commit(filled, Writes(run_id="u", rows=(off, gone)), scope)
    after = (await read(filled, scope, keys)).state
    assert after[sales.key].fields == {"description": None, "is_active": False}
    assert support.key not in after


async def test_of_queues_with_one_name_the_oldest_active_one_counts(
    conn: Connection, scope: Scope, keys: KeyRing
) -> None:
    await conn.execute(
        "INSERT INTO queues (id, name, is_active, environment, created_at) VALUES "
        "('a', 'Sales', false, 'production', '2025-01-01'), ('b', 'Sales', true, 'production', '2025-01-03'), "
        "('c', 'Sales', true, 'production', '2025-01-02'), ('d', 'Sales', true, 'development', '2024-01-01')"
    )
    assert (await read(conn, scope, keys)).state[Key("queue", "Sales")].row_id == "c"


async def test_of_several_configs_the_oldest_of_the_instance_has_the_check(
    filled: Connection, scope: Scope, keys: KeyRing
) -> None:
    await filled.execute(
        "UPDATE instance_config SET created_at = '2025-01-02'; "
        "INSERT INTO instance_config (id, instance_id, instance_key, connect_api_url, created_at) VALUES "
        "('other', 'another', 'k', 'https://c', '2024-01-01'), "
        "('first', 'client-abc-123', 'k', 'https://c', '2025-01-01')"
    )
    snapshot = await store.begin(filled, scope, keys, lock=True)
    checks = (replace(CHECK, config_id=snapshot.config_id), replace(CHECK, id="unread", config_id=None))
    await store.commit(filled, Writes(run_id="r", check=checks[0]), scope)
    await store.begin(filled, scope, keys, lock=True)
    await store.commit(filled, Writes(run_id="r", check=checks[1]), scope)
    cursor = await filled.execute("SELECT id, instance_config_id FROM status_check_logs")
    assert sorted(await cursor.fetchall()) == sorted((check.id, "first") for check in checks)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("Sales", "Support"), False),
        (("Sales", "Sales"), True),
        (("Sales", "sales"), True),
        (("Vendas à vista", "Vendas a\u0300 vista", "Support"), True),
        (("Sales 1", "Sales-1"), True),
        (("Sales 1", "Sales 2"), False),
    ],
)
def test_names_that_may_be_one_are_asked_of_the_database(names: tuple[str, ...], *, asked: bool) -> None:
    assert several("queue", [{"key": name} for name in names]) is asked


def test_a_no_op_sorts_nothing_and_makes_two_settings(scope: Scope) -> None:
    """Each of these costs a new server process more than reading a table. An index finds the end of the audit log."""
    writes = Writes("r", check=replace(CHECK, config_id="c"), last_run=LAST_RUN)
    texts = {name: query("state", name) for name in OWN}
    texts |= {kind: statement(kind, "read", scope.schema) for kind in kinds_with_rows()}
    texts |= {str(place): text for place, (text, _) in enumerate(build_statements(writes, scope))}
    sorting = {
        name for name, text in texts.items() if re.search(r"ORDER BY|DISTINCT ON|GROUP BY|UNION\b(?! ALL)", text)
    }
    assert sorting == {"audit_head"}
    made = re.findall(r"set_config\('(\w+\.\w+)'", query("transaction", "settings"))
    assert made == ["fiv.environment", "fivrec.write_path"]


@pytest.mark.parametrize("table", ["queues", "instance_config"])
async def test_a_table_that_lost_its_times_is_found(
    filled: Connection, scope: Scope, keys: KeyRing, table: str
) -> None:
    await filled.execute(f"ALTER TABLE {table} DROP COLUMN created_at")
    assert (await read(filled, scope, keys)).missing == (f"{table}.created_at",)


async def test_a_queue_without_a_time_is_the_oldest(conn: Connection, scope: Scope, keys: KeyRing) -> None:
    await conn.execute(
        "INSERT INTO queues (id, name, created_at) VALUES ('a', 'Sales', '2025-01-01'), ('b', 'Sales', NULL)"
    )
    assert (await read(conn, scope, keys)).state[Key("queue", "Sales")].row_id == "b"


async def test_a_queue_with_conversations_is_referred_to(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    await filled.execute("INSERT INTO conversations (queue_id) SELECT id FROM queues WHERE name = 'Sales'")
    state = (await read(filled, scope, keys)).state
    assert state[Key("queue", "Sales")].referenced
    assert not state[Key("queue", "Technical Support")].referenced
    unasked = Scope(INSTANCE, "production", references=False)
    assert not (await read(filled, unasked, keys)).state[Key("queue", "Sales")].referenced
    await filled.execute("ALTER TABLE users DROP COLUMN role")  # reads in adopting mode, with the same result
    assert (await read(filled, scope, keys)).state[Key("queue", "Sales")].referenced


async def test_only_the_environments_rows_are_read(filled: Connection, keys: KeyRing) -> None:
    state = (await read(filled, Scope(INSTANCE, "development"), keys)).state
    assert {key.kind for key in state} == {"config", "environment", "plan", "setting", "status"}
    assert state[Key("environment", INSTANCE)].fields["name"] == "production"


async def test_an_email_that_the_other_environment_holds_is_named(filled: Connection, keys: KeyRing) -> None:
    await filled.execute(
        "INSERT INTO public.users (name, email, password, environment) "
        "VALUES ('x', 'dev@empresa.com', 'p', 'development')"
    )
    await filled.commit()
    with pytest.raises(DatabaseError) as raised:
        await store.begin(filled, Scope(INSTANCE, "production", "dev@empresa.com"), keys, lock=True)
    assert raised.value.code == "admin_email_taken"


async def test_an_email_taken_since_it_was_read_writes_nothing(conn: Connection, scope: Scope, keys: KeyRing) -> None:
    await store.begin(conn, scope, keys, lock=True)
    await conn.execute(
        "INSERT INTO public.users (name, email, password, environment) "
        "VALUES ('x', 'admin@empresa.com', 'p', 'development')"
    )
    with pytest.raises(DatabaseError) as raised:
        await store.commit(conn, creations(keys, scope), scope)
    assert raised.value.code == "admin_email_taken"
    assert (await read(conn, scope, keys)).state == {}


async def test_changing_environment_leaves_one_record_of_it(filled: Connection, keys: KeyRing) -> None:
    scope = Scope(INSTANCE, "development")
    key = Key("environment", INSTANCE)
    observed = (await store.begin(filled, scope, keys, lock=True)).state[key]
    wanted = {"name": "development", "isolation": "constraints"}
    change = Update(key, (), "manifest", "intent", Resource(key, wanted), observed)
    writes = Writes(run_id="u", rows=(row_write(change, scope),), applied=((key, wanted),))
    await store.commit(filled, writes, scope)
    after = await read(filled, scope, keys)
    assert after.state[key].fields == wanted
    cursor = await filled.execute("SELECT environment FROM fivrec.applied WHERE kind = 'environment'")
    assert await cursor.fetchall() == [("development",)]


async def test_a_failing_write_leaves_nothing_and_quotes_no_value(
    conn: Connection, scope: Scope, keys: KeyRing
) -> None:
    key = Key("plan", "canary")
    bad = row_write(Create(key, (), "connect", "new", Resource(key, {**PLAN, "billing_interval": None})), scope)
    await store.begin(conn, scope, keys, lock=True)
    writes = creations(keys, scope)
    with pytest.raises(DatabaseError) as raised:
        await store.commit(conn, Writes(run_id="r", rows=(*writes.rows, bad), check=CHECK), scope)
    text = f"{raised.value.message} {raised.value.hint} {raised.value.__cause__!r} {raised.value.__cause__}"
    assert "plans" in text
    assert "billing_interval" in text
    assert "canary" not in text
    assert (await read(conn, scope, keys)).state == {}


async def test_a_dry_run_can_not_write(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    await store.begin(filled, scope, keys, lock=False)
    with pytest.raises(DatabaseError) as raised:
        await store.commit(filled, Writes(run_id="r", check=CHECK), scope)
    assert raised.value.code == "database_read_only"


async def test_a_no_op_apply_is_two_round_trips_and_writes_the_check(
    filled: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    before = await _versions(migrated)
    scope = replace(scope, declared_queues=("Sales", "Technical Support"))
    async with proxied(migrated) as (counted, url):
        conn = await open_connection(url)
        connecting = counted.traffic.turns
        await store.begin(conn, scope, keys, lock=True)
        assert counted.traffic.turns - connecting == 1
        await store.commit(conn, Writes(run_id="r", check=CHECK), scope)
        assert counted.traffic.turns - connecting == 2
        await conn.close()
    after = await _versions(migrated)
    assert {row for row in after - before if row[0] != "instance_config"} == {
        row for row in after if row[0] == "status_check_logs"
    }
    cursor = await filled.execute("SELECT check_type, success, status_received, response_time FROM status_check_logs")
    assert await cursor.fetchall() == [("manual", True, "active", 41)]
    cursor = await filled.execute("SELECT now() AT TIME ZONE 'UTC' - last_status_check < '1 min' FROM instance_config")
    assert await cursor.fetchall() == [(True,)]
    assert (await read(filled, scope, keys)).answered


async def _versions(url: Secret) -> set[tuple]:
    tables = ("users", "queues", "plans", "settings", "instance_config", "status_check_logs", "fivrec.applied")
    async with await psycopg.AsyncConnection.connect(url.reveal()) as conn:
        found = set()
        for table in tables:
            cursor = await conn.execute(f"SELECT ctid::text, xmin::text FROM {table}")
            found |= {(table, *row) for row in await cursor.fetchall()}
    return found


async def test_settings_end_with_the_transaction(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "timezone")

    async def values() -> list[str]:
        return [(await (await filled.execute(f"SHOW {name}")).fetchone())[0] for name in names]

    before = await values()
    await store.begin(filled, scope, keys, lock=True)
    assert await values() == ["2s", "15s", "9s", "UTC"]
    cursor = await filled.execute("SELECT current_setting('fiv.environment')")
    assert await cursor.fetchone() == ("production",)
    await store.commit(filled, Writes(run_id="r"), scope)
    assert await values() == before


async def test_an_error_within_a_savepoint_keeps_the_limit_of_the_transaction(conn: Connection, scope: Scope) -> None:
    """PostgreSQL stops the clock at each error: after one, nothing ended a transaction whose link froze."""
    if conn.info.server_version < 170_000:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    conn.limits = Limits(transaction_ms=2500)
    await transaction.open_locked(conn, {}, {}, scope=scope)
    await conn.execute("SAVEPOINT part")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("SELECT 1 / 0")
    await transaction.undo(conn, "part")
    with pytest.raises(psycopg.errors.TransactionTimeout):
        await conn.execute("SELECT pg_sleep(10)")


async def test_a_logins_own_limit_ends_no_transaction_without_a_lock(
    migrated: Secret, scope: Scope, open_connection: Connect
) -> None:
    """An app may set it for its database, in which a reading takes longer."""
    with psycopg.connect(migrated.reveal(), autocommit=True) as raw:
        if raw.info.server_version < 170_000:
            pytest.skip("transaction_timeout came with PostgreSQL 17")
        database = sql.Identifier(raw.info.dbname)
        raw.execute(sql.SQL("ALTER DATABASE {} SET transaction_timeout = '1s'").format(database))
    conn = await open_connection(migrated)
    rows = await transaction.read_rows_once(conn, "SELECT pg_sleep(1.2)::text AS slept", {}, scope=scope)
    assert rows == [{"slept": ""}]
    await transaction.open_writing(conn, {}, {}, scope=scope)
    await conn.execute("SELECT pg_sleep(1.2)")
    await conn.execute("COMMIT")


async def test_a_newer_schema_refuses_records_and_says_why(conn: Connection, migrated: Secret, scope: Scope) -> None:
    """For example a call of `serve`: it records a login before checking it."""
    newer = f"INSERT INTO fivrec.migrations (version, name, checksum) VALUES ({latest_version() + 1}, 'future', 'abc')"
    with psycopg.connect(migrated.reveal(), autocommit=True) as raw:
        raw.execute(newer.encode())
    with pytest.raises(DatabaseError) as raised:
        await store.begin_recording(conn, scope)
    assert raised.value.code == "schema_newer"


async def test_a_held_instance_is_busy_and_names_the_holder(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    holder = await open_connection(migrated, "fivrec apply 1234abcd")
    await store.begin(holder, scope, keys, lock=True)
    (pid,) = await (await holder.execute("SELECT pg_backend_pid()")).fetchone()
    conn.limits = Limits(lock_wait_s=0.3)
    with pytest.raises(Busy) as raised:
        await store.begin(conn, scope, keys, lock=True)
    text = raised.value.message
    assert re.search(rf"fivrec apply 1234abcd, pid {pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d", text)
    other = Scope("another-instance", "production")
    await store.begin(conn, other, keys, lock=True)
    await store.rollback(conn)
    await store.begin(conn, scope, keys, lock=False)  # reading needs no lock


async def test_an_instance_is_busy_while_another_run_migrates_its_tables(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    """The lock's answer comes with the readings, which wait for the tables: it was `lock_timeout` after two seconds."""
    holder = await open_connection(migrated, "fivrec apply 1234abcd")
    await store.begin(holder, scope, keys, lock=True)
    await holder.execute("LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE")
    conn.limits = Limits(lock_wait_s=0.3)
    with pytest.raises(Busy, match="fivrec apply 1234abcd"):
        await store.begin(conn, scope, keys, lock=True)
    with pytest.raises(DatabaseError) as raised:
        await store.begin(conn, Scope("another-instance", "production"), keys, lock=True)
    assert raised.value.code == "lock_timeout"


async def test_a_waiter_for_the_lock_sees_what_the_holder_wrote(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    holder = await open_connection(migrated)
    await store.begin(holder, scope, keys, lock=True)
    waiting = asyncio.create_task(store.begin(conn, scope, keys, lock=True))
    await asyncio.sleep(0.2)
    await store.commit(holder, creations(keys, scope), scope)
    assert Key("queue", "Sales") in (await waiting).state


async def test_a_superuser_waits_for_a_table_whose_row_is_seen_before_its_name(
    conn: Connection, migrated: Secret, open_connection: Connect
) -> None:
    """As while another run makes the schema: a commit shows rows a moment before other sessions look up names again.
    Here an older snapshot still has the name."""
    hold, other = query("guard", "hold", "public").replace("%%", "%"), await open_connection(migrated)
    await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await conn.execute("SELECT set_config('fivrec.held', 'fivrec', true)")
    await other.execute("ALTER TABLE fivrec.applied RENAME TO elsewhere")
    holding = asyncio.create_task(conn.execute(hold))
    await asyncio.sleep(0.1)
    assert not holding.done()
    await other.execute("ALTER TABLE fivrec.elsewhere RENAME TO applied")
    await holding
    held = "SELECT FROM pg_locks WHERE relation = 'fivrec.applied'::regclass AND mode = 'AccessShareLock' AND pid <> %s"
    assert await (await other.execute(held, [other.info.backend_pid])).fetchall()


async def test_a_table_that_stays_away_is_an_error(
    conn: Connection, migrated: Secret, open_connection: Connect
) -> None:
    hold, other = query("guard", "hold", "public").replace("%%", "%"), await open_connection(migrated)
    await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await conn.execute("SELECT set_config('fivrec.held', 'fivrec', true)")
    await other.execute("ALTER TABLE fivrec.applied RENAME TO elsewhere")
    with pytest.raises(psycopg.errors.UndefinedTable, match="applied"):
        await conn.execute(hold)


async def test_a_silent_link_ends_at_the_deadline(
    migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    async with proxied(migrated) as (link, url):
        conn = await open_connection(url, limits=Limits(total_s=0.5))
        link.freeze()
        with pytest.raises(DatabaseError) as raised:
            await store.begin(conn, scope, keys, lock=True)
        assert raised.value.code == "database_timeout"
        assert conn.closed


async def test_a_link_lost_on_commit_can_be_looked_up(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    async with proxied(migrated) as (link, url):
        through = await open_connection(url)
        await store.begin(through, scope, keys, lock=True)
        link.faults.cut_answer = b"COMMIT"
        with pytest.raises(DatabaseError) as raised:
            await store.commit(through, creations(keys, scope), scope)
    assert raised.value.code == "commit_unknown"
    assert await was_committed(conn, creations(keys, scope), scope)
    assert not await was_committed(conn, replace(creations(keys, scope), run_id="run-2"), scope)
    context = Context("run-1", datetime.now(UTC), Actor("ana"), "d", scope.instance, scope.environment)
    entry = chain((0, ""), context, [Event("queue", "a", "create", "new", "manifest", [])])
    for other in (Writes("run-1", check=CheckRow("manual", True, None, None, None)), Writes("run-1", audit=entry)):
        assert not await was_committed(conn, other, scope)
    assert Key("queue", "Sales") in (await read(conn, scope, keys)).state


async def test_an_interrupted_reading_leaves_no_lock(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    holder = await open_connection(migrated)
    await store.begin(holder, scope, keys, lock=True)
    waiting = asyncio.create_task(store.begin(conn, scope, keys, lock=True))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.rollback(holder)
    await store.begin(conn, scope, keys, lock=True)


async def test_audit_entries_come_back_as_they_were_chained(conn: Connection, scope: Scope, keys: KeyRing) -> None:
    context = Context(
        "run-1", datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), Actor("ci", "abc"), "d", INSTANCE, "production"
    )
    shown = [
        {"field": "description", "before": None, "after": "é \U0001f30d 1.5"},
        {"field": "x", "before": 1.25, "after": []},
    ]
    events = tuple(Event("queue", name, "create", "new", "manifest", shown) for name in ("A", "B", "C"))
    head = (await store.begin(conn, scope, keys, lock=True)).audit_head
    written = chain(head, context, events)
    await store.commit(conn, Writes(run_id="run-1", audit=written), scope)
    found = [entry async for entry in read_chain(conn, scope, page=2)]
    assert found == list(written)
    assert verify(found) is None
    assert await store.begin_recording(conn, scope) == Tail((3, written[-1].hash))
    await store.commit(conn, Writes(run_id="run-2", audit=chain((3, written[-1].hash), context, events[:1])), scope)
    await conn.execute("UPDATE fivrec.audit_log SET name = 'Z' WHERE seq = 2")
    finding = verify([entry async for entry in read_chain(conn, scope)])
    assert finding is not None
    assert finding.seq == 2


async def test_a_released_record_keeps_its_run_and_time(filled: Connection, scope: Scope, keys: KeyRing) -> None:
    key = Key("queue", "Sales")
    before = (await store.begin(filled, scope, keys, lock=True)).applied[key]
    released = replace(before, fields={"is_active": False}, provenance="created", tenure="retired")
    await store.commit(filled, Writes(run_id="u", released=((key, released),)), scope)
    assert (await read(filled, scope, keys)).applied[key] == released


async def test_a_usage_report_is_queued_once(conn: Connection, scope: Scope) -> None:
    report = {"totalUsers": 5, "environment": "production"}
    for _ in range(2):
        await write_usage(conn, scope, PendingUsage("key-1", report, 0))
    cursor = await conn.cursor(row_factory=dict_row).execute("SELECT id, instance, payload FROM fivrec.usage_outbox")
    assert await cursor.fetchall() == [{"id": "key-1", "instance": INSTANCE, "payload": report}]


def test_statements_on_shared_tables_filter_by_environment() -> None:
    """breaking_rows looks for rows in the wrong environment; adopting reads a column that may not exist yet."""
    shared = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+\{app\}\.(users|clients|conversations|messages|queues)\b")
    filtered = re.compile(
        r"%\(environment\)s|current_setting\('fiv.environment'\)|\benvironment'?(?:::text)? = 'development'"
    )
    checked = 0
    for folder in ("kinds", "queries"):
        for path in sorted(resource_path(f"sql/{folder}").glob("*.sql")):
            for name, text in statements(f"sql/{folder}/{path.name}").items():
                places = len(shared.findall(text))
                if not places or name == "breaking_rows":
                    continue
                checked += 1
                assert len(filtered.findall(text)) >= places, f"{path.name} {name}"
    assert checked >= 12


async def test_enforced_isolation_is_refused_to_a_login_it_cannot_bind(
    filled: Connection, scope: Scope, keys: KeyRing
) -> None:
    with pytest.raises(Refused) as raised:
        await update(filled, scope, keys, Key("environment", INSTANCE), name="production", isolation="enforced")
    assert raised.value.code == "isolation_refused"


async def test_enforced_isolation_hides_rows_and_can_be_left_again(
    database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect, owner_of
) -> None:
    try:
        conn = await open_connection(owner_of(database))
    except DatabaseError as exc:
        pytest.skip(f"a pooler that knows no new logins: {exc}")
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, Writes(run_id="m", migrate=True), scope)
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, creations(keys, scope), scope)
    key = Key("environment", INSTANCE)
    enforced = await update(conn, scope, keys, key, name="production", isolation="enforced")
    assert enforced.state[key].fields["isolation"] == "enforced"
    assert Key("queue", "Sales") in enforced.state
    assert await (await conn.execute("SELECT count(*) FROM queues")).fetchone() == (0,)
    await conn.execute("SELECT set_config('fiv.environment', 'production', false)")
    assert await (await conn.execute("SELECT count(*) FROM queues")).fetchone() == (2,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await conn.execute("INSERT INTO queues (name, environment) VALUES ('x', 'development')")
    left = await update(conn, scope, keys, key, name="production", isolation="constraints")
    assert left.state[key].fields["isolation"] == "constraints"


async def test_a_change_of_a_kind_without_rows_writes_no_row(scope: Scope) -> None:
    key = Key("schema", "fivrec")
    change = Create(key, (FieldChange("version", None, 1),), "manifest", "new", Resource(key, {"version": 1}))
    assert row_write(change, scope) is None
