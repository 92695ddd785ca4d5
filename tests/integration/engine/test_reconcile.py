"""The engine on a real PostgreSQL: what one reconciliation costs, and what is left when it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from reconciler.connect.emulator.state import EmulatorState
from reconciler.connect.emulator.state_file import StateFile
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.run import CycleContext
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.fault_proxy import FaultProxy, server_of, through


async def test_a_no_op_apply_needs_at_most_4_round_trips(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    assert (await reconcile(desired_of(document(), database), run)).outcome == "changed"
    async with FaultProxy(*server_of(database)) as proxy:
        conn = await psycopg.AsyncConnection.connect(through(database, proxy.port).reveal())
        connecting = proxy.traffic.turns
        await conn.close()
        before = proxy.traffic.turns
        report = await reconcile(desired_of(document(), through(database, proxy.port)), run)
        assert report.outcome == "in_sync"
        assert proxy.traffic.turns - before - connecting <= 4


async def test_a_first_apply_needs_at_most_8_round_trips(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with FaultProxy(*server_of(database)) as proxy:
        conn = await psycopg.AsyncConnection.connect(through(database, proxy.port).reveal())
        connecting = proxy.traffic.turns
        await conn.close()
        before = proxy.traffic.turns
        report = await reconcile(desired_of(document(), through(database, proxy.port)), run_of(keys, tmp_path))
        assert report.outcome == "changed"
        assert proxy.traffic.turns - before - connecting <= 8


async def test_a_preview_and_an_apply_name_the_same_plan(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    planned = await preview(desired, run)
    done = await reconcile(desired, run)
    assert (planned.digest, planned.changes) == (done.digest, done.changes)
    assert (await preview(desired, run)).outcome == "in_sync"


async def test_neither_plans_a_database_that_it_must_not_create(
    absent_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(), absent_database), run_of(keys, tmp_path)
    desired = replace(desired, database=replace(desired.database, create=False), database_name="absent")
    for work in (preview, reconcile):
        report = await work(desired, run)
        assert (report.outcome, report.exit_code, report.changes) == ("failed", 1, ())
        assert report.error is not None
        assert (report.error.code, report.error.message) == ("database_missing", 'database "absent" is missing')
        assert report.error.hint == "create it, or set database.create: true"
    suspended = await reconcile(replace(desired, suspend=True), run)
    assert (suspended.outcome, suspended.error) == ("skipped", None)


async def test_a_changed_password_is_written_under_always_only(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    admin = {**document()["admin"], "update_password": "always"}
    await reconcile(desired_of(document(admin=admin), database), run)
    changed = {**admin, "password": Secret("outra-senha")}
    kept = {**changed, "update_password": "on_create"}
    assert (await reconcile(desired_of(document(admin=kept), database), run)).outcome == "in_sync"
    report = await reconcile(desired_of(document(admin=changed), database), run)
    assert [(str(change.key), change.cause, change.fields[0].field) for change in report.changes] == [
        ("admin/admin@empresa.com", "intent", "password")
    ]
    assert (await reconcile(desired_of(document(admin=changed), database), run)).outcome == "in_sync"


async def test_a_hash_changed_by_others_is_drift(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    admin = {**document()["admin"], "update_password": "always"}
    desired = desired_of(document(admin=admin), database)
    await reconcile(desired, run)
    async with await psycopg.AsyncConnection.connect(database.reveal()) as conn:
        await conn.execute("UPDATE users SET password = 'not a hash'")
    report = await reconcile(desired, run)
    assert [(change.cause, change.fields) for change in report.changes] == [("drift", (report.changes[0].fields[0],))]
    assert report.changes[0].fields[0].shown() == {"field": "password", "sensitive": True}


async def test_renamed_queues_and_admins_keep_their_rows(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    async with await psycopg.AsyncConnection.connect(database.reveal(), autocommit=True) as conn:
        query = "SELECT id FROM users UNION ALL SELECT id FROM queues WHERE name IN ('Sales', 'Vendas') ORDER BY 1"
        before = await (await conn.execute(query)).fetchall()
        renamed = document(
            admin={**document()["admin"], "email": "chefe@empresa.com", "renamed_from": "admin@empresa.com"},
            queues={"items": [{"name": "Vendas", "renamed_from": "Sales"}], "unmanaged": "keep"},
        )
        report = await reconcile(desired_of(renamed, database), run)
        assert [(str(change.key), change.action, change.fields[0].shown()) for change in report.changes] == [
            (
                "admin/chefe@empresa.com",
                "update",
                {"field": "email", "before": "admin@empresa.com", "after": "chefe@empresa.com"},
            ),
            ("queue/Vendas", "update", {"field": "name", "before": "Sales", "after": "Vendas"}),
        ]
        assert await (await conn.execute(query)).fetchall() == before
    assert (await reconcile(desired_of(renamed, database), run)).outcome == "in_sync"


async def test_an_adopted_database_of_the_app_keeps_its_rows(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path)
    async with await psycopg.AsyncConnection.connect(seed_database.reveal(), autocommit=True) as conn:
        query = "SELECT id, email FROM users ORDER BY id"
        before = await (await conn.execute(query)).fetchall()
        (owner,) = await (await conn.execute("SELECT instance_id FROM instance_config")).fetchone() or ("",)
        desired = desired_of(document(instance=owner), seed_database)
        report = await reconcile(desired, run)
        assert report.outcome == "changed", report.error
        after = await (await conn.execute(query)).fetchall()
        assert set(before) <= set(after)
    assert (await reconcile(desired, run)).outcome == "in_sync"


async def test_a_check_repeats_only_another_watchs_with_its_answer(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """From the first cycle on, which finds no table yet."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, check_type="scheduled")
    first = (await reconcile(desired, replace(run, turn=CycleContext(3600)))).turned
    assert first is not None
    assert first.check_id
    own = (await reconcile(desired, replace(run, turn=CycleContext(3600, first.check_id)))).turned
    assert own is not None
    assert own.check_id not in (None, first.check_id)
    repeat = (await reconcile(desired, replace(run, turn=CycleContext(3600)))).turned
    assert repeat is not None
    assert (repeat.check_id, repeat.alerts) == (None, ())
    assert repeat.checked_ago_s is not None

    def suspend(state: EmulatorState) -> EmulatorState:
        return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], status="suspended"))

    StateFile(tmp_path / "connect.json").update(suspend)
    news = (await reconcile(desired, replace(run, turn=CycleContext(3600)))).turned
    assert news is not None
    assert (news.check_id is None, news.alerts) == (False, ("suspended",))


