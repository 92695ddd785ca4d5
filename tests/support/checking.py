"""What Connect says of the instance, and one check of it by each command that makes one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from reconciler.connect.emulator.state import EmulatorState
from reconciler.connect.emulator.state_file import StateFile
from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import CycleContext, Run
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.web import operations
from tests.support.engine import INSTANCE, desired_of, document

COMMANDS = ("apply", "check", "watch", "watch --check-only")
REFUSE = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
"""


async def run_sql(url: Secret, text: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        cursor = await conn.execute(text.encode())
        return await cursor.fetchall() if cursor.description else []


def connect_says(folder: Path, status: str) -> None:
    def say(state: EmulatorState) -> EmulatorState:
        return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], status=status))

    StateFile(folder / "connect.json").update(say)


async def check_as(command: str, url: Secret, run: Run) -> InstanceReport:
    """One check by this command."""
    desired = desired_of(document(), url, usage_report=True)
    turn = CycleContext(0.0, report_usage=True)
    match command:
        case "apply":
            return await reconcile(desired, run)
        case "check":
            return await operations.check_now(desired, replace(run, command="check"))
        case "watch":
            return await reconcile(desired, replace(run, command="watch", check_type="scheduled", turn=turn))
        case _:
            bare = replace(desired, managed={}, plans_from_connect=False)
            return await reconcile(bare, replace(run, check_type="scheduled", check_only=True, turn=turn))
