"""`--deep` and production-test judge objects by definition, not by name; `apply --deep` repairs them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from reconciler.database.errors import NOT_PUT_BACK
from reconciler.database.schema import latest_version
from reconciler.engine.export import export
from reconciler.engine.production_checks import production_test
from reconciler.engine.purge import with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.rotate_keys import rotate
from reconciler.engine.status_and_logs import query_status, verify_history
from reconciler.engine.usage import count_usage
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of

CHECK = "environment IS NOT NULL AND environment IN ('production', 'development')"
ODD = {
    "invalid index": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'messages_conversation_idx'::regclass",
        {"messages: messages_conversation_idx"},
    ),
    "index on other columns": (
        "DROP INDEX status_check_logs_recent_idx; CREATE INDEX status_check_logs_recent_idx ON status_check_logs (id)",
        {"status_check_logs: status_check_logs_recent_idx"},
    ),
    "index in the other direction": (
        (
            "DROP INDEX status_check_logs_recent_idx;"
            "CREATE INDEX status_check_logs_recent_idx ON status_check_logs (instance_config_id, created_at)"
        ),
        {"status_check_logs: status_check_logs_recent_idx"},
    ),
    "partial index of other rows": (
        (
            "DROP INDEX messages_development_idx;"
            "CREATE INDEX messages_development_idx ON messages (id) WHERE environment = 'production'"
        ),
        {"messages: messages_development_idx"},
    ),
    "hash index": (
        (
            "DROP INDEX status_check_logs_heard_idx; CREATE INDEX status_check_logs_heard_idx ON status_check_logs"
            " USING hash (instance_config_id) WHERE success"
        ),
        {"status_check_logs: status_check_logs_heard_idx"},
    ),
    "key that is not unique": (
        (
            "ALTER TABLE messages DROP CONSTRAINT IF EXISTS messages_id_environment_key;"
            "DROP INDEX IF EXISTS messages_id_environment_key;"
            "CREATE INDEX messages_id_environment_key ON messages (id, environment)"
        ),
        {"messages: messages_id_environment_key"},
    ),
    "check redefined": (
        (
            "ALTER TABLE queues DROP CONSTRAINT queues_environment_check;"
            "ALTER TABLE queues ADD CONSTRAINT queues_environment_check CHECK (environment <> 'staging')"
        ),
        {"queues: queues_environment_check"},
    ),
    "check that is always true": (
        (
            "ALTER TABLE queues DROP CONSTRAINT queues_environment_check;"
            f"ALTER TABLE queues ADD CONSTRAINT queues_environment_check CHECK ({CHECK} OR true)"
        ),
        {"queues: queues_environment_check"},
    ),
    "check not validated": (
        (
            "ALTER TABLE queues DROP CONSTRAINT queues_environment_check;"
            f"ALTER TABLE queues ADD CONSTRAINT queues_environment_check CHECK ({CHECK}) NOT VALID"
        ),
        {"queues: queues_environment_check"},
    ),
    "foreign key not validated": (
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_user_id_environment_fkey;"
            "ALTER TABLE messages ADD CONSTRAINT messages_user_id_environment_fkey"
            " FOREIGN KEY (user_id, environment) REFERENCES users (id, environment) NOT VALID"
        ),
        {"messages: messages_user_id_environment_fkey"},
    ),
    "foreign key without environment": (
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_user_id_environment_fkey;"
            "ALTER TABLE messages ADD CONSTRAINT messages_user_id_environment_fkey"
            " FOREIGN KEY (user_id) REFERENCES users (id)"
        ),
        {"messages: messages_user_id_environment_fkey"},
    ),
    "foreign key that deletes": (
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_user_id_environment_fkey;"
            "ALTER TABLE messages ADD CONSTRAINT messages_user_id_environment_fkey"
            " FOREIGN KEY (user_id, environment) REFERENCES users (id, environment) ON DELETE CASCADE"
        ),
        {"messages: messages_user_id_environment_fkey"},
    ),
    "foreign key whose triggers are disabled": (
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        {"messages: messages_conversation_id_environment_fkey", "messages: messages_user_id_environment_fkey"},
    ),
    "triggers disabled at the table referred to": (
        "ALTER TABLE users DISABLE TRIGGER ALL",
        {"messages: messages_user_id_environment_fkey", "conversations: conversations_user_id_environment_fkey"},
    ),
    "function dropped": ("DROP FUNCTION fivrec.unfit()", {"fivrec.unfit: function"}),
    "log table rotated": (
        (
            "ALTER TABLE status_check_logs RENAME TO status_check_logs_2025;"
            "CREATE TABLE status_check_logs (LIKE status_check_logs_2025 INCLUDING DEFAULTS)"
        ),
        {"status_check_logs: status_check_logs_recent_idx", "status_check_logs: status_check_logs_heard_idx"},
    ),
}
NOT_ENFORCED = (
    "ALTER TABLE queues DROP CONSTRAINT queues_environment_check;"
    f"ALTER TABLE queues ADD CONSTRAINT queues_environment_check CHECK ({CHECK}) NOT ENFORCED"
)


async def _is_named_and_repaired(url: Secret, keys: KeyRing, folder: Path, made: str, lost: set[str]) -> None:
    run, deep = run_of(keys, folder), run_of(keys, folder, deep=True)
    desired = desired_of(document(plans=None), url, connect=None)
    await reconcile(desired, run)
    owning(url, made)
    assert (await reconcile(desired, run)).outcome == "in_sync"
    found = await preview(desired, deep)
    assert {field.field for change in found.changes for field in change.fields} == lost
    schema = next(item for item in await production_test(desired, run, allow_embedded=True) if item.name == "schema")
    assert not schema.passed
    repaired = await reconcile(desired, deep)
    assert (repaired.outcome, repaired.error) == ("changed", None)
    assert (await reconcile(desired, deep)).outcome == "in_sync"


@pytest.mark.parametrize("name", sorted(ODD))
async def test_what_has_the_right_name_only_is_repaired(
    name: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await _is_named_and_repaired(database, keys, tmp_path, *ODD[name])


MINE = "FOREIGN KEY (user_id, environment) REFERENCES users (id, environment)"
UNNAMED = (
    f"ALTER TABLE queues DROP CONSTRAINT queues_environment_check, ADD CONSTRAINT mine CHECK ({CHECK})",
    f'ALTER TABLE messages DROP CONSTRAINT messages_user_id_environment_fkey, ADD CONSTRAINT "my own" {MINE}',
)


@pytest.mark.parametrize("adopted", [True, False])
@pytest.mark.parametrize("made", [*UNNAMED, *(f"{one} NOT VALID" for one in UNNAMED)])
async def test_a_constraint_of_another_name_is_the_apps(
    made: str, adopted: bool, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, deep = run_of(keys, tmp_path), run_of(keys, tmp_path, 2, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(database, made, "ALTER TABLE queues ALTER environment DROP NOT NULL")
    if adopted:
        owning(database, "DROP SCHEMA fivrec CASCADE")
    repaired = await reconcile(desired, deep)
    assert (repaired.outcome, repaired.error) == ("changed", None)
    assert (await preview(desired, deep)).outcome == "in_sync"
    kept = owning(database, "SELECT convalidated FROM pg_constraint WHERE conname IN ('mine', 'my own')")
    assert kept == [(not made.endswith("NOT VALID"),)]
    assert owning(database, "SELECT name FROM fivrec.unfit() WHERE state <> 'no table'") == []
    assert owning(database, "SELECT fivrec.nullable()") == []


async def test_a_check_that_is_not_enforced_is_repaired(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    if owning(database, "SELECT current_setting('server_version_num')::int >= 180000") == [(False,)]:
        pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    await _is_named_and_repaired(database, keys, tmp_path, NOT_ENFORCED, {"queues: queues_environment_check"})


ROTATED = {
    "by a bare one": "CREATE TABLE {0} (LIKE {0}_old INCLUDING DEFAULTS)",
    "by one with keys and indexes of other names": "CREATE TABLE {0} (LIKE {0}_old INCLUDING ALL)",
    "by one that holds the old rows": "CREATE TABLE {0} AS TABLE {0}_old; ALTER TABLE {0} ADD PRIMARY KEY (id), "
    "ALTER id SET DEFAULT gen_random_uuid(), ALTER created_at SET DEFAULT now()",
}


@pytest.mark.parametrize("table", ["status_check_logs", "messages"])
@pytest.mark.parametrize("how", ROTATED)
async def test_a_table_that_was_rotated_is_brought_up_to_date(
    how: str, table: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, deep = run_of(keys, tmp_path), run_of(keys, tmp_path, 2, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(database, f"ALTER TABLE {table} RENAME TO {table}_old", ROTATED[how].format(table))
    repaired = await reconcile(desired, deep)
    assert repaired.error is None  # an object that exists under another name is not created again
    assert (await reconcile(desired, run_of(keys, tmp_path, 3, deep=True))).outcome == "in_sync"
    assert owning(database, "SELECT name FROM fivrec.unfit() WHERE state <> 'no table'") == []


async def test_functions_that_a_dump_of_tables_left_out_are_made_again(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """pg_dump -t 'public.*' -t 'fivrec.*': all commands used to fail, and so did the apply that they suggested."""
    run = run_of(keys, tmp_path)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(
        database,
        "DO $$ BEGIN EXECUTE (SELECT format('DROP FUNCTION %s CASCADE', string_agg(oid::regprocedure::text, ', '))"
        " FROM pg_proc WHERE pronamespace = 'fivrec'::regnamespace); END $$",
    )
    found = await preview(desired, run)
    assert (found.outcome, [change.key.kind for change in found.changes]) == ("changed", ["schema"])
    repaired = await reconcile(desired, run)
    assert (repaired.outcome, repaired.error) == ("changed", None)
    assert (await reconcile(desired, run_of(keys, tmp_path, deep=True))).outcome == "in_sync"


AUDIT_LOG = "ALTER TABLE fivrec.audit_log RENAME TO old; CREATE TABLE fivrec.audit_log (LIKE fivrec.old INCLUDING {});"


async def test_a_log_that_was_made_again_has_its_index_under_any_name(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Each apply made the index that the old table has, changed the schema and ended with 0."""
    deep = run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, deep)
    owning(database, AUDIT_LOG.format("ALL"), "INSERT INTO fivrec.audit_log SELECT * FROM fivrec.old")
    assert (await reconcile(desired, deep)).outcome == "in_sync"


