"""Which schema has the app's tables: the manifest decides, whatever the search_path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.database.connection import database_name
from reconciler.engine.production_checks import production_test
from reconciler.engine.purge import with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import query_status
from reconciler.engine.usage import count_usage
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of

APP = """
CREATE TABLE users (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, email text NOT NULL UNIQUE,
  password text NOT NULL, role text NOT NULL DEFAULT 'agent', environment text NOT NULL DEFAULT 'production');
CREATE TABLE plans (id varchar PRIMARY KEY, name text NOT NULL, price integer NOT NULL,
  currency text NOT NULL DEFAULT 'BRL', billing_interval text NOT NULL, features json NOT NULL);
CREATE TABLE queues (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, description text,
  environment text NOT NULL DEFAULT 'production');
CREATE TABLE clients (id varchar PRIMARY KEY, name text NOT NULL, environment text NOT NULL DEFAULT 'production');
INSERT INTO users (name, email, password) VALUES ('Bia', 'bia@cliente.example', 'x');
INSERT INTO clients SELECT 'c' || g, 'Cliente', 'production' FROM generate_series(1, 50) AS g;
"""
TABLES = """SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relname IN ('users', 'messages', 'instance_config') ORDER BY 1"""


def in_schema(desired: Desired, schema: str) -> Desired:
    return replace(desired, database=replace(desired.database, schema=schema))


@pytest.fixture
def owned(database: Secret, owner_of: Callable[[Secret], Secret], direct: None) -> Secret:
    """An empty database; the login owns it and may create roles."""
    return owner_of(database)


@pytest.fixture
def app(owned: Secret) -> Secret:
    """A database that the app made in schema public."""
    owning(owned, APP)
    return owned


PATHS = {
    "schema-named-like-the-login": "CREATE SCHEMA {login}",
    "another-schema-first": "CREATE SCHEMA extensions; ALTER DATABASE {database} SET search_path = extensions, public",
    "path-of-the-login": "CREATE SCHEMA mine; ALTER ROLE {login} SET search_path = mine",
    "empty-path": "ALTER DATABASE {database} SET search_path = ''",
    "empty-tables-first": "CREATE SCHEMA {login}; CREATE TABLE {login}.queues (); CREATE TABLE {login}.clients ()",
}


@pytest.mark.parametrize("name", sorted(PATHS))
async def test_no_search_path_makes_a_second_set_of_tables(
    name: str, app: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    parts = urlsplit(app.reveal())
    owning(app, PATHS[name].format(login=parts.username, database=parts.path.lstrip("/")))
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    assert (await preview(desired, run)).error is None
    first = await reconcile(desired, run)
    assert (first.outcome, first.error) == ("changed", None)
    assert (await reconcile(desired, run)).outcome == "in_sync"
    assert (await reconcile(desired, run_of(keys, tmp_path, deep=True))).outcome == "in_sync"
    assert owning(app, TABLES) == [("public.instance_config",), ("public.messages",), ("public.users",)]
    assert (await count_usage(desired, run)).report["totalClients"] == 50


@pytest.mark.parametrize("path", ["extensions", "%22$user%22,extensions"])
async def test_a_path_in_the_url_does_not_count_either(path: str, app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    owning(app, "CREATE SCHEMA extensions")
    url = Secret(f"{app.reveal()}?options=-csearch_path%3D{path}")
    report = await reconcile(desired_of(document(plans=None), url, connect=None), run_of(keys, tmp_path))
    assert (report.outcome, report.error) == ("changed", None)
    assert owning(app, TABLES) == [("public.instance_config",), ("public.messages",), ("public.users",)]


@pytest.mark.parametrize("name", sorted(PATHS))
async def test_an_upgrade_finds_the_tables_where_they_are(
    name: str, app: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    await reconcile(desired, run)
    parts = urlsplit(app.reveal())
    owning(app, PATHS[name].format(login=parts.username, database=parts.path.lstrip("/")))
    owning(app, "UPDATE fivrec.migrations SET checksum = '0' WHERE version = 8")
    assert (await reconcile(desired, run)).outcome == "changed"
    assert owning(app, TABLES) == [("public.instance_config",), ("public.messages",), ("public.users",)]


@pytest.mark.parametrize("schema", ["app", "Fi.V App", "50% o'clock", 'a"b'])
async def test_everything_works_in_a_schema_of_another_name(
    schema: str, owned: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    url = owned
    quoted = '"' + schema.replace('"', '""') + '"'
    owning(url, f"CREATE SCHEMA {quoted}", f"SET search_path = {quoted}; {APP}")
    run = run_of(keys, tmp_path)
    spec = {"name": "production", "isolation": "enforced", "purge_development_data": False}
    desired = in_schema(desired_of(document(plans=None, environment=spec), url, connect=None), schema)
    first = await reconcile(desired, run)
    assert (first.outcome, first.error) == ("changed", None)
    assert (await reconcile(desired, run_of(keys, tmp_path, deep=True))).outcome == "in_sync"
    assert {name.rpartition(".")[0] for (name,) in owning(url, TABLES)} == {schema}
    assert (await reconcile(with_purge([desired], "development"), run_of(keys, tmp_path))).error is None
    assert (await count_usage(desired, run)).report["totalClients"] == 50
    assert (await query_status(desired, run)) is not None
    failed = [item.name for item in await production_test(desired, run, allow_embedded=True) if not item.passed]
    assert "isolation" not in failed
    assert "schema" not in failed


async def test_tables_in_another_schema_are_an_error_that_names_both(
    app: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(app, "CREATE SCHEMA app", "ALTER TABLE users SET SCHEMA app", "ALTER TABLE plans SET SCHEMA app")
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    for report in (await preview(desired, run), await reconcile(desired, run)):
        assert report.error is not None
        assert (report.error.code, report.exit_code) == ("tables_elsewhere", 1)
        assert 'are not in schema "public": schema "app" has plans, users' in report.error.message
    assert owning(app, TABLES) == [("app.users",)]
    assert owning(app, "SELECT FROM pg_namespace WHERE nspname = 'fivrec'") == []


@pytest.mark.parametrize("name", ["queues", "clients", "conversations", "messages"])
async def test_one_table_in_another_schema_is_not_made_again(
    app: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    made = (
        f"CREATE TABLE IF NOT EXISTS {name} (id text, name text, status text, conversation_id text, environment text)"
    )
    owning(app, "CREATE SCHEMA app", made, f"ALTER TABLE {name} SET SCHEMA app")
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    for report in (await preview(desired, run), await reconcile(desired, run)):
        assert report.error is not None
        assert (report.error.code, report.exit_code) == ("tables_elsewhere", 1)
        assert f'are not in schema "public": schema "app" has {name}' in report.error.message
    assert owning(app, "SELECT FROM pg_namespace WHERE nspname = 'fivrec'") == []


async def test_settings_in_a_schema_on_the_search_path_are_the_apps(app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    name = database_name(app)
    owning(app, 'CREATE SCHEMA "Core"', 'CREATE TABLE "Core".settings (key text, value json)')
    owning(app, f'ALTER DATABASE "{name}" SET search_path = "Core", public')
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    for report in (await preview(desired, run), await reconcile(desired, run)):
        assert report.error is not None
        assert (report.error.code, report.exit_code) == ("tables_elsewhere", 1)
        assert 'schema "Core" has settings' in report.error.message
    owning(app, f'ALTER DATABASE "{name}" RESET search_path')
    assert (await reconcile(desired, run_of(keys, tmp_path, 2))).outcome == "changed"


async def test_tables_that_another_schema_has_too_are_named(app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    owning(app, "CREATE SCHEMA core", f"SET search_path = core; {APP}")
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    said = (
        '⚠️ schema "core" has clients, plans, queues, users too: fivrec manages those of schema "public" '
        "(database.schema), whatever a search_path says"
    )
    for report in (await preview(desired, run), await reconcile(desired, run)):
        assert (report.outcome, report.notes) == ("changed", (said,))
    assert (await reconcile(desired, run_of(keys, tmp_path, 2))).notes == ()
    deep = run_of(keys, tmp_path, 3, deep=True)
    for report in (await preview(desired, deep), await reconcile(desired, deep)):
        assert report.outcome == "in_sync"
        assert said in report.notes


@pytest.mark.parametrize("columns", ["id uuid, email text", "id int, name text, email text, password text"])
async def test_a_table_of_another_program_is_not_the_apps(
    columns: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(
        database, "CREATE SCHEMA auth", f"CREATE TABLE auth.users ({columns})", "CREATE TABLE auth.messages (id int)"
    )
    report = await reconcile(desired_of(document(plans=None), database, connect=None), run_of(keys, tmp_path))
    assert (report.outcome, report.error) == ("changed", None)


async def test_an_event_trigger_that_finds_no_table_is_named(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    owning(
        database,
        "CREATE TABLE ddl_log (tag text)",
        "CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN "
        "INSERT INTO ddl_log VALUES (tg_tag); END$$",
        "CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION log_ddl()",
    )
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), database, connect=None)
    report = await reconcile(desired, run)
    assert report.error is not None
    assert report.error.code == "app_function_failed"
    assert 'log_ddl(), which a write runs, failed: relation "ddl_log" does not exist' in report.error.message
    assert "ALTER FUNCTION public.log_ddl() SET search_path = public" in (report.error.hint or "")
    owning(database, "ALTER FUNCTION public.log_ddl() SET search_path = public")
    assert (await reconcile(desired, run_of(keys, tmp_path, 2))).outcome == "changed"


async def test_tables_that_moved_are_an_error_and_then_adopted(app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    await reconcile(desired, run)
    names = ("users", "plans", "queues", "clients", "conversations", "messages", "settings", "instance_config")
    moved = (f"ALTER TABLE public.{name} SET SCHEMA app" for name in (*names, "status_check_logs"))
    owning(app, "CREATE SCHEMA app", *moved)
    report = await reconcile(desired, run)
    assert report.error is not None
    assert report.error.code == "tables_elsewhere"
    report = await reconcile(in_schema(desired, "app"), run)
    assert (report.outcome, report.error) == ("changed", None)
    assert [change.key.kind for change in report.changes] == ["schema"]
    assert (await reconcile(in_schema(desired, "app"), run)).outcome == "in_sync"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people", "users is a view"),
        ("DROP TABLE plans; CREATE MATERIALIZED VIEW plans AS SELECT 1 AS id", "plans is a materialized view"),
        (
            "CREATE TABLE messages (id int, day date) PARTITION BY RANGE (day)",
            "messages is partitioned by other columns",
        ),
        (
            "DROP TABLE users CASCADE; CREATE TABLE users (id int, environment text) PARTITION BY LIST (environment)",
            "users is partitioned, so that (email) can't be unique",
        ),
    ],
)
async def test_tables_that_cannot_be_adopted_are_named_with_a_reason(
    made: str, said: str, app: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(app, made)
    report = await reconcile(desired_of(document(plans=None), app, connect=None), run_of(keys, tmp_path))
    assert report.error is not None
    assert report.error.code == "table_unfit"
    assert said in report.error.message


NO_ENVIRONMENT = "ALTER TABLE {0} ALTER environment DROP NOT NULL; UPDATE {0} SET environment = NULL"


async def test_rows_of_no_environment_are_not_adopted(app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Dry run and apply agree: a queue is created beside it, an administrator can't be."""
    owning(app, NO_ENVIRONMENT.format("queues"), "INSERT INTO queues (name, environment) VALUES ('Sales', NULL)")
    desired, run = desired_of(document(plans=None), app, connect=None), run_of(keys, tmp_path)
    planned = await preview(desired, run)
    assert ("queue/Sales", "create") in [(str(change.key), change.action) for change in planned.changes]
    owning(app, NO_ENVIRONMENT.format("users"))
    owning(app, "INSERT INTO users (name, email, password, role) VALUES ('A', 'admin@empresa.com', 'x', 'admin')")
    owning(app, NO_ENVIRONMENT.format("users"))
    for ended in (await preview(desired, run), await reconcile(desired, run)):
        assert ended.error is not None
        assert ended.error.code == "admin_email_taken"


