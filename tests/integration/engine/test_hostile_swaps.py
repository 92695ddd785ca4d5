"""A weaker role swaps names, or plants code, while a superuser's run waits for a lock: its code never runs.

The attacks are those of test_hostile_roles.py, at the moment between fivrec's look for other roles' code and its use of
the tables. In a read-only transaction `seize` fails, and so does the report: with another code than `foreign_code`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.database import transaction
from reconciler.database.connection import connect
from reconciler.database.rows import Scope
from reconciler.database.sequences import advance_sequences
from reconciler.database.status_check import write_lone_check
from reconciler.database.writes import CheckRow
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.engine.test_hostile_roles import OF_THE_APP, RETURNS_TRUE, TRIGGER, Ground, ground
from tests.support.engine import desired_of, document, run_of

__all__ = ["ground"]
pytestmark = pytest.mark.usefixtures("direct")  # a pooler would not know the logins

OWNED = "SET ROLE NONE; " + "".join(f"ALTER TABLE public.{table} OWNER TO {{app}}; " for table in OF_THE_APP)
OWNED += "ALTER SCHEMA public OWNER TO {app}; SET ROLE {app};"
CHILD = (
    "CREATE TABLE app_own.child (LIKE public.instance_config INCLUDING ALL);"
    "INSERT INTO app_own.child SELECT * FROM public.instance_config;"
    + TRIGGER.replace("public.{table}", "app_own.child")
)
OTHER_SCHEMA = """ALTER SCHEMA public RENAME TO former; CREATE SCHEMA public;
  DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'former'::regnamespace AND relkind = 'r' LOOP
      EXECUTE format('CREATE VIEW public.%I AS SELECT * FROM former.%I WHERE app_own.f()', name, name);
    END LOOP; END $$"""


@pytest.fixture
async def applied(ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path) -> tuple[Ground, Desired]:
    here = ground("SUPERUSER")
    desired = desired_of(document(), here.url)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    return here, desired


@asynccontextmanager
async def waiting(
    here: Ground, attacker: psycopg.Connection, run: asyncio.Task[InstanceReport]
) -> AsyncIterator[psycopg.Connection]:
    """Let the run wait for what the attacker's session has locked. Yields a third session, of the weaker role."""
    with attacker, psycopg.connect(here.admin, autocommit=True) as other:
        while not run.done() and not other.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            await asyncio.sleep(0.01)
        assert not run.done(), run.result().error
        other.execute(f"SET ROLE {here.app}; SET lock_timeout = '300ms'".encode())
        yield other


@pytest.mark.parametrize("acts", [False, True], ids=["itself", "as-another-role"])
async def test_a_table_swapped_while_a_dry_run_waits_for_it(
    acts: bool, applied: tuple[Ground, Desired], keys: KeyRing, tmp_path: Path
) -> None:
    """The run looked for code in the catalogue of the moment before, and then used the view."""
    here, desired = applied
    attacker = here.attack(
        OWNED + RETURNS_TRUE.replace("BEGIN {seize}", "BEGIN EXECUTE 'SET ROLE NONE'; {seize}") + "SET ROLE NONE;"
        "GRANT USAGE ON SCHEMA fivrec TO {app}; GRANT ALL ON ALL TABLES IN SCHEMA fivrec, public TO {app}"
    )
    if acts:
        attacker.execute(f"ALTER DATABASE {here.database} SET role = {here.app}".encode())
    attacker.execute(f"SET ROLE {here.app}".encode())
    attacker.execute("BEGIN; LOCK TABLE public.instance_config")
    run = asyncio.create_task(preview(desired, run_of(keys, tmp_path, 2)))
    async with waiting(here, attacker, run):
        attacker.execute(
            "ALTER TABLE public.instance_config RENAME TO kept;"
            "CREATE VIEW public.instance_config AS SELECT * FROM public.kept WHERE app_own.f(); COMMIT"
        )
        report = await run
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute("SET ROLE NONE")
        conn.execute(f"ALTER DATABASE {here.database} RESET role".encode())
    assert report.error is not None
    assert report.error.code == "foreign_code"


@pytest.mark.parametrize(
    "late", ["ALTER TABLE app_own.child INHERIT public.instance_config", OTHER_SCHEMA], ids=["child", "schema"]
)
async def test_nothing_takes_a_tables_place_while_an_apply_waits(
    late: str, applied: tuple[Ground, Desired], keys: KeyRing, tmp_path: Path
) -> None:
    here, desired = applied
    attacker = here.attack(OWNED + RETURNS_TRUE + CHILD)
    attacker.execute(f"SET ROLE {here.app}; UPDATE public.queues SET description = 'x'".encode())
    attacker.execute("BEGIN; SELECT FROM public.queues FOR UPDATE")
    run = asyncio.create_task(reconcile(desired, run_of(keys, tmp_path, 2)))
    async with waiting(here, attacker, run) as other:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(late.encode())
        attacker.execute("COMMIT")
        assert (await run).error is None
    assert here.seized() == []


async def test_nobody_makes_a_missing_table_while_a_migration_waits(
    applied: tuple[Ground, Desired], keys: KeyRing, tmp_path: Path
) -> None:
    here, desired = applied
    attacker = here.attack(
        "CREATE FUNCTION app_own.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN NEW; END$$;"
        "SET ROLE NONE; DROP SCHEMA fivrec CASCADE; DROP TABLE public.settings; GRANT SELECT ON public.users TO {app}"
    )
    attacker.execute(f"SET ROLE {here.app}".encode())
    attacker.execute("BEGIN; SELECT FROM public.users")
    run = asyncio.create_task(reconcile(desired, run_of(keys, tmp_path, 2)))
    async with waiting(here, attacker, run) as other:
        with suppress(psycopg.errors.LockNotAvailable):
            other.execute(
                "CREATE TABLE public.settings (key text PRIMARY KEY, value json, updated_at timestamp);"
                "CREATE TRIGGER t BEFORE INSERT ON public.settings FOR EACH ROW EXECUTE FUNCTION app_own.t()"
            )
        attacker.execute("COMMIT")
        report = await run
    assert here.seized() == []
    assert report.error is None


