"""Purge: deletes development rows, in order and in batches, and nothing else; in doubt, nothing at all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from reconciler.database.pipeline import PipelinedConnection
from reconciler.database.purge import delete_development
from reconciler.database.rows import Scope
from reconciler.database.schema import latest_version
from reconciler.database.transaction import open_locked
from reconciler.engine.purge import count_development_rows, counts, with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.isolated import SHARED, Isolated, apply, environment, fill

PURGED = environment(purge_development_data=True)
MESSAGES = int(os.environ.get("FIVREC_TEST_PURGE_MESSAGES", "100000"))
"""docs/environments.md gives figures for 1000000, which takes about a minute."""


async def purge(url: Secret, keys: KeyRing, folder: Path, name: str = "production", **limits: int) -> InstanceReport:
    item = with_purge([desired_of(document(environment=environment(name)), url)], "development")
    run = run_of(keys, folder, 9, check_only=True)
    run = replace(run, limits=replace(run.limits, **limits))
    shown = await count_development_rows(item, run)
    assert shown.error is None
    return await reconcile(item, replace(run, accept=frozenset({shown.digest or ""})))


def hashes(url: str, name: str) -> dict[str, tuple]:
    """Returns count and digest of one environment's rows per table; xmin and ctid reveal rows that were rewritten."""
    with psycopg.connect(url) as conn:
        return {
            table: conn.execute(
                f"SELECT count(*), md5(string_agg(t::text || xmin || ctid, '' ORDER BY id)) FROM {table} t "
                "WHERE environment = %s",
                (name,),
            ).fetchone()
            or ()
            for table in SHARED
        }


