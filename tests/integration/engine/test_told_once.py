"""Runs by hand have no turn before them: what they tell is a transition all the same, by what is on record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.connect.emulator.state import EmulatorState, Fault
from reconciler.connect.emulator.state_file import StateFile
from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.keyring import KeyRing
from tests.support.checking import run_sql
from tests.support.engine import INSTANCE, desired_of, document, run_of

STORED = "SELECT alert FROM fivrec.alert_outbox ORDER BY created_at"
DOWN = Fault("404")


class ByHand:
    """An instance that is asked about by hand, and what each run told."""

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


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_an_outage_is_told_once_and_so_is_its_end(
    command: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    assert await it.told(command, fault=DOWN) == ["connect_unreachable"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told(command, fault=Fault()) == ["recovered"]
    assert await it.told("check") == []
    assert await it.told("apply") == []
    assert await it.told(command, fault=DOWN) == ["connect_unreachable"]
    assert await run_sql(database, STORED) == [("connect_unreachable",), ("recovered",), ("connect_unreachable",)]


@pytest.mark.parametrize("command", ["check", "apply"])
async def test_what_suspend_keeps_from_the_row_is_told_once(
    command: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    it.desired = replace(it.desired, suspend=True)
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
async def test_an_outage_is_told_of_a_database_that_lacks_something(
    damage: str, suspend: bool, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    it = ByHand(desired_of(document(), database), keys, tmp_path)
    assert await it.told("apply") == []
    await run_sql(database, damage)
    it.desired = replace(it.desired, suspend=suspend)
    assert await it.told("apply", fault=DOWN) == ["connect_unreachable"]
