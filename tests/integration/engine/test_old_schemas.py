"""Databases migrated by an older fivrec: checks, locks and reads work before this version's first apply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from reconciler.connect.emulator.state import Fault
from reconciler.database.schema import latest_version, version_of
from reconciler.database.status_queries import HistoryFilter, LogFilter
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.rotate_keys import rotate
from reconciler.engine.run import CycleContext
from reconciler.engine.status_and_logs import (
    query_checks,
    query_history,
    query_status,
    verify_history,
)
from reconciler.engine.usage import count_usage
from reconciler.model.secret import Secret
from reconciler.planning.audit_check import SIGNED_SCHEMA
from reconciler.support.crypto.keyring import KeyRing
from tests.integration.engine.test_forged_audit import pass_for_an_old_log
from tests.integration.engine.test_told_once import DOWN, ByHand
from tests.support.checking import connect_says
from tests.support.databases import owning, run_sql
from tests.support.engine import desired_of, document, run_of

ADDED = {
    14: "SELECT",  # existing objects stay
    13: "ALTER TABLE fivrec.audit_log ALTER signature DROP DEFAULT, DROP CONSTRAINT audit_log_not_by_0_1",
    12: "SELECT",  # functions only
    11: "DROP TABLE fivrec.alert_outbox",
    10: "DROP TABLE fivrec.last_run; ALTER TABLE fivrec.applied DROP provenance, DROP tenure, DROP before",
    9: "DROP TABLE fivrec.audit_key; ALTER TABLE fivrec.audit_log DROP signature",
    8: "DROP FUNCTION fivrec.development_rows()",
    7: "DROP TABLE fivrec.logins; DROP TABLE fivrec.revoked_tokens",
}
"""SQL that reverts each migration."""
OLD = [version - 1 for version in ADDED]
LOCKED = "SELECT is_locked, status FROM instance_config"
CHECKS = "SELECT status_received FROM status_check_logs ORDER BY created_at DESC LIMIT 1"
NEWEST = "SELECT max(version) FROM fivrec.migrations"


async def migrated_to(version: int, url: Secret, keys: KeyRing, folder: Path) -> None:
    assert (await reconcile(desired_of(document(), url), run_of(keys, folder))).error is None
    if version < SIGNED_SCHEMA:
        with psycopg.connect(url.reveal(), autocommit=True, row_factory=dict_row) as server:
            pass_for_an_old_log(server)
    for later in range(latest_version(), version, -1):
        owning(url, ADDED[later])
    owning(url, f"DELETE FROM fivrec.migrations WHERE version > {version}")


@pytest.mark.parametrize("version", OLD)
async def test_a_check_records_and_locks_and_leaves_the_schema(
    version: int, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await migrated_to(version, database, keys, tmp_path)
    bare = replace(desired_of(document(), database), managed={}, plans_from_connect=False)
    run = run_of(keys, tmp_path, 2, check_only=True)
    for number, status in enumerate(("suspended", "active", "active"), start=3):
        connect_says(tmp_path, status)
        report = await reconcile(bare, replace(run, id=f"run-{number}"))
        assert report.error is None, status
        assert owning(database, LOCKED) == [(status == "suspended", status)]
        assert owning(database, CHECKS) == [(status,)]
    assert owning(database, NEWEST) == [(version,)]


@pytest.mark.parametrize("version", OLD)
async def test_a_watch_that_only_reports_works(version: int, database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await migrated_to(version, database, keys, tmp_path)
    owning(database, "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
    desired = desired_of(document(), database, usage_report=True)
    turn = CycleContext(0.0, report_usage=True)
    for number, status in enumerate(("suspended", "active"), start=3):
        connect_says(tmp_path, status)
        run = run_of(keys, tmp_path, number, check_type="scheduled", report_only=True, turn=turn)
        report = await reconcile(desired, run)
        assert report.error is None, status
        assert {(str(change.key), change.cause) for change in report.changes} >= {
            ("queue/Sales", "drift"),
            ("schema/fivrec", "intent"),
        }
        assert owning(database, LOCKED) == [(status == "suspended", status)]
    assert owning(database, NEWEST) == [(version,)]
    assert owning(database, "SELECT description FROM queues WHERE name = 'Sales'") == [("by hand",)]


@pytest.mark.parametrize("version", OLD)
async def test_reads_work_and_an_apply_migrates(version: int, database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await migrated_to(version, database, keys, tmp_path)
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, 2)
    status = await query_status(desired, run)
    assert status is not None
    assert (status.status, status.is_locked) == ("active", False)
    assert len(await query_checks(desired, run, LogFilter())) == 1
    assert len(await query_history(desired, run, HistoryFilter())) > 1
    assert (await verify_history(desired, run, None)).finding is None
    assert (await count_usage(desired, run)).report["totalQueues"] == 2
    planned = await preview(desired, run)
    assert [(str(change.key), change.action) for change in planned.changes] == [("schema/fivrec", "update")]
    assert (await reconcile(desired, run)).error is None
    assert owning(database, NEWEST) == [(latest_version(),)]
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"
    assert (await verify_history(desired, run, None)).finding is None


@pytest.mark.parametrize("version", [version for version in OLD if version >= version_of("alerts")])
async def test_an_outage_from_before_an_upgrade_is_alerted_once(
    version: int, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await migrated_to(version, database, keys, tmp_path)
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("check", fault=DOWN) == ["connect_unreachable"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told("apply", fault=Fault()) == ["recovered"]
    assert await run_sql(database, "SELECT alert FROM fivrec.alert_outbox ORDER BY created_at") == [
        ("connect_unreachable",),
        ("recovered",),
    ]


@pytest.mark.parametrize("version", OLD)
async def test_a_rotation_is_done_or_refused(version: int, database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Never "there is nothing to rotate": an operator would then throw the former key away."""
    await migrated_to(version, database, keys, tmp_path)
    both = KeyRing((*KeyRing.passing().keys, *keys.keys))
    report = await rotate(desired_of(document(), database), run_of(both, tmp_path))
    expected = ("failed", "schema_missing") if version < version_of("life") else ("changed", None)
    assert (report.outcome, report.error and report.error.code) == expected