OF_FIVREC = {
    "fivrec.last_run.drift": "ALTER TABLE fivrec.last_run DROP COLUMN drift",  # the record of a run needs it
    "fivrec.usage_outbox.last_error": "ALTER TABLE fivrec.usage_outbox DROP COLUMN last_error",  # no apply needs it
    "fivrec.audit_log.run_id": "ALTER TABLE fivrec.audit_log DROP COLUMN run_id",  # a migration needs it
    "fivrec.applied.fields": "ALTER TABLE fivrec.applied DROP COLUMN fields",  # a reading needs it
    "fivrec.audit_log: audit_log_run_id_idx": AUDIT_LOG.format("DEFAULTS")
    + "INSERT INTO fivrec.audit_log SELECT * FROM fivrec.old",  # the old table's index keeps its name
}


@pytest.mark.parametrize("lost", OF_FIVREC)
async def test_what_no_apply_puts_back_is_named_with_a_way_out(
    lost: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """The hint was to run the apply that had just failed; or that apply ended with 0 and left it missing."""
    deep = run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, deep)
    owning(database, OF_FIVREC[lost])
    found = await preview(desired, deep)
    assert lost in {field.field for change in found.changes for field in change.fields}
    failed = await reconcile(desired, deep)
    assert failed.error is not None
    assert (failed.outcome, failed.error.code, failed.error.hint) == ("failed", "schema_missing", NOT_PUT_BACK)
    assert re.split(r"[.:] ?", lost)[-1] in failed.error.message


