"""Databases made and filled by other software: other encodings and settings, odd rows, other column types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.connect.responses import check_usage
from reconciler.database.connection import connect, with_deadline
from reconciler.database.status_queries import HistoryFilter, LogFilter, read_checks, read_history, read_status
from reconciler.database.store import Scope
from reconciler.database.usage_outbox import read_usage_counts
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.planning.audit import Actor
from reconciler.support.crypto.keyring import KeyRing
from tests.support.checking import check_as, connect_says
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of


def one_of(url: Secret, query: str) -> tuple[object, ...]:
    with psycopg.connect(url.reveal(), client_encoding="UTF8") as conn:
        row = conn.execute(query.encode()).fetchone()
        assert row is not None
        return tuple(row)


@pytest.fixture
def encoded(database: Secret, postgres_url: str) -> Callable[[str], Secret]:
    """Makes the database again in another encoding."""

    def make(encoding: str) -> Secret:
        name = urlsplit(database.reveal()).path.lstrip("/")
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            conn.execute(
                sql.SQL("CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").format(
                    sql.Identifier(name), sql.Literal(encoding)
                )
            )
        return Secret(urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}")))

    return make


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "SQL_ASCII"])
async def test_an_encoding_other_than_utf8_is_used_as_far_as_it_goes(
    encoding: str, encoded: Callable[[str], Secret], keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    url, run = encoded(encoding), run_of(keys, tmp_path)
    queues = {"items": [{"name": "Atenção", "description": "Suporte técnico"}], "unmanaged": "keep"}
    settings = {**document()["config"], "company_name": "Ação Ltda"}
    desired = desired_of(document(queues=queues, config=settings), url)
    assert (await reconcile(desired, run)).outcome == "changed"
    assert (await reconcile(desired, run)).outcome == "in_sync"
    assert one_of(url, "SELECT name, description FROM queues") == ("Atenção", "Suporte técnico")
    async with await connect(url, application_name="test") as conn:
        assert any(entry.name == "Atenção" for entry in await read_history(conn, scope, HistoryFilter()))
    more = {**queues, "items": [*queues["items"], {"name": "☃"}]}
    report = await reconcile(desired_of(document(queues=more, config=settings), url), run)
    if encoding == "SQL_ASCII":  # takes any bytes
        assert report.outcome == "changed"
    else:
        assert report.error is not None
        assert (report.outcome, report.error.code) == ("failed", "database_encoding")
        assert report.error.message.endswith(": queue/☃")
        assert one_of(url, "SELECT outcome, error FROM fivrec.last_run") == ("failed", "database_encoding")
        logged = one_of(url, "SELECT count(*) FROM fivrec.audit_log WHERE fields::text LIKE '%database_encoding%'")
        assert logged == (1,)
        by_another = replace(run, id="second", actor=Actor("Zé ☃"))
        assert (await reconcile(desired, by_another)).outcome == "in_sync"
        owning(url, "UPDATE queues SET description = ''")
        report = await reconcile(desired, by_another)
        assert report.error is not None
        assert report.error.message.endswith(": the actor, Zé ☃")


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("command", ["apply", "check"])
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP", "KOI8R"])
async def test_alerts_work_in_any_database_encoding(
    encoding: str, command: str, encoded: Callable[[str], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    """Alerts begin with characters that few encodings have, and Connect's text may contain any."""
    url, run = encoded(encoding), run_of(keys, tmp_path)
    assert (await reconcile(desired_of(document(), url), run)).outcome == "changed"
    connect_says(tmp_path, "suspended")
    report = await check_as(command, url, replace(run, id="second"))
    assert report is not None
    assert report.error is None
    assert one_of(url, "SELECT is_locked, status FROM instance_config") == (True, "suspended")
    told = one_of(url, "SELECT payload ->> 'message' FROM fivrec.alert_outbox WHERE alert = 'suspended'")
    assert told == ("instance suspended: access is locked",)
    connect_says(tmp_path, "paused ☃")
    report = await check_as(command, url, replace(run, id="third"))
    assert report is not None
    assert report.error is not None
    assert report.error.code == "connect_unknown_status"
    assert one_of(url, "SELECT success FROM status_check_logs ORDER BY created_at DESC LIMIT 1") == (False,)
    assert one_of(url, "SELECT is_locked FROM instance_config") == (True,)


