"""A server that is read-only or out of space: reported as such with what to do, and nothing is half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from reconciler.database.errors import translated
from reconciler.engine.production_checks import production_test
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of
from tests.support.postgres_server import standby_server

NEW = document(queues={"items": [{"name": "Sales", "description": "new"}], "unmanaged": "keep"})
RAISING = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device' USING ERRCODE = '53100'; END$$
"""


def told(report: InstanceReport) -> tuple[str, int, str, str]:
    assert report.error is not None
    return report.outcome, report.exit_code, report.error.code, report.error.hint


async def descriptions(url: Secret) -> list[tuple[str | None]]:
    async with await psycopg.AsyncConnection.connect(url.reveal()) as conn:
        return await (await conn.execute("SELECT description FROM queues WHERE name = 'Sales'")).fetchall()


@pytest.fixture
async def applied(database: Secret, keys: KeyRing, tmp_path: Path) -> Secret:
    assert (await reconcile(desired_of(document(), database), run_of(keys, tmp_path))).outcome == "changed"
    return database


@pytest.mark.parametrize(
    "trigger",
    [
        "CREATE TRIGGER full_disk BEFORE UPDATE ON queues EXECUTE FUNCTION no_room()",
        (
            "CREATE CONSTRAINT TRIGGER full_disk AFTER UPDATE ON queues DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION no_room()"
        ),
    ],
    ids=["within a write", "at COMMIT"],
)
async def test_a_refused_write_is_reported_and_the_failed_run_recorded(
    trigger: str, applied: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(applied, RAISING, trigger)
    report = await reconcile(desired_of(NEW, applied), run_of(keys, tmp_path, 2))
    assert told(report)[:3] == ("failed", 1, "trigger_refused")  # a trigger that says so is no full disk
    assert await descriptions(applied) == [(None,)]
    async with await psycopg.AsyncConnection.connect(applied.reveal()) as conn:
        query = "SELECT kind, action, fields->0->>'after' FROM fivrec.audit_log ORDER BY seq DESC LIMIT 1"
        assert await (await conn.execute(query)).fetchone() == ("run", "failed", "trigger_refused")
    owning(applied, "DROP TRIGGER full_disk ON queues")
    assert (await reconcile(desired_of(NEW, applied), run_of(keys, tmp_path, 3))).outcome == "changed"


async def test_what_the_server_advises_is_shown(applied: Secret) -> None:
    async with await psycopg.AsyncConnection.connect(applied.reveal()) as conn:
        await conn.execute("CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
            await conn.execute("SELECT * FROM empty")
    error = translated(refused.value, "database a")
    assert (error.code, error.hint) == ("database_error", "Use the REFRESH MATERIALIZED VIEW command.")


@pytest.mark.usefixtures("direct")
async def test_a_database_that_is_read_only_by_default_stays_so(applied: Secret, keys: KeyRing, tmp_path: Path) -> None:
    name = applied.reveal().rsplit("/", 1)[-1]
    owning(applied, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    report = await reconcile(desired_of(NEW, applied), run_of(keys, tmp_path, 2))
    assert told(report)[:3] == ("failed", 1, "database_read_only")
    assert "default_transaction_read_only" in told(report)[3]
    assert await descriptions(applied) == [(None,)]
    assert (await preview(desired_of(NEW, applied), run_of(keys, tmp_path, 3))).outcome == "changed"


async def test_a_hot_standby_is_distinguished_from_a_primary(keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)

    async def prepare(url: str) -> None:
        assert (await reconcile(desired_of(document(), Secret(url)), run)).outcome == "changed"

    async with standby_server("fivapp_standby", prepare) as url:
        report = await reconcile(desired_of(NEW, Secret(url)), run)
        assert told(report)[:3] == ("failed", 1, "database_read_only")
        assert "replica" in told(report)[3]
        assert (await preview(desired_of(NEW, Secret(url)), run)).outcome == "changed"
        absent = await reconcile(desired_of(NEW, Secret(url + "_absent")), run)
        assert told(absent)[:3] == ("failed", 1, "database_read_only")
        with pytest.raises(DatabaseError, match=r"on 127\.0\.0\.1:\d+: the server does not accept writes") as refused:
            await production_test(desired_of(NEW, Secret(url)), run, allow_embedded=True)
        assert refused.value.code == "database_read_only"  # it says nothing about isolation


async def test_an_app_that_locks_a_table_is_not_waited_for(
    applied: Secret, keys: KeyRing, tmp_path: Path, make_database: Callable[[], Secret]
) -> None:
    async with await psycopg.AsyncConnection.connect(applied.reveal()) as app:
        await app.execute("LOCK TABLE queues IN ROW EXCLUSIVE MODE")
        await app.execute("SELECT 1 FROM queues FOR UPDATE")
        report = await reconcile(desired_of(NEW, applied), run_of(keys, tmp_path, 2))
    assert told(report)[:3] == ("failed", 1, "lock_timeout")
    assert told(report)[3].startswith("run again later; who may hold it, the longest transaction first: SELECT pid, ")
    assert told(report)[3].endswith("have no session: SELECT gid, owner, prepared FROM pg_prepared_xacts")
    assert await descriptions(applied) == [(None,)]
