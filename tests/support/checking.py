"""What Connect says about the instance, and one check of it by each command that makes checks."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.connect.emulator.state import EmulatorState
from reconciler.connect.emulator.state_file import StateFile
from reconciler.engine.reconcile import reconcile
from reconciler.engine.run import CycleContext, Run
from reconciler.manifest.loader import Manifest
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.watch.cycle import Cycle
from reconciler.web import operations
from reconciler.workers.job_queue import Job
from reconciler.workers.worker import FleetClock, FleetWorker
from tests.support.engine import INSTANCE, desired_of, document

COMMANDS = ("apply", "check", "watch", "watch --check-only", "watch --report-only", "fleet worker")
REFUSE = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
"""


def connect_says(folder: Path, status: str) -> None:
    def say(state: EmulatorState) -> EmulatorState:
        return state.with_instance(INSTANCE, replace(state.instances[INSTANCE], status=status))

    StateFile(folder / "connect.json").update(say)


async def check_as(command: str, url: Secret, run: Run) -> InstanceReport | None:
    """Make one check by this command. Returns its report, or None for a worker, which reports only to its queue."""
    desired = desired_of(document(), url, usage_report=True)
    turn = CycleContext(0.0, report_usage=True)
    match command:
        case "apply":
            return await reconcile(desired, run)
        case "check":
            return await operations.check_now(desired, replace(run, command="check"))
        case "watch":
            return await reconcile(desired, replace(run, command="watch", check_type="scheduled", turn=turn))
        case "watch --report-only":
            return await reconcile(desired, replace(run, check_type="scheduled", report_only=True, turn=turn))
        case "fleet worker":
            await _worker_of(desired, replace(run, command="fleet worker")).turn(JOB)
            return None
        case _:
            bare = replace(desired, managed={}, plans_from_connect=False)
            return await reconcile(bare, replace(run, check_type="scheduled", check_only=True, turn=turn))


JOB = Job(1, INSTANCE, "digest", stored=False)


def _worker_of(desired: Desired, run: Run) -> FleetWorker:
    """Returns a worker whose queue holds one job: the instance's first cycle."""

    async def resolve(_: Manifest) -> Desired:
        return desired

    clock = FleetClock()
    return FleetWorker(OneJob(), OneManifest(desired), Cycle(resolve, run, clock=clock), clock, 1)  # type: ignore[arg-type]


class OneJob:
    async def rows(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        now = time.time()
        row = dict.fromkeys(("own_check", "trouble", "standing", "drift", "fights", "place"))
        times = {"interval_s": 60.0, "slot": now, "now": now, "failures": 0, "heard": False, "usage_due": False}
        return [{**row, **times, "digest": JOB.digest, "scheduled": True, "mine": True}]

    async def run(self, *_: Any, **__: Any) -> None:
        return


@dataclass(frozen=True)
class OneManifest:
    desired: Desired

    async def find(self, *_: Any) -> Manifest:
        document = {"environment": {"name": self.desired.environment.name}}
        return Manifest(self.desired.instance, {}, document, self.desired.origin, Path())
