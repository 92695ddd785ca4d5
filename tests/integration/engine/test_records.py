"""What is recorded if not everything can be: a check without a plan, a run without an instance, the status known
before a failed run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.pq import TransactionStatus

from reconciler.database import store
from reconciler.database.schema import latest_version
from reconciler.engine import status_check
from reconciler.engine.commit import record
from reconciler.engine.lone_check import record_plainly
from reconciler.engine.observe import build_scope
from reconciler.engine.observe import database as opened
from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import CycleContext, Run
from reconciler.engine.writes import check_row
from reconciler.model.errors import NotConverged
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Snapshot
from reconciler.planning.plan import Plan, build_plan, only_status
from reconciler.planning.report import CycleResult
from reconciler.planning.status_check import KnownStatus, judge
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of
from tests.support.examples import view

ACTIVE = KnownStatus("active", "paid")
SUSPENDED = view("suspended")
LOCKED = "SELECT status, is_locked FROM instance_config"
CHECKS = "SELECT count(*) FROM status_check_logs WHERE status_received = 'suspended'"
LAST_RUN = store.LastRunRow("apply", "test", None, "failed")


@pytest.fixture
async def applied(database: Secret, keys: KeyRing, tmp_path: Path) -> tuple[Desired, Run]:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    assert (await reconcile(desired, run)).outcome == "changed"
    return desired, replace(run, id="00000000-0000-4000-8000-000000000002")


class TestTheCheckAlone:
    async def recorded(self, applied: tuple[Desired, Run], *statements: str) -> CycleResult | None:
        """Record a check in a cycle whose last status was active. Returns the cycle's result."""
        desired, run = applied
        for statement in statements:
            await run_sql(desired.database.url, statement)
        turn = replace(run, command="watch", check_type="scheduled", turn=CycleContext(0.0, last_known=ACTIVE))
        async with opened(desired, turn) as conn:
            return await record_plainly(conn, desired, turn, SUSPENDED)

    async def test_it_locks_records_and_tells(self, applied: tuple[Desired, Run]) -> None:
        found = await self.recorded(applied)
        assert found is not None
        assert (found.standing, found.alerts) == (KnownStatus("suspended", "paid", locked=True), ("suspended",))
        written = await run_sql(applied[0].database.url, f"SELECT id FROM ({CHECKS.replace('count(*)', 'id')}) AS one")
        assert written == [(found.check_id,)]

    async def test_a_lock_that_is_refused_is_not_taken_for_one(self, applied: tuple[Desired, Run]) -> None:
        found = await self.recorded(applied, "ALTER TABLE instance_config ADD CHECK (NOT is_locked)")
        assert found is not None
        assert found.standing == KnownStatus("suspended", "paid", locked=False)
        assert await run_sql(applied[0].database.url, LOCKED) == [("suspended", False)]

    async def test_a_check_that_is_not_stored_is_nobodys_own(self, applied: tuple[Desired, Run]) -> None:
        found = await self.recorded(applied, "DROP TABLE status_check_logs")
        assert found is not None
        assert (found.check_id, found.standing.locked) == (None, True)
        assert await run_sql(applied[0].database.url, LOCKED) == [("suspended", True)]

    async def test_nothing_is_alerted_if_nothing_is_stored(self, applied: tuple[Desired, Run]) -> None:
        assert await self.recorded(applied, "DROP TABLE status_check_logs, instance_config") is None
        assert await run_sql(applied[0].database.url, "SELECT count(*) FROM fivrec.alert_outbox") == [(0,)]