OWN_CODE = """
CREATE TABLE app_audit (who text);
CREATE SEQUENCE my_seq;
CREATE FUNCTION next_number() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('my_seq')$$;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  INSERT INTO app_audit VALUES (TG_OP); RETURN NEW; END$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE queues ADD number bigint DEFAULT next_number();
"""


async def test_the_apps_own_triggers_and_defaults_find_their_names(
    app: Secret, postgres_url: str, keys: KeyRing, tmp_path: Path
) -> None:
    owning(app, OWN_CODE)
    owning(Secret(postgres_url), f"ALTER ROLE {urlsplit(app.reveal()).username} NOCREATEROLE")
    report = await reconcile(desired_of(document(plans=None), app, connect=None), run_of(keys, tmp_path))
    assert (report.outcome, report.error) == ("changed", None)
    assert owning(app, "SELECT count(*) FROM app_audit") == [(2,)]
    assert owning(app, "SELECT number FROM queues ORDER BY 1") == [(1,), (2,)]


async def test_a_stronger_login_says_which_function_needs_a_path(app: Secret, keys: KeyRing, tmp_path: Path) -> None:
    owning(app, OWN_CODE, "ALTER TABLE queues DROP number")
    run, desired = run_of(keys, tmp_path), desired_of(document(plans=None), app, connect=None)
    report = await reconcile(desired, run)
    assert report.error is not None
    assert report.error.code == "app_function_failed"
    assert "ALTER FUNCTION public.audit() SET search_path = public" in report.error.hint
    assert owning(app, "SELECT count(*) FROM queues") == [(0,)]
    owning(app, "ALTER FUNCTION public.audit() SET search_path = public")
    assert (await reconcile(desired, run)).outcome == "changed"
