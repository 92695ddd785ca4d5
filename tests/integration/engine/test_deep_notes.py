"""What `--deep` says beside the differences: what the app or the server does that keeps a database in sync from working
as declared. Nothing of it is looked for without `--deep`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of
from tests.support.isolated import Isolated, environment

NOTHING_FIRES = (
    "{} has session_replication_role = replica: triggers don't fire and foreign keys check nothing "
    "(ALTER ROLE or DATABASE … RESET session_replication_role)"
)
PLAN = {"id": "starter", "name": "Starter", "price": 2900, "billing_interval": "monthly", "features": ()}


@pytest.mark.parametrize("of", ["DATABASE", "ROLE"])
async def test_deep_names_whose_sessions_fire_no_triggers(
    of: str, database: Secret, owner_of: Callable[[Secret], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    """Such a database was called in sync, isolated too, though no foreign key was checked."""
    url = owner_of(database)
    desired, run = desired_of(document(plans=None), url, connect=None), run_of(keys, tmp_path)
    await reconcile(desired, run)
    login, name = urlsplit(url.reveal()).username, urlsplit(url.reveal()).path.lstrip("/")
    owning(database, f'ALTER {of} "{name if of == "DATABASE" else login}" SET session_replication_role = replica')
    said = [NOTHING_FIRES.format(who) for who in (["every role"] if of == "DATABASE" else []) + [str(login)]]
    for work in (preview, reconcile):
        notes = (await work(desired, replace(run, id="deep", deep=True))).notes
        assert notes[-len(said) :] == tuple(f"⚠️ {one}" for one in said)
        assert (await work(desired, replace(run, id="plain"))).notes == ()
    tested = await production_test(desired, run, allow_embedded=True)
    (isolation,) = [check for check in tested if check.name == "isolation"]
    assert (isolation.passed, all(one in isolation.message for one in said)) == (False, True)


async def test_a_superusers_runs_fire_triggers_all_the_same(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(plans=None), database, connect=None), run)
    owning(
        database,
        "CREATE TABLE noted (name text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO public.noted VALUES (NEW.name); RETURN NEW; END$$;"
        "CREATE TRIGGER note BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION note();",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database());"
        "END $$",
    )
    queues = {"items": [{"name": "Sales", "description": "new"}], "unmanaged": "keep"}
    report = await reconcile(desired_of(document(plans=None, queues=queues), database, connect=None), run)
    assert (report.outcome, report.error) == ("changed", None)
    assert owning(database, "SELECT * FROM noted") == [("Sales",)]


@pytest.mark.parametrize("column", ["deleted_at", '"deletedAt"'])
async def test_deep_names_declared_rows_that_the_app_has_marked_as_deleted(
    column: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Nobody could log in, and fivrec called the administrator in sync."""
    plans = {"source": "manifest", "items": [PLAN], "unmanaged": "keep"}
    desired, run = desired_of(document(plans=plans), database, connect=None), run_of(keys, tmp_path)
    await reconcile(desired, run)
    for table in ("users", "queues", "plans"):
        owning(database, f"ALTER TABLE {table} ADD {column} timestamptz")
    assert "deleted" not in str((await preview(desired, replace(run, deep=True))).notes)
    owning(
        database,
        f"UPDATE users SET {column} = now()",
        f"UPDATE queues SET {column} = now() WHERE name = 'Sales'",
        f"UPDATE plans SET {column} = now()",
        f"INSERT INTO users (name, email, password, {column}) VALUES ('b', 'b@c.d', '!', now())",
    )
    said = "the app has marked a row of it as deleted (deleted_at); fivrec counts it as there"
    for work in (preview, reconcile):
        found = await work(desired, replace(run, id="deep", deep=True))
        marked = [note for note in found.notes if said in note]
        named = ("admin/admin@empresa.com", "plan/Starter", "queue/Sales")
        assert (found.outcome, marked) == ("in_sync", [f"⚠️ {one}: {said}" for one in named])
        assert (await work(desired, replace(run, id="plain"))).notes == ()


async def test_rows_of_a_third_environment_are_noted_and_no_change(
    isolated: Isolated, keys: KeyRing, tmp_path: Path
) -> None:
    """Under row-level security nobody sees them: each apply tried to validate the check, and wrote an audit entry."""
    rule, note = "users_environment_check", "⚠️ users_environment_check is not validated: rows of users that are neither"
    desired = desired_of(
        document(plans=None, environment=environment(isolation="enforced")), isolated.owner, connect=None
    )
    run = run_of(keys, tmp_path, 2, deep=True)
    with psycopg.connect(isolated.admin, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE users DROP CONSTRAINT {rule}")
        conn.execute("INSERT INTO users (name, email, password, environment) VALUES ('X', 'x@t.test', 'x', 'staging')")
        conn.execute(
            f"ALTER TABLE users ADD CONSTRAINT {rule} CHECK (environment IS NOT NULL AND "
            "environment IN ('production', 'development')) NOT VALID"
        )
        for work in (preview, reconcile):
            report = await work(desired, run)
            (said,) = [one for one in report.notes if one.startswith(note)]
            assert (report.outcome, report.changes) == ("in_sync", ())
        tested = await production_test(desired, run, allow_embedded=True)
        assert [check.name for check in tested if not check.passed] == ["isolation"]
        conn.execute("DELETE FROM users WHERE environment = 'staging'")
        with psycopg.connect(isolated.owner.reveal(), autocommit=True) as owner:
            owner.execute(said.partition("once they are gone: ")[2])
        assert [one for one in (await preview(desired, run)).notes if one.startswith(note)] == []


@pytest.mark.parametrize("mark", ["bigint NOT NULL DEFAULT 0", "boolean DEFAULT false", "timestamp DEFAULT 'infinity'"])
async def test_a_mark_that_all_rows_have_deletes_none(
    mark: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """As GORM has it, so that a name can be unique among the rows that are not deleted."""
    desired, run = desired_of(document(plans=None), database, connect=None), run_of(keys, tmp_path)
    await reconcile(desired, run)
    owning(database, *(f"ALTER TABLE {table} ADD deleted_at {mark}" for table in ("users", "queues", "plans")))
    assert "deleted" not in str((await preview(desired, replace(run, deep=True))).notes)