async def test_no_migration_runs_the_cast_of_a_table_made_while_it_waits(
    ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """It waited for a schema of its name, which another session was about to make."""
    here = ground("SUPERUSER")
    desired = desired_of(document(), here.url)
    attacker = here.attack(
        """CREATE TYPE app_own.e AS ENUM ('x'); CREATE SEQUENCE app_own.runs;
        CREATE FUNCTION app_own.c(app_own.e) RETURNS integer LANGUAGE plpgsql AS $$BEGIN
          IF current_user <> '{app}' THEN PERFORM nextval('app_own.runs'); END IF; RETURN 1; END$$;
        CREATE CAST (app_own.e AS integer) WITH FUNCTION app_own.c(app_own.e) AS IMPLICIT"""
    )
    attacker.execute(f"SET ROLE {here.app}".encode())
    attacker.execute("BEGIN; CREATE SCHEMA fivrec")
    run = asyncio.create_task(reconcile(desired, run_of(keys, tmp_path, 2)))
    async with waiting(here, attacker, run) as other:
        with suppress(psycopg.errors.LockNotAvailable):  # it waits for the tables that the run has made
            other.execute(
                "CREATE TABLE public.clients (id integer PRIMARY KEY, name text, environment text);"
                "CREATE TABLE public.conversations (id text PRIMARY KEY, client_id app_own.e, environment text);"
                "INSERT INTO public.clients VALUES (1, 'x', 'production');"
                "INSERT INTO public.conversations VALUES ('1', 'x', 'production')"
            )
        attacker.execute("ROLLBACK")
        report = await run
        # A rollback does not undo it.
        assert other.execute("SELECT is_called FROM app_own.runs").fetchone() == (False,)
    assert report.error is None


async def test_no_cast_of_another_role_looks_for_rows_that_refer_to_a_queue(
    applied: tuple[Ground, Desired], keys: KeyRing, tmp_path: Path
) -> None:
    here, _ = applied
    here.attack(
        """CREATE TYPE app_own.e AS ENUM ('x');
        CREATE FUNCTION app_own.c(app_own.e) RETURNS integer LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN 1; END$$;
        CREATE CAST (app_own.e AS integer) WITH FUNCTION app_own.c(app_own.e) AS IMPLICIT; SET ROLE NONE;
        ALTER TABLE public.queues ADD code serial UNIQUE; GRANT REFERENCES ON public.queues TO {app}; SET ROLE {app};
        CREATE TABLE app_own.notes (code app_own.e REFERENCES public.queues (code));
        SET ROLE NONE; SET session_replication_role = 'replica'; INSERT INTO app_own.notes VALUES ('x')"""
    ).close()
    fewer = desired_of(document(queues={"items": [{"name": "Sales"}], "unmanaged": "remove"}), here.url)
    planned = await preview(fewer, run_of(keys, tmp_path, 2))
    assert planned.error is None
    assert planned.plan is not None
    assert [change.action for change in planned.plan.changes if change.key.kind == "queue"] == ["deactivate"]


async def test_a_superuser_looks_for_sequences_in_no_other_roles_table(applied: tuple[Ground, Desired]) -> None:
    """Between two statements such a table could become a view."""
    here, desired = applied
    own = "(id serial PRIMARY KEY); INSERT INTO {place}.numbered VALUES (5);"
    here.attack("CREATE TABLE app_own.numbered " + own.replace("{place}", "app_own")).close()
    async with await connect(here.url, application_name="test") as conn:
        found = await advance_sequences(conn, Scope(desired.instance, "production"))
    assert [behind.column for behind in found] == []


@pytest.mark.parametrize("table", ["status_check_logs", "instance_config"])
async def test_a_table_made_after_the_look_for_code_gets_no_check(
    table: str, applied: tuple[Ground, Desired], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, desired = applied
    attacker = here.attack(
        "CREATE FUNCTION app_own.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN NEW; END$$;"
        f"SET ROLE NONE; CREATE TABLE app_own.copy AS TABLE public.{table}; DROP TABLE public.{table} CASCADE;"
        "ALTER TABLE app_own.copy OWNER TO {app}"
    )
    opened = transaction.open_locked

    async def raced(*args: Any, **more: Any) -> dict[str, list[transaction.Row]]:
        rows = await opened(*args, **more)
        with attacker:
            attacker.execute(f"SET ROLE {here.app}; CREATE TABLE public.{table} (LIKE app_own.copy)".encode())
            attacker.execute(f"INSERT INTO public.{table} TABLE app_own.copy".encode())
            attacker.execute(
                f"CREATE TRIGGER t BEFORE INSERT OR UPDATE ON public.{table} EXECUTE FUNCTION app_own.t()".encode()
            )
        return rows

    monkeypatch.setattr(transaction, "open_locked", raced)
    scope, check = Scope(desired.instance, "production"), CheckRow("manual", True, "active", None, 5)
    async with await connect(here.url, application_name="test") as conn:
        await write_lone_check(conn, scope, {"status": "active"}, check)
    assert here.seized() == []