@pytest.mark.usefixtures("direct")
async def test_letters_that_the_encoding_has_stay(
    encoded: Callable[[str], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    url, run = encoded("KOI8R"), replace(run_of(keys, tmp_path), actor=Actor("Иван"))
    assert (await reconcile(desired_of(document(), url), run)).outcome == "changed"
    assert one_of(url, "SELECT actor FROM fivrec.last_run") == ("Иван",)


@pytest.mark.usefixtures("direct")
async def test_bytes_that_are_not_text_are_reported_as_such(
    encoded: Callable[[str], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    url, run = encoded("SQL_ASCII"), run_of(keys, tmp_path)
    await reconcile(desired_of(document(), url), run)
    owning(url, "INSERT INTO queues (name) VALUES (E'canary\\xE7')")
    report = await preview(desired_of(document(), url), run)
    assert report.error is not None
    assert report.error.code == "database_encoding"
    assert "canary" not in f"{report.error}"


async def test_settings_of_the_database_change_nothing(
    database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    name = urlsplit(database.reveal()).path.lstrip("/")
    owning(
        database,
        *(
            f'ALTER DATABASE "{name}" SET {setting}'
            for setting in (
                "timezone = 'Asia/Kolkata'",
                "datestyle = 'German, DMY'",
                "client_encoding = 'LATIN1'",
                "default_transaction_isolation = 'serializable'",
                "standard_conforming_strings = off",
            )
        ),
    )
    run = run_of(keys, tmp_path)
    queues = {"items": [{"name": "Fila ☃", "description": "a\\b"}], "unmanaged": "keep"}
    desired = desired_of(document(queues=queues), database)
    assert (await reconcile(desired, run)).outcome == "changed"
    assert (await reconcile(desired, run)).outcome == "in_sync"
    async with await connect(database, application_name="test") as conn:
        status = await read_status(conn, scope)
        checks = await read_checks(conn, scope, LogFilter())
    assert status is not None
    assert status.last_status_check == checks[0].at
    assert abs((run.now() - checks[0].at).total_seconds()) < 60


APP = """
CREATE TABLE queues (id varchar PRIMARY KEY, name varchar(30), description varchar(99), environment text);
INSERT INTO queues VALUES ('q1', NULL, 'without a name', 'production'), ('q2', 'Sales', 'old', 'production');
CREATE TABLE settings (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), key text, value json);
INSERT INTO settings (key, value) VALUES (NULL, '1'), ('company_name', '"Velha"');
CREATE TABLE status_check_logs (
  id varchar PRIMARY KEY DEFAULT gen_random_uuid(), instance_config_id varchar NOT NULL, check_type text NOT NULL,
  success boolean NOT NULL, status_received text, error_message text, response_time integer, created_at timestamp);
"""


async def test_rows_without_names_or_times_are_passed_over(
    seed_database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    owning(seed_database, "DROP TABLE status_check_logs", APP)
    owning(
        seed_database,
        "INSERT INTO status_check_logs (instance_config_id, check_type, success) "
        "SELECT id, 'startup', true FROM instance_config",
    )
    run = run_of(keys, tmp_path)
    desired = desired_of(document(), seed_database)
    assert (await reconcile(desired, run)).outcome == "changed"
    assert (await reconcile(desired, run)).outcome == "in_sync"
    async with await connect(seed_database, application_name="test") as conn:
        checks = await read_checks(conn, scope, LogFilter())
        status = await read_status(conn, scope)
    assert [check.check_type for check in checks] == ["manual", "manual"]
    assert status is not None
    assert status.last_check == checks[0]
    assert one_of(seed_database, "SELECT count(*) FROM queues WHERE name IS NULL") == (1,)


NUMBERED = """
CREATE TABLE queues (
  id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, name text NOT NULL, environment text DEFAULT 'production');
CREATE TABLE messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), environment text);
CREATE TABLE conversations (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), queue_id integer REFERENCES queues);
INSERT INTO queues VALUES (7, 'Sales', 'development'), (8, 'Odd', 'staging');
INSERT INTO conversations VALUES ('k', 7);
INSERT INTO messages VALUES ('00000000-0000-4000-8000-000000000001', NULL);
"""


async def test_ids_of_several_types_are_searched_for_violations(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(seed_database, *NUMBERED.split(";")[:-1])
    run, desired = run_of(keys, tmp_path), desired_of(document(), seed_database)
    foreseen = (await preview(desired, run)).notes
    report = await reconcile(desired, run)
    assert (report.outcome, report.error) == ("changed", None)
    assert report.notes == (
        "⚠️ conversations k: queue_id points out of its environment; it is kept, fix it by hand",
        "⚠️ messages 00000000-0000-4000-8000-000000000001: it has no environment; it is kept, fix it by hand",
        "⚠️ queues 8: it has no environment; it is kept, fix it by hand",
    )
    assert foreseen == report.notes
    assert (await reconcile(desired, run)).outcome == "in_sync"
    isolation = next(
        item for item in await production_test(desired, run, allow_embedded=True) if item.name == "isolation"
    )
    assert not isolation.passed
    assert "conversations k breaks the rules of environments (queue_id)" in isolation.message
    owning(
        seed_database, "DELETE FROM messages", "DELETE FROM conversations", "DELETE FROM queues WHERE id > 6 AND id < 9"
    )
    schema = next(item for item in await production_test(desired, run, allow_embedded=True) if not item.passed)
    assert schema.name == "schema"
    assert "conversations: conversations_queue_id_environment_fkey" in schema.message
    assert (await reconcile(desired, run_of(keys, tmp_path, deep=True))).outcome == "changed"
    assert [item for item in await production_test(desired, run, allow_embedded=True) if not item.passed] == []


@pytest.mark.parametrize("features", ["[1, 2]", '"chat"', "null", '{"chat": 1, "chatbot": true}'])
async def test_features_that_are_none_are_not_reported(
    features: str, database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    owning(database, f"UPDATE instance_config SET enabled_features = '{features}'")
    async with await connect(database, application_name="test") as conn:
        status = await read_status(conn, scope)
        usage = await read_usage_counts(conn, scope)
    assert status is not None
    assert status.enabled_features == usage.features == ({"chatbot": True} if "{" in features else {})
    check_usage(usage.payload(scope))


@pytest.mark.parametrize("time", ["infinity", "20000-01-01", "-infinity", "0044-03-15 BC"])
async def test_a_time_that_no_calendar_holds_hides_no_row(
    time: str, database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    is_early = time.startswith("-") or time.endswith("BC")
    read_as = datetime(1, 1, 2, tzinfo=UTC) if is_early else datetime(9999, 12, 30, tzinfo=UTC)
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    for table, column in (
        ("status_check_logs", "created_at"),
        ("instance_config", "last_status_check"),
        ("fivrec.applied", "applied_at"),
        ("fivrec.last_run", "at"),
    ):
        owning(database, f"UPDATE {table} SET {column} = '{time}'")
    async with await connect(database, application_name="test") as conn:
        status = await read_status(conn, scope)
        (check,) = await read_checks(conn, scope, LogFilter())
        assert await read_checks(conn, scope, LogFilter(before=check)) == ()
    assert status is not None
    assert status.last_run is not None
    assert {status.last_status_check, status.last_run.at, check.at} == {read_as}
    again = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert (again.outcome, again.error) == ("in_sync", None)


@pytest.mark.parametrize("ahead", ["'infinity'", "now() + interval '3 days'"])
async def test_a_check_of_a_wrong_clock_does_not_hide_those_after_it(
    ahead: str, database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    owning(
        database,
        f"UPDATE status_check_logs SET created_at = {ahead}",
        "INSERT INTO status_check_logs (id, instance_config_id, check_type, success, created_at)"
        " SELECT 'later', id, 'scheduled', false, now() FROM instance_config",
    )
    async with await connect(database, application_name="test") as conn:
        status = await read_status(conn, scope)
    assert status is not None
    assert status.last_check is not None
    assert not status.last_check.success


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (
            "CREATE TABLE settings (key text, value text); INSERT INTO settings VALUES ('theme', 'canary')",
            ("column_type", "the column settings.value is of type text, not json"),
        ),
        (
            "CREATE TABLE settings (key text, value json); INSERT INTO settings VALUES ('a', '1'), ('a', '2')",
            ("rows_unfit", "rows have a value in common that must be unique (settings, settings_key_key)"),
        ),
        (
            "CREATE TABLE users (email text, id text, name text, password text);INSERT INTO users VALUES ('a'), ('a')",
            ("rows_unfit", "rows have a value in common that must be unique (users, users_email_key)"),
        ),
        (
            "CREATE TABLE users (id varchar PRIMARY KEY, email text); INSERT INTO users VALUES ('1', 'a@b')",
            ("rows_unfit", "a required value is missing (users, name)"),
        ),
        (
            "CREATE TABLE users (id integer PRIMARY KEY); CREATE TABLE conversations (id text, user_id text)",
            ("column_type", 'foreign key constraint "conversations_user_id_environment_fkey" cannot be implemented'),
        ),
        (
            "CREATE TABLE queues (id varchar PRIMARY KEY, name varchar(5))",
            ("value_unfit", "a value does not fit the type or the length of its column"),
        ),
    ],
)
async def test_a_database_that_cannot_be_adopted_is_explained(
    made: str, error: tuple[str, str], database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(database, made)
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert report.error is not None
    code, said = error
    assert (report.outcome, report.error.code) == ("failed", code)
    assert said in report.error.message
    assert report.error.hint
    assert "canary" not in f"{report.error}"
    assert one_of(database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'fivrec'") == (0,)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "users (id integer PRIMARY KEY); CREATE TABLE conversations (id text, user_id text)",
            "conversations.user_id is text and users.id integer",
        ),
        (
            "queues (id uuid PRIMARY KEY, name text); CREATE TABLE conversations (id text, queue_id varchar(36))",
            "conversations.queue_id is character varying and queues.id uuid",
        ),
        (
            "users (id text, environment env); CREATE TABLE conversations (id text, environment text)",
            "conversations.environment is text and users.environment public.env",
        ),
        (
            "conversations (id text, client_id bigint)",
            "conversations.client_id is bigint and clients.id text",
        ),
    ],
)
async def test_the_dry_run_names_foreign_keys_that_can_not_be_made(
    made: str, said: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(database, "CREATE TYPE env AS ENUM ('production', 'development')", f"CREATE TABLE {made}")
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    planned = await preview(desired, run)
    assert f"apply refuses this (column_type): no foreign key can be made, as {said}" in planned.notes
    report = await reconcile(desired, run)
    assert report.error is not None
    assert report.error.code == "column_type"


async def test_a_column_that_rows_lack_is_to_be_added_with_a_default(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(database, "CREATE TABLE users (id varchar PRIMARY KEY, email text); INSERT INTO users VALUES ('1', 'a@b')")
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert report.error is not None
    assert report.error.hint == (
        "rows are there without this column: ALTER TABLE users ADD COLUMN name, of the type that `fivrec sql` prints, "
        "NOT NULL and with a DEFAULT for them; then run again"
    )


async def test_a_user_that_comes_with_the_email_is_still_named_as_such(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    conn = await connect(database, application_name="test")
    async with conn:
        with pytest.raises(DatabaseError) as raised:
            async with with_deadline(conn, 5):
                await conn.execute("INSERT INTO users (name, email, password) VALUES ('b', 'admin@empresa.com', 'p')")
    assert raised.value.code == "admin_email_taken"


@pytest.mark.parametrize("table", ["settings", "plans"])
async def test_a_rule_that_no_insert_goes_with_is_named(
    table: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(config=None, plans=None), database, connect=None), run)
    owning(
        database,
        "CREATE TABLE log (what text)",
        f"CREATE RULE app_log AS ON INSERT TO {table} DO ALSO INSERT INTO log VALUES ('{table}')",
    )
    report = await reconcile(desired_of(document(), database), run)
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "table_unfit")
    assert "make the rule a trigger" in report.error.hint
    assert one_of(database, "SELECT (SELECT count(*) FROM settings) + (SELECT count(*) FROM plans)") == (0,)


@pytest.mark.parametrize("kind", ["timestamptz", "date", "text", "time"])
async def test_times_of_other_types_are_read_or_refused_by_name(
    kind: str, database: Secret, keys: KeyRing, scope: Scope, tmp_path: Path
) -> None:
    await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    for table, column in (("status_check_logs", "created_at"), ("instance_config", "last_status_check")):
        owning(
            database, f"ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING now()::{kind}"
        )
    async with await connect(database, application_name="test") as conn:
        if kind == "time":
            with pytest.raises(DatabaseError, match=r"last_status_check, .*its type \(time\) is not") as raised:
                await read_status(conn, scope)
            assert raised.value.code == "column_type"
            return
        status = await read_status(conn, scope)
        if kind == "text":
            with pytest.raises(DatabaseError, match="operator does not exist: text >= timestamp") as raised:
                await read_checks(conn, scope, LogFilter())
            assert raised.value.code == "column_type"
    assert status is not None
    assert status.last_check is not None
    assert status.last_status_check is not None
    for at in (status.last_status_check, status.last_check.at):
        assert abs((datetime.now(UTC) - at).total_seconds()) < 86_400


WRITES_ITSELF = "column_type: a column generates its own values"
NO_WRITE = {
    "ALTER TABLE settings DROP CONSTRAINT settings_pkey; ALTER TABLE settings ADD PRIMARY KEY (key) DEFERRABLE": (
        "table_unfit: a unique constraint is deferrable (settings, settings_pkey)"
    ),
    "CREATE PUBLICATION copy FOR TABLE instance_config; ALTER TABLE instance_config REPLICA IDENTITY NOTHING": (
        "table_unfit: a publication of logical replication keeps the table's rows from being changed"
    ),
    "CREATE PUBLICATION copy FOR TABLE instance_config WHERE (is_locked)": (
        "table_unfit: a publication of logical replication keeps the table's rows from being changed"
    ),
    "ALTER TABLE plans DROP max_users, ADD max_users int GENERATED ALWAYS AS (7) STORED": WRITES_ITSELF,
    "ALTER TABLE plans DROP id CASCADE; ALTER TABLE plans ADD id int GENERATED ALWAYS AS IDENTITY": WRITES_ITSELF,
}


@pytest.mark.parametrize("change", NO_WRITE)
async def test_tables_that_take_no_write_of_fivrecs_are_named(
    change: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(config=None, plans=None), database, connect=None), run)
    owning(database, *change.split("; "))
    report = await reconcile(desired_of(document(), database), run)
    assert report.error is not None
    code, said = NO_WRITE[change].split(": ")
    assert (report.outcome, report.error.code) == ("failed", code)
    assert said in report.error.message
    assert one_of(database, "SELECT (SELECT count(*) FROM settings) + (SELECT count(*) FROM plans)") == (0,)


async def test_a_table_of_fivrecs_that_was_dropped_is_made_again(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    owning(database, "DROP TABLE fivrec.last_run")
    planned = await preview(desired, run)
    report = await reconcile(desired, run_of(keys, tmp_path, 2))
    assert (report.outcome, report.error, report.digest) == ("changed", None, planned.digest)
    assert (await reconcile(desired, run_of(keys, tmp_path, 3))).outcome == "in_sync"


async def test_a_key_that_was_dropped_is_named_and_put_back(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await reconcile(desired_of(document(config=None), database), run_of(keys, tmp_path))
    owning(
        database, "ALTER TABLE settings DROP CONSTRAINT settings_pkey, ADD of text DEFAULT 'a', ADD UNIQUE (key, of)"
    )
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path, 2))
    assert report.error is not None
    assert (report.error.code, "apply --deep" in report.error.hint) == ("schema_missing", True)
    assert (await reconcile(desired_of(document(), database), run_of(keys, tmp_path, 3, deep=True))).error is None
    assert (await reconcile(desired_of(document(), database), run_of(keys, tmp_path, 4))).outcome == "in_sync"


LEFT_EMPTY = {
    'ALTER TABLE queues ADD "createdAt" timestamptz NOT NULL; ALTER TABLE users ADD team text NOT NULL': (
        "rows_unfit: a required value is missing (queues, createdAt)",
        'fivrec writes the documented columns alone; give the others a default: ALTER TABLE public.queues ALTER COLUMN "createdAt" SET DEFAULT now(); ALTER TABLE public.users ALTER COLUMN team SET DEFAULT ...',  # noqa: E501
    ),
    "ALTER TABLE queues ALTER description SET NOT NULL; ALTER TABLE users ADD team text NOT NULL": (
        "rows_unfit: a required value is missing (queues, description)",
        "declare a value for it, or ALTER TABLE … ALTER COLUMN … DROP NOT NULL, then run again",
    ),
    """DROP TABLE status_check_logs; CREATE TABLE status_check_logs (id varchar, instance_config_id varchar,
    check_type text, success boolean, status_received text, error_message text, response_time integer,
    created_at timestamp) PARTITION BY RANGE (created_at)""": (
        "table_unfit: no partition takes the row that is to be written (status_check_logs) (SQLSTATE 23514)",
        "make the partition that is missing, or one for all the rest (CREATE TABLE … PARTITION OF … DEFAULT)",
    ),
    "ALTER TABLE queues ADD tenant text; ALTER TABLE queues ALTER tenant SET DEFAULT current_setting('app.tenant')": (
        'database_error: unrecognized configuration parameter "app.tenant" (SQLSTATE 42704)',
        "a default, trigger or policy of the app's reads this setting: ALTER ROLE … SET it for fivrec's login",
    ),
    """ALTER TABLE plans ALTER id DROP DEFAULT, ALTER id TYPE bigint USING 1;
    ALTER TABLE clients ALTER name TYPE varchar(9); ALTER TABLE queues ALTER environment TYPE varchar(11)""": (
        "value_unfit: 22P02); not as documented: plans.id is bigint, queues.environment is character varying(11",
        "compare the app's tables with what `fivrec sql` prints",
    ),
}


@pytest.mark.parametrize("change", LEFT_EMPTY)
async def test_an_error_of_a_write_says_which_statement_mends_it(
    change: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(queues=None, admin=None, plans=None), database), run)
    owning(database, "DELETE FROM users", *change.split(";"))
    report = await reconcile(desired_of(document(admin=None), database), run)
    assert report.error is not None
    said, hint = LEFT_EMPTY[change]
    code, words = said.split(": ", 1)
    assert (report.outcome, report.error.code) == ("failed", code)
    assert words in report.error.message
    assert report.error.hint.startswith(hint)
