"""--log-format json: each instance that did not end well is one event, never two."""

from __future__ import annotations

import json

from tests.support.harness import INSTANCE, Ended, Fivrec, manifest, run_sql

NOWHERE = "https://127.0.0.1:1"


def failures(ended: Ended) -> list[tuple[str, str | None, str]]:
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    return [(event["operation"], event.get("instance"), event["error"]) for event in events if event["error"]]


def test_a_failed_instance_is_one_event_of_the_log(fivrec: Fivrec) -> None:
    log = ("--log-format", "json")
    assert failures(fivrec.apply(*log)) == []
    degraded = fivrec.apply(*log, FIV_APP_API_URL=NOWHERE)
    assert (degraded.code, failures(degraded)) == (5, [("status_check", INSTANCE, "connect_unreachable")])
    compared = fivrec.diff(*log, FIV_APP_API_URL=NOWHERE)
    assert failures(compared) == [("diff", INSTANCE, "connect_unreachable")]
    fivrec.write(manifest(instance="another"))
    refused = fivrec.apply(*log, FIV_APP_API_URL=NOWHERE)
    assert (refused.code, failures(refused)) == (3, [("apply", "another", "wrong_instance")])


def test_a_setup_that_failed_is_one_event(bare: Fivrec) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    words = ("--admin-email", "a@b.test", "--company-name", "C", "--admin-password-env", "PW", "--log-format", "json")
    ended = bare.run("setup", "--database-url", "env:URL", "--instance", "one", *words, URL=url, PW="senha-segura")
    assert (ended.code, failures(ended)) == (1, [("setup", "one", "database_unreachable")])
    assert "hunter2" not in ended.stdout + ended.stderr


FIELDS = {"timestamp", "level", "operation", "run_id", "instance", "message", "success", "received", "error"}


def test_every_event_has_what_every_event_has(fivrec: Fivrec) -> None:
    """For each command, failing ones included: null if there is none."""
    log = ("client.yaml", "--log-format", "json")
    ends = [fivrec.run("apply", *log), fivrec.run("check", *log), fivrec.run("plans", *log, FIV_APP_API_URL=NOWHERE)]
    ends += [fivrec.run("diff", *log, FIV_ADMIN_PASSWORD=""), fivrec.run("status", *log, DATABASE_URL=None)]
    events = [json.loads(line) for ended in ends for line in ended.stderr.splitlines()]
    lacking = [(event["operation"], FIELDS - event.keys()) for event in events if FIELDS - event.keys()]
    untimed = [event["operation"] for event in events if event.keys().isdisjoint({"response_time_ms", "duration_ms"})]
    assert (lacking, untimed) == ([], [])
    assert {event["operation"] for event in events} >= {"apply", "status_check", "plans", "diff", "status"}


def test_an_apply_says_what_it_changed_in_one_event(fivrec: Fivrec, url: str) -> None:
    log = ("--log-format", "json")
    fivrec.apply(*log)
    run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
    events = [json.loads(line) for line in fivrec.apply(*log).stderr.splitlines()]
    (said,) = [event for event in events if event.get("changes")]
    assert (said["operation"], said["instance"], said["message"]) == (
        "apply",
        INSTANCE,
        "🔧 1 changed: queue/Sales update (drift)",
    )
    assert said["received"] == {"status": "active", "billing_status": "paid"}
    assert [event for event in map(json.loads, fivrec.diff(*log).stderr.splitlines()) if event.get("changes")] == []