async def test_a_key_of_a_table_of_fivrecs_own_is_named_with_a_way_out(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(database, "ALTER TABLE fivrec.last_run DROP CONSTRAINT last_run_pkey")
    failed = await reconcile(desired, run)
    assert failed.error is not None
    assert (failed.error.code, "fivrec's own" in failed.error.hint) == ("schema_missing", True)
    owning(database, "ALTER TABLE fivrec.last_run ADD PRIMARY KEY (instance)")
    assert (await reconcile(desired, run)).outcome == "in_sync"


async def test_a_table_that_was_swapped_is_brought_up_to_date(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    deep = run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, deep)
    owning(
        database,
        "CREATE TABLE conversations_new (LIKE conversations INCLUDING ALL)",
        "ALTER TABLE conversations RENAME TO conversations_old; ALTER TABLE conversations_new RENAME TO conversations",
    )
    repaired = await reconcile(desired, deep)
    assert (repaired.outcome, repaired.error) == ("changed", None)
    assert (await reconcile(desired, deep)).outcome == "in_sync"
    assert owning(
        database,
        "SELECT conname FROM pg_constraint WHERE conrelid = 'messages'::regclass"
        " AND confrelid = 'conversations'::regclass",
    ) == [("messages_conversation_id_environment_fkey",)]


async def test_other_types_of_columns_are_the_same_definitions(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    owning(
        database,
        "CREATE TYPE \"Env\" AS ENUM ('production', 'development')",
        "CREATE TABLE queues (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(80) NOT NULL,"
        " environment varchar(20) NOT NULL DEFAULT 'production')",
        "CREATE TABLE messages (id uuid PRIMARY KEY, environment \"Env\" NOT NULL DEFAULT 'production')",
        "CREATE TABLE conversations (id varchar PRIMARY KEY, queue_id uuid, environment varchar(20) NOT NULL)",
    )
    deep = run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    report = await reconcile(desired, deep)
    if report.error is not None:  # foreign keys need columns of the same type
        assert report.error.code == "column_type"
        owning(database, "DROP TABLE messages")
        report = await reconcile(desired, deep)
    assert (await reconcile(desired, deep)).outcome == "in_sync"


@pytest.mark.parametrize(
    "setting",
    [
        "quote_all_identifiers = on",
        "plpgsql.extra_errors = 'all'",
        "plpgsql.variable_conflict = use_column",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
    ],
)
async def test_a_database_of_odd_settings_is_the_same(
    setting: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname).as_string()
        conn.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    desired = desired_of(document(plans=None), database, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).outcome == "changed"
    assert owning(database, "SELECT name FROM fivrec.unfit() WHERE state <> 'no table'") == []
    assert (await reconcile(desired, run_of(keys, tmp_path, 2, deep=True))).outcome == "in_sync"


LATER = {
    "nothing else": "",
    "a column that must be filled": "ALTER TABLE fivrec.last_run ADD weight integer NOT NULL DEFAULT 0;"
    "ALTER TABLE fivrec.last_run ALTER weight DROP DEFAULT; ALTER TABLE fivrec.applied ADD origin text;"
    "ALTER TABLE fivrec.audit_log ADD signed_by text",
    "a table less": "DROP TABLE fivrec.alert_outbox; DROP TABLE fivrec.usage_outbox",
}


@pytest.mark.parametrize("with_it", LATER)
async def test_a_newer_schema_is_read_and_never_written(
    with_it: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    newer = latest_version() + 1
    recorded = "INSERT INTO fivrec.migrations (version, name, checksum)"
    owning(database, f"{recorded} VALUES ({newer}, 'future', 'abc'); {LATER[with_it]}")
    before = owning(database, "SELECT count(*) FROM fivrec.audit_log")
    for report in (
        await reconcile(desired, run),
        await reconcile(desired, run_of(keys, tmp_path, check_only=True)),
        await rotate(desired, run_of(KeyRing((*KeyRing.passing().keys, *keys.keys)), tmp_path)),
        await reconcile(with_purge([desired], "development"), run_of(keys, tmp_path)),
    ):
        assert report.error is not None
        assert (report.error.code, report.exit_code) == ("schema_newer", 1)
    with pytest.raises(DatabaseError) as raised:
        await production_test(desired, run, allow_embedded=True)
    assert raised.value.code == "schema_newer"
    assert owning(database, "SELECT count(*) FROM fivrec.audit_log") == before
    shown = await preview(desired, run)
    assert shown.error is None
    assert f"a newer fivrec migrated this database to schema {newer}" in shown.notes[0]
    assert await query_status(desired, run) is not None
    said = run.log.stream.getvalue()  # type: ignore[attr-defined]
    assert f"schema {newer}" in said
    assert "could not be recorded" not in said
    for number, read in enumerate(
        (
            lambda run: count_usage(desired, run),
            lambda run: verify_history(desired, run, None),
            lambda run: export(desired, run, environment=None, plans=None),
            lambda run: preview(desired, replace(run, find_drift=True)),
        ),
        start=9,
    ):
        reading = run_of(keys, tmp_path, number)
        await read(reading)
        said = reading.log.stream.getvalue()  # type: ignore[attr-defined]
        assert said.count(f"a newer fivrec migrated this database to schema {newer}") == 1, number


BIG = """
INSERT INTO queues (id, name) VALUES ('q1', 'Sales');
INSERT INTO conversations (id, queue_id) SELECT 'v' || g, 'q1' FROM generate_series(1, 100) AS g;
INSERT INTO messages (conversation_id, content) SELECT 'v' || (1 + g % 100), repeat('x', 200)
  FROM generate_series(1, 25000) AS g;
"""
STRIP = """
ALTER TABLE messages DROP CONSTRAINT messages_environment_check, DROP CONSTRAINT messages_user_id_environment_fkey,
  DROP CONSTRAINT messages_conversation_id_environment_fkey;
DROP INDEX messages_id_environment_key, messages_conversation_idx, messages_user_idx, messages_development_idx;
DROP SCHEMA fivrec CASCADE
"""


async def test_a_big_table_is_finished_later_even_if_interrupted(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, deep = run_of(keys, tmp_path), run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(database, BIG, STRIP)
    report = await reconcile(desired, run)
    assert (report.outcome, report.error) == ("changed", None)
    assert owning(database, "SELECT bool_and(finished) FROM fivrec.migrations") == [(True,)]
    assert (await preview(desired, deep)).outcome == "in_sync"
    # What an interrupted one leaves: an index that is not valid, a constraint that is not validated.
    owning(
        database,
        "UPDATE fivrec.migrations SET finished = false",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'messages_user_idx'::regclass",
        ODD["foreign key not validated"][0],
    )
    assert (await reconcile(desired, run)).outcome == "in_sync"
    assert owning(database, "SELECT bool_and(finished) FROM fivrec.migrations") == [(True,)]
    assert (await preview(desired, deep)).outcome == "in_sync"


async def test_rows_that_break_the_rules_end_no_adoption(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run, deep = run_of(keys, tmp_path), run_of(keys, tmp_path, deep=True)
    desired = desired_of(document(plans=None), database, connect=None)
    await reconcile(desired, run)
    owning(database, BIG, STRIP, "INSERT INTO messages (id, environment) VALUES ('odd', 'staging')")
    unread = "could not be looked for: before the first apply, big tables are not read (messages)"
    assert [note for note in (await preview(desired, run)).notes if unread in note] != []
    report = await reconcile(desired, run)
    assert (report.outcome, report.error) == ("changed", None)
    assert report.notes[-1:] == ("⚠️ messages odd: it has no environment; it is kept, fix it by hand",)
    assert (await reconcile(desired, deep)).outcome == "in_sync"