@pytest.mark.parametrize("isolation", ["constraints", "enforced"])
async def test_development_rows_go_and_production_rows_stay(
    isolation: str, isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(isolated.owner, keys, tmp_path, environment=environment(isolation=isolation))
    before = hashes(isolated.admin, "production")
    report = await purge(isolated.owner, keys, tmp_path)
    assert report.error is None
    assert counts(report) == dict.fromkeys(SHARED, 1)
    assert hashes(isolated.admin, "production") == before
    assert all(found[0] == 0 for found in hashes(isolated.admin, "development").values())
    again = await purge(isolated.owner, keys, tmp_path)
    assert (again.outcome, again.changes) == ("in_sync", ())


async def test_purge_makes_no_tables(seed_database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        await purge(seed_database, keys, tmp_path)
    assert (caught.value.code, caught.value.hint) == ("schema_missing", "run `fivrec apply` once")
    with psycopg.connect(seed_database.reveal()) as conn:
        assert conn.execute("SELECT to_regnamespace('fivrec')").fetchone() == (None,)


async def test_a_newer_fivrecs_rows_are_not_purged(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    await apply(isolated.owner, keys, tmp_path)
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        newer = "INSERT INTO fivrec.migrations (version, name, checksum) VALUES (%s, 'future', 'abc')"
        conn.execute(newer, (latest_version() + 1,))
    item = with_purge([desired_of(document(), isolated.owner)], "development")
    shown = await count_development_rows(item, run_of(keys, tmp_path, 9, check_only=True))
    assert shown.error is not None
    assert (shown.error.code, shown.outcome, shown.exit_code) == ("schema_newer", "failed", 1)


async def test_a_schema_may_be_named_like_a_parameter(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired = desired_of(document(plans=None, environment=PURGED), database, connect=None)
    desired = replace(desired, database=replace(desired.database, schema="a %s{table} é"))
    with psycopg.connect(database.reveal()) as conn:
        conn.execute('CREATE SCHEMA "a %s{table} é"')
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(database.reveal()) as conn:
        conn.execute("""INSERT INTO "a %s{table} é".queues (name, environment) VALUES ('Test', 'development')""")
    report = await reconcile(desired, run_of(keys, tmp_path, 2))
    assert (report.error, counts(report)) == (None, {"queues": 1})


async def test_the_moving_administrator_stays_beside_an_inheriting_table(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """A ctid is unique within one table only: each of the tables has a first row."""
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(environment=environment("development")), database), run)
    with psycopg.connect(database.reveal()) as conn:
        kept = conn.execute("SELECT id FROM users").fetchone()
        conn.execute("CREATE TABLE old_users () INHERITS (users)")
        conn.execute(
            "INSERT INTO old_users (name, email, password, environment) "
            "SELECT g, g || '@x.example', '!', 'development' FROM generate_series(1, 9) g"
        )
    desired = desired_of(document(environment=PURGED), database)
    shown = await preview(desired, run)
    report = await reconcile(desired, replace(run, id="second", accept=frozenset({shown.digest or ""})))
    assert report.error is None
    with psycopg.connect(database.reveal()) as conn:
        assert conn.execute("SELECT id, environment FROM users").fetchall() == [(*(kept or ()), "production")]


async def test_the_audit_log_holds_the_counts(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    await purge(database, keys, tmp_path)
    with psycopg.connect(database.reveal()) as conn:
        entries = conn.execute(
            "SELECT name, action, fields FROM fivrec.audit_log WHERE kind = 'test_data' ORDER BY name"
        ).fetchall()
    assert entries == [(name, "remove", [{"field": "rows", "before": 1, "after": None}]) for name in sorted(SHARED)]


async def test_the_next_apply_recreates_a_purged_instance(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    sections = {"environment": environment("development")}
    await apply(database, keys, tmp_path, **sections)
    report = await purge(database, keys, tmp_path, "development")
    assert counts(report) == {"queues": 2, "users": 1}
    again = await apply(database, keys, tmp_path, **sections)
    assert [(str(change.key), change.action, change.cause) for change in again.changes] == [
        ("admin/admin@empresa.com", "create", "new"),
        ("queue/Sales", "create", "new"),
        ("queue/Technical Support", "create", "new"),
    ]


async def test_apply_deletes_test_data_by_the_manifests_consent(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    wanted = environment(isolation="enforced", purge_development_data=True)
    before = hashes(isolated.admin, "production")
    planned = await preview(
        desired_of(document(plans=None, environment=wanted), isolated.owner, connect=None), run_of(keys, tmp_path)
    )
    assert [(str(change.key), change.action) for change in planned.changes] == [
        (f"test_data/{table}", "remove") for table in sorted(SHARED)
    ]
    assert planned.notes == ()
    done = await apply(isolated.owner, keys, tmp_path, environment=wanted)
    assert (done.outcome, done.error) == ("changed", None)
    assert (await apply(isolated.owner, keys, tmp_path, environment=wanted)).outcome == "in_sync"
    assert hashes(isolated.admin, "production") == before


async def test_a_development_instance_never_removes_production_rows(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "production")
    before = hashes(database.reveal(), "production")
    admin = {**document()["admin"], "email": "dev@empresa.com"}
    wanted = environment("development", purge_development_data=True)
    planned = await preview(
        desired_of(document(plans=None, admin=admin, environment=wanted), database, connect=None),
        run_of(keys, tmp_path),
    )
    assert not [change for change in planned.changes if change.action == "remove"]
    await purge(database, keys, tmp_path, "development")
    assert hashes(database.reveal(), "production") == before


async def test_an_adopted_database_is_purged_by_its_first_apply(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO users (name, email, password, environment) VALUES ('T', 't@t.test', 'x', 'development')"
        )
        desired = desired_of(document(plans=None, environment=PURGED), seed_database, connect=None)
        planned = await preview(desired, run_of(keys, tmp_path))
        done = await apply(seed_database, keys, tmp_path, environment=PURGED, accept=frozenset({planned.digest or ""}))
        assert (done.outcome, done.error) == ("changed", None)
        assert conn.execute("SELECT count(*) FROM users WHERE environment = 'development'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("doubt", "said"),
    [
        (
            "CREATE TABLE notes (id serial, user_id varchar REFERENCES users (id) ON DELETE CASCADE)",
            "the foreign key notes_user_id_fkey of notes is without environment: it would reach into rows of any",
        ),
        (  # these columns match a key of the app's own, but its environment may be NULL and then enforces nothing
            """CREATE TABLE notes (user_id varchar REFERENCES users (id) ON DELETE CASCADE, environment text,
              CONSTRAINT notes_environment_fkey FOREIGN KEY (user_id, environment) REFERENCES users (id, environment))
            """,
            "the foreign key notes_user_id_fkey of notes is without environment: it would reach into rows of any",
        ),
        (
            "ALTER TABLE conversations ADD COLUMN payer varchar REFERENCES clients (id) ON DELETE SET NULL",
            "the foreign key conversations_payer_fkey of conversations is without environment",
        ),
        (
            """ALTER TABLE conversations DROP CONSTRAINT conversations_queue_id_environment_fkey;
            INSERT INTO conversations (id, queue_id, environment) VALUES ('x', 'qdevelopment', 'production');
            ALTER TABLE conversations ADD CONSTRAINT conversations_queue_id_environment_fkey
              FOREIGN KEY (queue_id, environment) REFERENCES queues (id, environment) NOT VALID""",
            "conversations_queue_id_environment_fkey is not validated: rows of conversations break it",
        ),
    ],
)
async def test_in_doubt_nothing_is_deleted(
    doubt: str, said: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development", "production")
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(doubt)
    before = hashes(database.reveal(), "development")
    report = await purge(database, keys, tmp_path)
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (3, "purge_refused")
    assert said in report.error.message
    assert hashes(database.reveal(), "development") == before
    notes = (await preview(desired_of(document(environment=PURGED), database), run_of(keys, tmp_path))).notes
    assert f"apply refuses this (purge_refused): {said}" in " ".join(notes)


@pytest.mark.parametrize(
    ("app", "noted", "said"),
    [
        (
            "CREATE TABLE files (user_id varchar REFERENCES users (id) ON DELETE CASCADE)",
            "(purge_refused): the foreign key files_user_id_fkey of files is without environment: it would reach into",
            "the foreign key files_user_id_fkey of files is without environment",
        ),
        (
            """CREATE EXTENSION citext; ALTER TABLE users ADD code citext UNIQUE; UPDATE users SET code = id;
            CREATE TABLE files (code citext REFERENCES users (code)); INSERT INTO files VALUES ('t'), (NULL)""",
            "(purge_in_use): rows of files refer to test data of users",
            "rows to be deleted are referred to by files",
        ),
        (  # a table without the column gets it, and its rows are production's then
            """CREATE TABLE messages (id varchar PRIMARY KEY, user_id varchar REFERENCES users (id) ON DELETE CASCADE);
            INSERT INTO messages VALUES ('m', 'T')""",
            "(purge_refused): rows of messages refer by user_id to none of their environment",
            "messages_user_id_environment_fkey is not validated: rows of messages break it",
        ),
        (
            "INSERT INTO users (name, email, password, environment) VALUES ('X', 'x@t.test', 'x', 'staging')",
            "(purge_refused): rows of users are of no environment",
            "users_environment_check is not validated: rows of users break it",
        ),
        (
            """INSERT INTO users (name, email, password, environment)
              SELECT repeat('x', 1000), g || '@t.test', 'x', 'production' FROM generate_series(1, 5000) g""",
            "(purge_refused): not all rows of users are looked at before, as it is big: apply once without",
            "users_environment_check is not validated: not all rows of users were looked at",
        ),
    ],
)
async def test_a_dry_run_foresees_what_refuses_a_first_purge(
    app: str, noted: str, said: str, *, seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO users (id, name, email, password, environment) VALUES ('T', 'T', 't@t.it', 'x', 'development')"
        )
        conn.execute(app)
    desired = desired_of(document(plans=None, environment=PURGED), seed_database, connect=None)
    planned = await preview(desired, run_of(keys, tmp_path))
    (refusal,) = [note for note in planned.notes if "apply refuses this" in note and "guard" not in note]
    assert f"apply refuses this {noted}" in refusal
    done = await apply(seed_database, keys, tmp_path, environment=PURGED, accept=frozenset({planned.digest or ""}))
    assert done.error is not None
    assert (f"({done.error.code})", said in done.error.message) == (noted.partition(":")[0], True)


async def test_a_first_purge_beside_big_tables_succeeds_as_its_hint_says(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(seed_database.reveal(), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO users (name, email, password, environment) SELECT repeat('x', 1000), g || '@t.test', 'x', "
            "CASE g WHEN 1 THEN 'development' ELSE 'production' END FROM generate_series(1, 5000) g"
        )
    refused = await apply(seed_database, keys, tmp_path, environment=PURGED)
    assert refused.error is not None
    assert "run `fivrec apply` once without purge_development_data" in (refused.error.hint or "")
    assert (await apply(seed_database, keys, tmp_path)).error is None
    done = await apply(seed_database, keys, tmp_path, environment=PURGED)
    assert (done.error, counts(done)) == (None, {"users": 2})  # one is the seed's


KEY = "messages_conversation_id_environment_fkey"
CROSSED = f"""
ALTER TABLE messages DROP CONSTRAINT {KEY};
INSERT INTO messages (id, conversation_id, environment) VALUES ('x', 'k{{parent}}', '{{child}}');
ALTER TABLE messages ADD FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE;
ALTER TABLE messages ADD CONSTRAINT {KEY}
  FOREIGN KEY (conversation_id, environment) REFERENCES conversations (id, environment) NOT VALID
"""


async def test_a_key_that_only_hidden_rows_break_is_not_called_valid(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(CROSSED.format(parent="production", child="development"))
        found = f"SELECT convalidated FROM pg_constraint WHERE conname = '{KEY}'"
        wanted = document(plans=None, environment=environment(isolation="enforced"))
        desired = desired_of(wanted, isolated.owner, connect=None)
        kept = await reconcile(desired, run_of(keys, tmp_path, 2, deep=True))
        assert (kept.outcome, conn.execute(found).fetchone()) == ("in_sync", (False,))
        conn.execute("DROP INDEX messages_user_idx")  # validates all that is not valid yet, while it is made again
        remade = await reconcile(desired, run_of(keys, tmp_path, 3, deep=True))
        assert conn.execute(found).fetchone() == (False,)
        assert "⚠️ messages x: conversation_id points out of its environment; it is kept, fix it by hand" in remade.notes
        conn.execute("DELETE FROM messages WHERE id = 'x'")
        await reconcile(desired, run_of(keys, tmp_path, 4, deep=True))
        assert conn.execute(found).fetchone() == (True,)


async def test_a_key_that_was_validated_while_rows_were_hidden_stops_a_purge(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(CROSSED.format(parent="development", child="production"))
    with psycopg.connect(isolated.owner.reveal(), autocommit=True) as conn:  # as fivrec 0.2.0 did it
        conn.execute("SET fiv.environment = 'development'")
        conn.execute(f"ALTER TABLE messages VALIDATE CONSTRAINT {KEY}")
    before = hashes(isolated.admin, "production")
    report = await purge(isolated.owner, keys, tmp_path)
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (3, "purge_refused")
    assert f"rows of messages break {KEY}" in report.error.message
    assert hashes(isolated.admin, "production") == before


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
async def test_the_apps_own_foreign_keys_do_not_stop_a_purge(
    action: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development", "production")
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        for child, column, parent in (
            ("conversations", "client_id", "clients"),
            ("conversations", "queue_id", "queues"),
            ("conversations", "user_id", "users"),
            ("messages", "conversation_id", "conversations"),
            ("messages", "user_id", "users"),
        ):
            conn.execute(f"ALTER TABLE {child} ADD FOREIGN KEY ({column}) REFERENCES {parent} (id) ON DELETE {action}")
    before = hashes(database.reveal(), "production")
    report = await purge(database, keys, tmp_path)
    assert report.error is None
    assert counts(report) == dict.fromkeys(SHARED, 1)
    assert hashes(database.reveal(), "production") == before
    assert all(found[0] == 0 for found in hashes(database.reveal(), "development").values())


async def test_a_row_that_others_still_refer_to_undoes_all_of_it(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("CREATE TABLE files (user_id varchar REFERENCES users (id))")
        conn.execute("INSERT INTO files VALUES ('udevelopment')")
    before = hashes(database.reveal(), "development")
    report = await purge(database, keys, tmp_path)
    assert report.error is not None
    assert report.error.code == "purge_in_use"
    assert "referred to by files" in report.error.message
    assert hashes(database.reveal(), "development") == before
    notes = (await preview(desired_of(document(environment=PURGED), database), run_of(keys, tmp_path))).notes
    assert "apply refuses this (purge_in_use): rows of files refer to test data of users" in notes


async def test_no_function_of_another_role_looks_for_rows_that_refer_to_test_data(
    database: Secret, keys: KeyRing, tmp_path: Path, fresh_name: Callable[[], str]
) -> None:
    """A dry run would call the function of a column's implicit cast, with a superuser's rights."""
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    role = fresh_name()
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(
            f"""CREATE ROLE {role};
            ALTER TABLE users ADD code integer UNIQUE;
            UPDATE users SET code = 1 WHERE id = 'udevelopment';
            CREATE TYPE mine AS ENUM ('one');
            CREATE FUNCTION mine(mine) RETURNS integer LANGUAGE sql AS $$SELECT 1$$;
            CREATE CAST (mine AS integer) WITH FUNCTION mine(mine) AS IMPLICIT;
            CREATE TABLE files (code mine REFERENCES users (code)); INSERT INTO files VALUES ('one');
            ALTER TYPE mine OWNER TO {role}; ALTER TABLE files OWNER TO {role};
            CREATE OR REPLACE FUNCTION mine(mine) RETURNS integer LANGUAGE plpgsql
              AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
            ALTER FUNCTION mine(mine) OWNER TO {role}""".encode()
        )
    try:
        planned = await preview(desired_of(document(environment=PURGED), database), run_of(keys, tmp_path))
        assert planned.error is None
        assert any(change.key.kind == "test_data" for change in planned.changes)
    finally:
        with psycopg.connect(database.reveal(), autocommit=True) as conn:
            conn.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


async def test_rows_that_came_after_the_counting_are_not_deleted(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    item = with_purge([desired_of(document(environment=environment("development")), database)], None)
    run = run_of(keys, tmp_path, check_only=True)
    shown = await count_development_rows(item, run)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute("INSERT INTO clients (id, name, environment) VALUES ('late', 'x', 'development')")
    before = hashes(database.reveal(), "development")
    report = await reconcile(item, replace(run, accept=frozenset({shown.digest or ""})))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (3, "guard")
    assert hashes(database.reveal(), "development") == before


async def test_rows_that_come_between_counting_and_deleting_undo_it(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    before = hashes(database.reveal(), "development")
    async with await PipelinedConnection.connect(database.reveal()) as conn:
        scope = Scope(INSTANCE, "production")
        await open_locked(conn, {}, {}, scope=scope)
        with pytest.raises(Refused) as caught:
            await delete_development(conn, {"messages": 0, "clients": 9}, scope)
        await conn.rollback()
    assert (caught.value.code, "1 development row, and 0 were counted" in caught.value.message) == (
        "purge_more",
        True,
    )
    assert hashes(database.reveal(), "development") == before


async def test_another_run_holds_the_instance_against_a_purge(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    run = run_of(keys, tmp_path, check_only=True)
    run = replace(run, limits=replace(run.limits, lock_wait_s=0.1))
    item = with_purge([desired_of(document(environment=environment("development")), database)], None)
    async with await PipelinedConnection.connect(database.reveal()) as conn:
        from reconciler.database.transaction import lock_key

        await conn.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(INSTANCE),))
        report = await reconcile(item, run)
    assert (report.exit_code, report.outcome) == (4, "busy")


async def test_many_messages_are_purged_in_bounded_memory(
    database: Secret, keys: KeyRing, tmp_path: Path, record_property
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development", "production")
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO messages (conversation_id, user_id, content, environment) "
            "SELECT 'kdevelopment', 'udevelopment', 'mensagem ' || n, 'development' FROM generate_series(1, %s) n",
            (MESSAGES,),
        )
        conn.execute(
            "INSERT INTO messages (conversation_id, content) SELECT 'kproduction', 'x' FROM generate_series(1, 1000)"
        )
    before = hashes(database.reveal(), "production")
    ended = asyncio.Event()
    reads = asyncio.create_task(_production(database.reveal(), ended))
    memory = _resident_kb()
    started = time.monotonic()
    report = await purge(database, keys, tmp_path, transaction_ms=2000)  # the limit of a transaction without a purge
    took = time.monotonic() - started
    ended.set()
    slowest, count = await reads
    grown = _resident_kb() - memory
    record_property("purge", f"{MESSAGES} messages {took:.1f} s, +{grown} kB, {count} reads, slowest {slowest:.3f} s")
    assert report.error is None
    assert counts(report)["messages"] == MESSAGES + 1
    assert hashes(database.reveal(), "production") == before
    assert slowest < max(1, took / 2)  # a read that waits for the purge takes as long as the purge
    assert grown < 40_000


async def _production(url: str, ended: asyncio.Event) -> tuple[float, int]:
    """An app in production: reads, and sometimes writes. Returns the slowest of them, and how many there were."""
    slowest, count = 0.0, 0
    async with await PipelinedConnection.connect(url, autocommit=True) as conn:
        while not ended.is_set():
            started = time.monotonic()
            await conn.execute(
                "SELECT m.content FROM messages m JOIN conversations c ON c.id = m.conversation_id "
                "WHERE m.conversation_id = 'kproduction' AND m.environment = 'production' LIMIT 50"
            )
            if count % 5 == 0:
                await conn.execute("UPDATE users SET is_online = NOT is_online WHERE id = 'other'")
            slowest, count = max(slowest, time.monotonic() - started), count + 1
            await asyncio.sleep(0.02)
    return slowest, count


def _resident_kb() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
