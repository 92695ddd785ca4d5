"""The fleet as its users run it: scheduler and workers as separate processes, on a queue in PostgreSQL."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleets import RunningFleet, running_fleet
from tests.support.harness import assert_once_each, run_sql
from tests.support.watching import until

AUDITED = "SELECT kind, name, action FROM fivrec.audit_log WHERE kind = 'queue' ORDER BY seq"
CHECKS = "SELECT check_type, success, created_at FROM status_check_logs ORDER BY created_at"
JOBS = "SELECT args ->> 'instance', status::text FROM procrastinate_jobs ORDER BY 1"
MADE = [("queue", "Sales", "create"), ("queue", "Support", "create")]


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str, fresh_name: Callable[[], str]) -> Iterator[RunningFleet]:
    with running_fleet(tmp_path, postgres_url, fresh_name(), 6) as made:
        yield made


def in_sync(fleet: RunningFleet) -> bool:
    found = fleet.queue_rows("SELECT instance FROM fivrec_fleet.instances WHERE outcome IN ('changed', 'in_sync')")
    return len(found) == len(fleet.names)


def test_an_instance_is_reconciled_once_then_checked_on_schedule(fleet: RunningFleet) -> None:
    fleet.start("schedule", "fleet/", "--every", "3s")
    fleet.start("schedule", "fleet/", "--every", "3s")  # a second one is harmless
    fleet.start("worker", "fleet/", "-f", "3")
    fleet.start("worker", "fleet/", "-f", "3")
    until(lambda: in_sync(fleet), 90)
    until(lambda: all(len(checks) >= 6 for checks in fleet.of_each(CHECKS).values()), 90)
    for checks in fleet.of_each(CHECKS).values():
        kinds = [(kind, success) for kind, success, _ in checks]
        assert (kinds[0], set(kinds[1:])) == (("startup", True), {("scheduled", True)})
        assert_once_each([at for _, _, at in checks[1:]], 3.0)  # despite two schedulers
    assert fleet.of_each(AUDITED) == dict.fromkeys(fleet.names, MADE)
    assert fleet.status()["workers"] == {"alive": 2, "lost": 0}
    well = {"instances": 6, "failing": 0, "never": 0, "overdue": 0}
    until(lambda: fleet.status()["instances"] == well)  # on a busy machine one may be overdue for a moment


def test_once_queues_each_instance_once_without_secrets(fleet: RunningFleet) -> None:
    for _ in range(2):
        ended = fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "--store")
        assert ended.code == 0, ended.stderr
    assert fleet.queue_rows(JOBS) == [(name, "todo") for name in fleet.names]
    everything = str(
        fleet.queue_rows("SELECT to_jsonb(j)::text FROM procrastinate_jobs j")
        + fleet.queue_rows("SELECT to_jsonb(m)::text FROM fivrec_fleet.manifests m")
    )
    secret = [fleet.fivrec.env[name] for name in ("KEY_c000", "FIV_ADMIN_PASSWORD", "FIVREC_ENCRYPTION_KEY")]
    assert [word for word in secret if word in everything] == []
    keys = {tuple(sorted(args)) for (args,) in fleet.queue_rows("SELECT args FROM procrastinate_jobs")}
    assert keys == {("at", "digest", "instance", "stored")}


def test_status_is_not_green_while_nobody_does_what_is_due(fleet: RunningFleet) -> None:
    assert fleet.fivrec.run("fleet", "status").code == 0
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "--every", "1s")
    assert fleet.fivrec.run("fleet", "status").code == 5
    until(lambda: fleet.status()["instances"]["overdue"] == len(fleet.names))
    assert fleet.status()["instances"]["never"] == len(fleet.names)
    fleet.start("worker", "fleet/")
    until(lambda: in_sync(fleet), 90)


def test_a_worker_without_files_works_by_what_was_stored(fleet: RunningFleet) -> None:
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "--store")
    fleet.start("worker")
    until(lambda: in_sync(fleet), 90)
    assert fleet.of_each(AUDITED) == dict.fromkeys(fleet.names, MADE)


def test_a_stored_manifest_that_was_changed_is_refused(fleet: RunningFleet) -> None:
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "--store")
    run_sql(
        fleet.queue,
        "UPDATE fivrec_fleet.manifests SET digest = encode(sha256(replace(document, 'Sales', 'Evil')::bytea), 'hex'), "
        "document = replace(document, 'Sales', 'Evil')",
        "UPDATE procrastinate_jobs j SET args = args || jsonb_build_object('digest', m.digest) "
        "FROM fivrec_fleet.manifests m WHERE m.instance = j.args ->> 'instance'",
    )
    fleet.start("worker")
    until(lambda: len(refused(fleet)) == len(fleet.names), 90)
    assert databases(fleet) == []


def test_a_worker_refuses_jobs_until_its_files_are_the_same(fleet: RunningFleet) -> None:
    fleet.declare("Outra", folder="old")
    fleet.start("worker", "old/")
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once")
    until(lambda: len(refused(fleet)) == len(fleet.names), 90)
    assert databases(fleet) == []
    status = fleet.status()
    assert [(one["instance"], one["error"]) for one in status["failing"]] == [
        (name, "manifest_differs") for name in fleet.names
    ]
    fleet.declare(folder="old")
    fleet.start("schedule", "fleet/")
    until(lambda: in_sync(fleet), 90)
    assert fleet.status()["failing"] == []


def test_sigterm_gives_the_jobs_under_way_to_another_worker(fleet: RunningFleet) -> None:
    fleet.connect.set(fleet.names[0], delay_s=60)
    first = fleet.start("worker", "fleet/")
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "-l", fleet.names[0])
    until(lambda: fleet.queue_rows(JOBS) == [(fleet.names[0], "doing")])
    begun = time.monotonic()
    assert first.stop(signal.SIGTERM) == 143
    assert time.monotonic() - begun < 10
    assert fleet.queue_rows(JOBS) == [(fleet.names[0], "todo")]
    assert fleet.queue_rows("SELECT count(*) FROM procrastinate_workers") == [(0,)]
    assert first.other == []


@pytest.mark.slow
def test_jobs_of_a_killed_worker_are_done_within_a_minute(fleet: RunningFleet) -> None:
    name = fleet.names[0]
    fleet.connect.set(name, delay_s=60)
    first = fleet.start("worker", "fleet/")
    fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "-l", name)
    until(lambda: fleet.queue_rows(JOBS) == [(name, "doing")])
    first.process.kill()
    killed = time.monotonic()
    fleet.connect.set(name, delay_s=0)
    fleet.start("worker", "fleet/")
    until(lambda: fleet.queue_rows(JOBS) == [], 60)
    assert time.monotonic() - killed < 60
    ended = fleet.queue_rows(f"SELECT outcome FROM fivrec_fleet.instances WHERE instance = '{name}'")
    assert ended == [("changed",)]


def test_apply_rolls_out_across_workers_in_one_report(fleet: RunningFleet) -> None:
    for _ in range(2):
        fleet.start("worker", "fleet/", "-f", "2")
    ended = fleet.fivrec.run("fleet", "apply", "fleet/", "--wait", "--canary", "1", "-o", "json")
    assert (ended.code, ended.json["command"]) == (0, "fleet apply"), ended.stderr
    outcomes = [(one["instance"], one["outcome"]) for one in ended.json["instances"]]
    assert outcomes == [(name, "changed") for name in fleet.names]
    kinds = [(one["kind"], one["name"], one["action"]) for one in ended.json["instances"][0]["changes"]]
    assert ("queue", "Sales", "create") in kinds
    here = fleet.fivrec.run("diff", "fleet/", "-o", "json")
    assert here.code == 0
    again = fleet.fivrec.run("fleet", "apply", "fleet/")
    assert re.search(r"c000 : ok=\d+ +changed=0 ", again.stdout), again.stdout
    assert fleet.queue_rows("SELECT count(*) FROM fivrec_fleet.results") == [(0,)]


def test_a_failing_canary_stops_the_rollout(fleet: RunningFleet) -> None:
    fleet.start("worker", "fleet/")
    fleet.connect.set(fleet.names[0], fail="500")
    ended = fleet.fivrec.run("fleet", "apply", "fleet/", "--canary", "1", "-o", "json")
    assert ended.code == 5
    outcomes = [one["outcome"] for one in ended.json["instances"]]
    assert outcomes == ["degraded", *["skipped"] * 5]
    assert databases(fleet) == [fleet.names[0]]


def test_a_rollout_without_workers_takes_its_jobs_back(fleet: RunningFleet) -> None:
    ended = fleet.fivrec.run("fleet", "apply", "fleet/", "--timeout", "3s", "-o", "json")
    assert ended.code == 1
    errors = {one["error"]["message"] for one in ended.json["instances"]}
    assert errors == {"no worker took it up; it was taken back (3 s)"}
    assert fleet.queue_rows(JOBS) == []


@pytest.mark.slow
def test_failures_are_tried_again_by_the_backoff_and_shown(fleet: RunningFleet) -> None:
    name = fleet.names[0]
    fleet.connect.set(name, fail="500")
    scheduler = fleet.start("schedule", "fleet/", "-l", name, "--listen", "127.0.0.1:0")
    worker = fleet.start("worker", "fleet/", "--listen", "127.0.0.1:0")
    until(lambda: failures(fleet) >= 2, 90)
    assert [(one["instance"], one["outcome"]) for one in fleet.status()["failing"]] == [(name, "degraded")]
    until(lambda: scheduler.metric("fivrec_fleet_failing") == 1, 90)
    assert scheduler.metric("fivrec_fleet_workers") == 1
    assert worker.metric("fivrec_runs_total") >= 2
    assert worker.get("/healthz")[0] == worker.get("/readyz")[0] == 200
    fleet.connect.set(name, fail="")
    until(lambda: failures(fleet) == 0, 90)
    assert len(worker.alerts("connect_unreachable")) == 1


def test_without_its_database_the_queue_says_what_to_do(fleet: RunningFleet) -> None:
    missing = f"{fleet.queue}_missing"
    for words in (("status",), ("apply", "fleet/")):
        ended = fleet.fivrec.run("fleet", *words, "--queue-url", missing, "-o", "json")
        error = json.loads(ended.stdout)["error"]
        assert (ended.code, error["code"]) == (1, "database_missing")
        assert error["hint"] == 'run "fivrec fleet init" first'
    ended = fleet.fivrec.run("fleet", "schedule", "fleet/", "--once", "--queue-url", missing)
    assert (ended.code, 'run "fivrec fleet init" first' in ended.stderr) == (1, True)


def test_without_its_tables_the_queue_says_what_to_do(fleet: RunningFleet) -> None:
    run_sql(fleet.queue, "DROP SCHEMA fivrec_fleet CASCADE")
    ended = fleet.fivrec.run("fleet", "status", "-o", "json")
    assert ended.code == 1
    assert json.loads(ended.stdout)["error"]["hint"] == 'run "fivrec fleet init" first'
    ended = fleet.fivrec.run("fleet", "worker", "fleet/")
    assert (ended.code, 'run "fivrec fleet init" first' in ended.stderr) == (1, True)
    assert fleet.fivrec.run("fleet", "init").code == 0
    assert fleet.status()["instances"]["instances"] == 0


def refused(fleet: RunningFleet) -> list[tuple[Any, ...]]:
    return fleet.queue_rows("SELECT instance FROM fivrec_fleet.instances WHERE error = 'manifest_differs'")


def databases(fleet: RunningFleet) -> list[str]:
    """Returns the instances whose databases were created."""
    query = f"SELECT datname FROM pg_database WHERE starts_with(datname, '{fleet.prefix}_c') ORDER BY 1"
    return [name.removeprefix(f"{fleet.prefix}_") for (name,) in fleet.queue_rows(query)]


def failures(fleet: RunningFleet) -> int:
    ((count,),) = fleet.queue_rows("SELECT sum(failures) FROM fivrec_fleet.instances") or [(0,)]
    return int(count or 0)
