"""What happens after a commit, and that none of it undoes what was committed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.database import status_queries, store
from reconciler.database.lost_commit import wait_for_lock_release
from reconciler.database.pipeline import Limits
from reconciler.database.store import Scope
from reconciler.engine.reconcile import reconcile
from reconciler.model.errors import Busy
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect
from tests.support.databases import run_sql
from tests.support.engine import INSTANCE, desired_of, document, run_of

MEDDLER = """
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.description = 'meddled with'; RETURN NEW; END $$;
CREATE TRIGGER meddler BEFORE UPDATE ON queues FOR EACH ROW EXECUTE FUNCTION meddle();
UPDATE queues SET description = 'by hand' WHERE name = 'Sales';
"""
UNREACHABLE = "http://127.0.0.1:1"


async def test_a_run_that_does_not_converge_leaves_its_record_and_a_check(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    development = document(environment={"name": "development", "isolation": "constraints"})
    await reconcile(desired_of(development, database), run)
    await run_sql(database, MEDDLER)
    report = await reconcile(desired_of(development, database, connect=UNREACHABLE), replace(run, id="second"))
    assert (report.outcome, report.exit_code, report.error and report.error.code) == ("failed", 1, "not_converged")
    checks = "SELECT success FROM status_check_logs ORDER BY created_at"
    assert await run_sql(database, checks) == [(True,), (False,)]
    entries = "SELECT kind, name, action FROM fivrec.audit_log WHERE run_id = 'second' ORDER BY seq"
    assert await run_sql(database, entries) == [("run", "failed", "failed")]


async def test_a_lookup_waits_for_the_lock_even_without_a_schema(
    database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    """While the first apply's COMMIT is in progress, its tables are not visible."""
    holder, other = await open_connection(database), await open_connection(database, limits=Limits(lock_wait_s=0.2))
    await store.begin(holder, scope, keys, lock=True)
    with pytest.raises(Busy):
        await wait_for_lock_release(other, scope)
    await store.rollback(holder)
    await wait_for_lock_release(other, scope)


async def test_a_run_stopped_after_its_commit_reports_the_commit(
    database: Secret, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(status_queries, "read_breaking_rows", hang)
    await run_sql(
        database, "CREATE TABLE clients (id text PRIMARY KEY)"
    )  # in an empty database there is nothing to look for
    task = asyncio.create_task(reconcile(desired_of(document(), database), run_of(keys, tmp_path)))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    report = await task
    assert (report.outcome, report.error) == ("changed", None)
    assert report.notes == ("⚠️ rows that break the rules of environments could not be looked for: the run was stopped",)
    assert await run_sql(database, "SELECT count(*) FROM queues") == [(2,)]


async def test_with_two_rows_the_checks_are_those_of_the_row_read(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await run_sql(
        seed_database,
        "DELETE FROM status_check_logs; DELETE FROM instance_config; INSERT INTO instance_config "
        "(id, instance_id, instance_key, connect_api_url, created_at) VALUES "
        f"('z', '{INSTANCE}', 'k', 'https://one.example', '2025-01-01'), "
        f"('a', '{INSTANCE}', 'k', 'https://two.example', '2025-02-01')",
    )
    desired, run = desired_of(document(), seed_database), run_of(keys, tmp_path)
    first = await reconcile(desired, run)
    assert (first.outcome, first.error) == ("changed", None)
    again = await reconcile(desired, run)
    assert (again.outcome, again.changes) == ("in_sync", ())
