"""Metrics of `fleet schedule` for Prometheus: the state of the queue, and its instances. A worker shows only its own
turns (watch/metrics.py): for an instance that moves between workers, each would show a different past."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reconciler.planning.flapping import Flapping
from reconciler.watch.metrics import QUEUE_SILENCE, InstanceFacts
from reconciler.workers.common import build_problems

GAUGES = {
    "waiting": ("fivrec_queue_depth", "Instances that are due and wait."),
    "running": ("fivrec_running", "Instances that have their turn now."),
    "oldest_s": ("fivrec_queue_oldest_seconds", "Seconds since the job that waits longest was queued."),
    "alive": ("fivrec_fleet_workers", "Workers with a heartbeat."),
    "instances": ("fivrec_instances", "Instances scheduled."),
    "failing": ("fivrec_fleet_failing", "Instances whose last turn failed."),
    "silence_s": QUEUE_SILENCE,
    "overdue": ("fivrec_fleet_overdue", "Instances without a good turn for two intervals."),
}


def build_row_facts(row: Mapping[str, Any], since_s: float) -> InstanceFacts:
    """An instance from its row, which was read `since_s` ago."""
    ages = {key: None if row[key] is None else row[key] + since_s for key in ("last_success_age_s", "last_run_age_s")}
    known = json.loads(row["standing"]) if row["standing"] else {}
    found = json.loads(row["drift"]) if row["drift"] else {}
    return InstanceFacts(
        instance=row["instance"],
        locked=known.get("locked"),
        failures=row["failures"],
        fights=len(Flapping.remembered(json.loads(row["fights"])).held) if row["fights"] else 0,
        status=known.get("status"),
        billing_status=known.get("billing_status"),
        drift=found.get("left", {}),
        database_problems=build_problems(found),
        **ages,
    )