@pytest.mark.parametrize("own", ["the last one", "one before"])
async def test_a_suspension_recorded_by_another_cycle_is_no_news(
    own: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """If Connect's status is not in the row, it is in the log."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, check_type="scheduled")
    desired = replace(desired, suspend=True)
    first = (await reconcile(replace(desired, suspend=False), replace(run, turn=CycleContext(3600)))).turned
    assert first is not None
    state = StateFile(tmp_path / "connect.json")
    state.update(lambda held: held.with_instance(INSTANCE, replace(held.instances[INSTANCE], status="suspended")))
    turn = CycleContext(3600, first.check_id, retry=True, due=False, last_known=first.standing)
    other = (await reconcile(desired, replace(run, turn=turn))).turned
    assert other is not None
    assert (other.check_id is None, other.alerts) == (False, ("suspended",))
    known = replace(turn, own_check=other.check_id, last_known=other.standing) if own == "the last one" else turn
    again = (await reconcile(desired, replace(run, turn=known))).turned
    assert again is not None
    assert (again.check_id, again.alerts) == (None, ())


async def test_a_check_within_the_slot_is_its_turns_own(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Otherwise a cycle before the next slot would take a lost cycle's check for another watch's, and follow it."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, check_type="scheduled")
    lost = (await reconcile(desired, replace(run, turn=CycleContext(3600)))).turned
    assert lost is not None
    for slot_age_s, own in ((600.0, lost.check_id), (0.0, None)):
        turn = CycleContext(3600, "former", slot_age_s=slot_age_s)
        again = (await reconcile(desired, replace(run, turn=turn))).turned
        assert again is not None
        assert (again.check_id, again.checked_ago_s is None) == (own, False)


async def test_a_slots_failed_check_is_recorded_once(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """The cycle that recorded it was lost: its worker was killed before the queue knew."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path, check_type="scheduled")
    well = (await reconcile(desired, replace(run, turn=CycleContext(3600)))).turned
    assert well is not None

    def speak_nonsense(state: EmulatorState) -> EmulatorState:
        return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], status="no such status"))

    StateFile(tmp_path / "connect.json").update(speak_nonsense)
    turn = CycleContext(3600, well.check_id, slot_age_s=600.0)
    lost = (await reconcile(desired, replace(run, turn=turn))).turned
    assert lost is not None
    again = (await reconcile(desired, replace(run, turn=turn))).turned
    assert again is not None
    assert (again.check_id, again.checked_ago_s is None) == (lost.check_id, False)
    next_slot = (await reconcile(desired, replace(run, turn=replace(turn, slot_age_s=0.0)))).turned
    assert next_slot is not None
    assert next_slot.check_id not in (None, lost.check_id)
    async with await psycopg.AsyncConnection.connect(database.reveal()) as conn:
        rows = await (await conn.execute("SELECT success FROM status_check_logs ORDER BY created_at")).fetchall()
    assert rows == [(True,), (False,), (False,)]


@pytest.mark.parametrize(("mine", "ended"), [(False, ("busy", 1)), (None, ("in_sync", 2)), (True, ("in_sync", 2))])
async def test_a_turn_that_is_anothers_by_now_writes_nothing(
    database: Secret, keys: KeyRing, tmp_path: Path, mine: bool | None, ended: tuple[str, int]
) -> None:
    """A worker that was frozen until now; None: its queue can't be reached, and the lock follows Connect all the
    same."""

    async def ask() -> bool | None:
        return mine

    desired, run = desired_of(document(), database), run_of(keys, tmp_path, check_type="scheduled")
    await reconcile(desired, replace(run, turn=CycleContext(3600)))
    report = await reconcile(desired, replace(run, turn=CycleContext(0.0, report_usage=True, mine=ask)))
    async with await psycopg.AsyncConnection.connect(database.reveal()) as conn:
        rows = await (await conn.execute("SELECT id FROM status_check_logs")).fetchall()
    assert (report.outcome, len(rows)) == ended


async def test_a_report_that_a_lost_turn_queued_is_not_queued_again(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Both cycles of one slot owe it, under the same id."""
    desired = desired_of(document(), database, usage_report=True)
    run = run_of(keys, tmp_path, check_type="scheduled")
    await reconcile(desired, replace(run, turn=CycleContext(3600)))
    owed = CycleContext(0.0, report_usage=True, usage_id="5e6f5c1e-7b0a-5c41-9d5c-0d1f6f4f3b11")
    turned = [(await reconcile(desired, replace(run, turn=owed))).turned for _ in range(2)]
    async with await psycopg.AsyncConnection.connect(database.reveal()) as conn:
        rows = await (await conn.execute("SELECT id FROM fivrec.usage_outbox")).fetchall()
    assert [turn is not None and turn.usage_queued for turn in turned] == [True, True]
    assert rows == [(owed.usage_id,)]
