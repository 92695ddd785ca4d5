"""Manual runs have no cycle before them: their alerts are transitions all the same, based on what is on record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.connect.emulator.state import EmulatorState, Fault
from reconciler.connect.emulator.state_file import StateFile
from reconciler.engine.alerts import read_stored
from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import CycleContext
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Ignore
from reconciler.planning.status_check import KnownStatus
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import INSTANCE, desired_of, document, run_of

STORED = "SELECT alert FROM fivrec.alert_outbox ORDER BY created_at"
AHEAD = """
INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received, created_at)
SELECT id, 'scheduled', true, 'active', now() + interval '3 hours' FROM instance_config
"""
FAILURES = "SELECT count(*) FROM fivrec.audit_log WHERE (kind, name) = ('run', 'failed')"
NO_NIGHTS = "ALTER TABLE queues ADD CONSTRAINT no_nights CHECK (name <> 'Night')"
DOWN, ANOTHERS = Fault("404"), Fault("other-instance")


class ByHand:
    """An instance that is checked by manual runs, and the alerts of each."""

    def __init__(self, desired: Desired, keys: KeyRing, folder: Path) -> None:
        self.desired, self.keys, self.folder, self.number = desired, keys, folder, 0

    async def told(self, command: str, **said: Any) -> list[str]:
        def say(state: EmulatorState) -> EmulatorState:
            return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], **said))

        if said:
            StateFile(self.folder / "connect.json").update(say)
        self.number += 1
        run = run_of(self.keys, self.folder, self.number)
        alerts: list[str] = []
        run.log.listeners.append(lambda event: alerts.append(event["alert"]) if "alert" in event else None)
        if command == "check":
            bare = replace(self.desired, managed={}, plans_from_connect=False)
            await reconcile(bare, replace(run, command="check", check_only=True))
        else:
            await reconcile(self.desired, run)
        return alerts


@pytest.mark.parametrize("fault", [DOWN, ANOTHERS], ids=["down", "another's"])
@pytest.mark.parametrize("command", ["check", "apply"])
async def test_an_outage_and_its_end_are_alerted_once(
    command: str, fault: Fault, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """An answer about another instance fails the run, and counts as no answer for this one."""
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.told(command, fault=fault) == ["connect_unreachable"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told(command, fault=Fault()) == ["recovered"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told(command, fault=fault) == ["connect_unreachable"]
    assert await run_sql(database, STORED) == [("connect_unreachable",), ("recovered",), ("connect_unreachable",)]


@pytest.mark.parametrize("ahead", [False, True])
async def test_an_outage_in_a_failing_run_is_alerted_once(
    ahead: bool, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    await run_sql(database, NO_NIGHTS)
    if ahead:  # the app's clock is three hours ahead
        await run_sql(database, AHEAD)
    whole = it.desired
    queues = {"items": [{"name": "Night"}], "unmanaged": "keep"}
    it.desired = desired_of(document(queues=queues), database)
    assert await it.told("apply", fault=DOWN) == ["connect_unreachable"]
    assert await it.told("apply") == []
    assert await it.told("apply", fault=Fault()) == ["recovered"]
    assert await it.told("apply") == []
    it.desired = whole
    assert await it.told("apply") == []


@pytest.mark.parametrize("withheld", [{"suspend": True}, {"ignore": (Ignore("status/*", "a campaign"),)}])
@pytest.mark.parametrize("command", ["check", "apply"])
async def test_a_status_withheld_from_the_row_is_alerted_once(
    command: str, withheld: dict[str, Any], database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    it.desired = replace(it.desired, **withheld)
    assert await it.told(command, billing_status="overdue") == ["overdue"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told(command, status="suspended") == ["suspended"]
    assert await it.told(command) == []
    assert await it.told(command, status="active", billing_status="paid") == ["recovered"]
    assert await it.told(command) == []
    assert await it.told(command, billing_status="overdue") == ["overdue"]
    assert await run_sql(database, "SELECT status, billing_status FROM instance_config") == [("active", "paid")]


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        "DROP SCHEMA fivrec CASCADE; DROP TABLE status_check_logs",
        "DROP TABLE fivrec.alert_outbox; DELETE FROM fivrec.migrations WHERE version > 10",
        "ALTER TABLE queues DROP COLUMN description",
    ],
)
async def test_an_outage_is_alerted_for_a_database_that_lacks_something(
    damage: str, suspend: bool, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    await run_sql(database, damage)
    it.desired = replace(it.desired, suspend=suspend)
    assert await it.told("apply", fault=DOWN) == ["connect_unreachable"]


APP = (
    "UPDATE instance_config SET status = {0}, billing_status = {1}, is_locked = {0} = 'suspended'; "
    "INSERT INTO status_check_logs (instance_config_id, check_type, success, status_received) "
    "SELECT id, 'scheduled', true, {0} FROM instance_config"
)


class Watched(ByHand):
    """The same by the cycles of a watch, each of which knows the previous one's status."""

    def __init__(self, desired: Desired, keys: KeyRing, folder: Path) -> None:
        super().__init__(desired, keys, folder)
        self.last_known: KnownStatus | None = None
        self.own: str | None = None
        self.trouble: str | None = None
        self.retry = False

    async def turn(self, **said: Any) -> list[str]:
        def say(state: EmulatorState) -> EmulatorState:
            return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], **said))

        StateFile(self.folder / "connect.json").update(say)
        self.number += 1
        known = {"own_check": self.own, "last_known": self.last_known, "recorded": self.trouble}
        turn = CycleContext(3000.0, due=not self.retry, retry=self.retry, **known)
        run = run_of(self.keys, self.folder, self.number, check_type="scheduled", turn=turn)
        report = await reconcile(self.desired, run)
        assert report.turned is not None
        self.last_known, self.own = report.turned.standing, report.turned.check_id or self.own
        self.trouble = report.error.code if report.error and report.outcome == "failed" else None
        return list(report.turned.alerts)


