"""Instances never applied differ from unreadable ones; the audit log's chain is verified page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.database.status_queries import HistoryFilter, read_chain
from reconciler.engine import status_and_logs
from reconciler.engine.reconcile import reconcile
from reconciler.engine.retention import Keep, prune
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.secret import Secret
from reconciler.planning.audit import AuditEntry
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of


@pytest.mark.parametrize("table", ["status_check_logs", "instance_config"])
async def test_a_table_that_is_gone_is_no_instance_never_applied(
    database: Secret, keys: KeyRing, tmp_path: Path, table: str
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert await status_and_logs.query_status(desired, run) is None
    assert (await reconcile(desired, run)).outcome == "changed"
    await run_sql(database, f"DROP TABLE {table}")
    with pytest.raises(DatabaseError, match=rf'relation "public.{table}" does not exist') as caught:
        await status_and_logs.query_status(desired, run)
    assert caught.value.code == "schema_missing"


@pytest.mark.parametrize(
    "odd",
    ["DROP TABLE instance_config CASCADE", "ALTER TABLE instance_config ALTER instance_id TYPE json USING '1'::json",
     "CREATE SCHEMA app; ALTER TABLE instance_config SET SCHEMA app"],
)  # fmt: skip
async def test_history_needs_no_instance_config(database: Secret, keys: KeyRing, tmp_path: Path, odd: str) -> None:
    """Then fivrec's records say whose database it is."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).outcome == "changed"
    await run_sql(database, odd)
    assert await status_and_logs.query_history(desired, run, HistoryFilter(limit=1)) != ()
    with pytest.raises(Refused, match='belongs to instance "client-abc-123", not to "other-1"'):
        await status_and_logs.query_history(replace(desired, instance="other-1"), run, HistoryFilter(limit=1))


@pytest.mark.parametrize("edited", [False, True])
async def test_entries_deleted_meanwhile_are_no_gap_edited_ones_show(
    *, edited: bool, database: Secret, keys: KeyRing, tmp_path: Path, monkeypatch: Any
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).outcome == "changed"
    readings = []

    async def by_twos(conn: Any, scope: Any, **more: Any) -> AsyncIterator[AuditEntry]:
        readings.append(scope)
        async for entry in read_chain(conn, scope, page=2, **more):
            if len(readings) == 1 and entry.seq == 2:
                await prune(desired, run, Keep(audit_s=0.0))
                await conn.execute("UPDATE fivrec.audit_log SET name = %s WHERE %s", ("Z", edited))
                await conn.commit()
            yield entry

    monkeypatch.setattr(status_and_logs, "read_chain", by_twos)
    chain = await status_and_logs.verify_history(desired, run, None)
    assert chain.begins_after[0] > 2
    assert len(readings) == 2
    assert (chain.finding is not None) is edited