class TestARunWithoutAnApply:
    async def record(
        self,
        applied: tuple[Desired, Run],
        writes: Callable[[store.Writes], store.Writes],
        found: Callable[[Snapshot], Snapshot] = lambda one: one,
        *,
        again: Callable[[Snapshot], Plan] | None = None,
    ) -> TransactionStatus:
        desired, run = applied
        async with opened(desired, run) as conn:
            snapshot = await store.begin(conn, build_scope(desired), run.keys, lock=True)
            said = build_plan(desired, SUSPENDED, snapshot, schema_version=latest_version(), today=run.today)
            bare = store.Writes(run_id=run.id, check=check_row(judge(SUSPENDED, "manual"), snapshot.config_id))
            await record(
                conn, writes(bare), only_status(said), desired, run, snapshot=found(snapshot), plan_again=again
            )
            return conn.info.transaction_status

    @pytest.mark.parametrize("lacks", ["config_id", "schema_version"])
    async def test_without_an_instance_or_a_schema_it_is_the_run_alone(
        self, lacks: str, applied: tuple[Desired, Run]
    ) -> None:
        url = applied[0].database.url
        with_run = await self.record(
            applied, lambda one: replace(one, last_run=LAST_RUN), lambda one: replace(one, **{lacks: None})
        )
        assert with_run == TransactionStatus.IDLE
        assert await run_sql(url, CHECKS) == [(0,)]
        assert await run_sql(url, "SELECT outcome FROM fivrec.last_run") == [("failed",)]

    async def test_nothing_to_record_ends_the_transaction(self, applied: tuple[Desired, Run]) -> None:
        ended = await self.record(applied, lambda one: one, lambda one: replace(one, config_id=None))
        assert ended == TransactionStatus.IDLE
        assert await run_sql(applied[0].database.url, CHECKS) == [(0,)]

    async def test_a_lock_that_follows_is_compared_before_the_commit(self, applied: tuple[Desired, Run]) -> None:
        seen: list[Snapshot] = []

        def again(found: Snapshot) -> Plan:
            seen.append(found)
            desired, run = applied
            return only_status(build_plan(desired, SUSPENDED, found, schema_version=latest_version(), today=run.today))

        with pytest.raises(NotConverged, match="status/client-abc-123"):  # its row was not among the writes
            await self.record(applied, lambda one: one, again=again)
        assert len(seen) == 1
        assert await run_sql(applied[0].database.url, CHECKS) == [(0,)]

    async def test_of_an_old_schema_nothing_is_compared(self, applied: tuple[Desired, Run]) -> None:
        await self.record(applied, lambda one: one)
        assert await run_sql(applied[0].database.url, CHECKS) == [(1,)]


class TestWhatWasKnownBefore:
    async def known(self, applied: tuple[Desired, Run], *statements: str, **more: object) -> KnownStatus:
        desired, run = applied
        for statement in statements:
            await run_sql(desired.database.url, statement)
        async with opened(desired, run) as conn:
            return await status_check._known_before(conn, desired, replace(run, **more))

    async def test_a_cycle_knows_the_last_status(self, applied: tuple[Desired, Run]) -> None:
        silent = replace(ACTIVE, reachable=False)
        assert await self.known(applied, turn=CycleContext(0.0, last_known=silent)) == silent
        assert await self.known(applied, turn=CycleContext(0.0)) == KnownStatus()

    async def test_a_run_by_hand_whether_the_newest_check_succeeded(self, applied: tuple[Desired, Run]) -> None:
        failed = "UPDATE status_check_logs SET success = false"
        later = (
            "INSERT INTO status_check_logs (instance_config_id, check_type, success, created_at) SELECT id, 'manual',"
            " {0}, now() + {1} FROM instance_config"
        )
        assert (await self.known(applied)).reachable
        assert not (await self.known(applied, failed)).reachable
        assert not (await self.known(applied, later.format("true", "interval '3 hours'"))).reachable
        assert (await self.known(applied, later.format("true", "interval '1 second'"))).reachable
        assert (await self.known(applied, "DELETE FROM status_check_logs")).reachable

    async def test_what_can_not_be_read_is_no_news(self, applied: tuple[Desired, Run]) -> None:
        assert not (await self.known(applied, "DROP TABLE status_check_logs")).reachable