async def test_a_change_found_first_by_the_apps_own_check_is_alerted(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """The app has a status check service too, which writes Connect's status into its row."""
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn() == []
    for status, billing, told in (
        ("suspended", "paid", ["suspended"]),
        ("suspended", "overdue", ["overdue"]),
        ("active", "paid", ["recovered"]),
        ("active", "overdue", ["overdue"]),
        ("active", "paid", ["recovered"]),
        ("pending_payment", "paid", ["payment_pending"]),
        ("suspended", "paid", ["suspended"]),
    ):
        await run_sql(database, APP.format(f"'{status}'", f"'{billing}'"))
        assert await it.turn(status=status, billing_status=billing) == told
        assert await it.turn() == []


async def test_an_alert_of_another_watch_is_not_repeated(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    one = Watched(desired_of(document(), database), keys, tmp_path)
    assert await one.told("apply") == []
    other = Watched(one.desired, keys, tmp_path)
    other.number = 100
    for status, billing, told in (
        ("active", "paid", []),
        ("suspended", "overdue", ["suspended", "overdue"]),
        ("active", "paid", ["recovered"]),
        ("active", "overdue", ["overdue"]),
        ("active", "paid", ["recovered"]),
        ("pending_payment", "paid", ["payment_pending"]),
        ("active", "paid", ["recovered"]),
    ):
        assert await one.turn(status=status, billing_status=billing) == told
        assert await other.turn() == []


async def test_what_a_run_by_hand_alerted_first_a_watch_does_not_repeat(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn() == []
    assert await it.told("check", fault=DOWN) == ["connect_unreachable"]
    assert await it.turn() == []
    assert await it.told("check", fault=Fault()) == ["recovered"]
    assert await it.turn() == []
    assert await it.turn(fault=DOWN) == ["connect_unreachable"]
    assert await it.told("check") == []
    assert await it.turn() == []
    assert await it.told("check", fault=Fault()) == ["recovered"]
    assert await it.told("check", fault=DOWN) == ["connect_unreachable"]
    assert await it.turn(fault=Fault()) == ["recovered"]
    assert await it.told("check", fault=DOWN) == ["connect_unreachable"]
    assert await it.told("check", fault=Fault()) == ["recovered"]
    assert await it.turn(fault=DOWN) == ["connect_unreachable"]
    assert [name for (name,) in await run_sql(database, STORED)] == ["connect_unreachable", "recovered"] * 4 + [
        "connect_unreachable"
    ]


async def test_nor_an_answer_about_another_instance(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn() == []
    assert await it.told("check", fault=ANOTHERS) == ["connect_unreachable"]
    assert await it.turn() == []  # why the turn itself failed is alerted by the watch
    assert await it.turn(fault=Fault()) == ["recovered"]


async def test_alerts_of_runs_by_hand_are_delivered_with_the_oldest(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """An hourly watch would post the suspension now, and an hour later that it was over in a minute."""
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.told("check", status="suspended") == ["suspended"]
    assert await it.told("check", status="active") == ["recovered"]
    run = run_of(keys, tmp_path, 9)
    assert await read_stored(it.desired, run, young=False) == ((), None)
    await run_sql(
        database, "UPDATE fivrec.alert_outbox SET created_at = now() - interval '1 minute' WHERE alert = 'suspended'"
    )
    waiting, _ = await read_stored(it.desired, run, young=False)
    assert [alert["alert"] for alert in waiting] == ["suspended", "recovered"]


async def test_a_watch_whose_turns_fail_besides_tells_an_outage_once(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn() == []
    await run_sql(database, NO_NIGHTS)
    it.desired = desired_of(document(queues={"items": [{"name": "Night"}], "unmanaged": "keep"}), database)
    told = [await it.turn(fault=DOWN), await it.turn(), await it.turn(fault=Fault()), await it.turn()]
    assert told == [["connect_unreachable"], [], ["recovered"], []]
    assert await run_sql(database, FAILURES) == [(1,)]  # one trouble is one entry


REWRITE = """
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.description := 'X'; RETURN NEW; END$$;
CREATE TRIGGER shout BEFORE INSERT ON queues FOR EACH ROW EXECUTE FUNCTION shout()
"""
SWALLOW = """
CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER swallow BEFORE INSERT ON status_check_logs FOR EACH ROW EXECUTE FUNCTION gone()
"""


@pytest.mark.parametrize(("trouble", "checks"), [(REWRITE, 1), (SWALLOW, 0)], ids=["queues", "checks"])
async def test_a_run_without_convergence_leaves_its_entry_and_failed_check(
    trouble: str, checks: int, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Each alone: a trigger on the check may be the cause."""
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    await run_sql(database, trouble)
    it.desired = desired_of(document(queues={"items": [{"name": "Night"}], "unmanaged": "keep"}), database)
    assert await it.told("apply", fault=DOWN) == ["connect_unreachable"]
    assert await run_sql(database, FAILURES) == [(1,)]
    assert await run_sql(database, "SELECT count(*) FROM status_check_logs WHERE NOT success") == [(checks,)]


async def test_a_row_changed_by_hand_is_no_transition(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Connect's answer is unchanged: somebody unlocking the instance, or suspending it in the row, is drift."""
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn(status="suspended") == ["suspended"]
    await run_sql(database, "UPDATE instance_config SET status = 'active', is_locked = false")
    assert await it.turn() == ["drift_repaired"]
    assert await run_sql(database, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
    assert await it.turn(status="active") == ["recovered"]
    await run_sql(database, "UPDATE instance_config SET status = 'suspended', billing_status = 'overdue'")
    assert await it.turn() == ["drift_repaired"]
    assert await it.turn() == []


RECORDED = (
    "SELECT success FROM status_check_logs WHERE check_type = 'scheduled' AND created_at <= now() ORDER BY created_at"
)


async def test_a_check_from_the_future_is_no_memory_of_runs_by_hand(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """The database's clock was three hours ahead, or the app writes its local time."""
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    await run_sql(database, AHEAD)
    assert await it.told("check", fault=DOWN) == ["connect_unreachable"]
    assert await it.told("check") == []
    assert await it.told("check", fault=Fault()) == ["recovered"]


async def test_nor_of_a_watch_whose_retries_record_nothing_twice(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = Watched(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.turn() == []
    await run_sql(database, AHEAD)
    told = [await it.turn(fault=DOWN)]
    it.retry = True
    told += [await it.turn(), await it.turn(), await it.turn(fault=Fault()), await it.turn()]
    assert told == [["connect_unreachable"], [], [], ["recovered"], []]
    assert [row[0] for row in await run_sql(database, RECORDED)] == [True, False, True]
