"""Alerts arrive: after kills, from manual commands, about drift; what affects many instances takes only a few posts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.fleets import RunningFleet, running_fleet
from tests.support.harness import INSTANCE, PASSWORD, Fivrec, manifest, rows, run_sql
from tests.support.watching import Receiver, Watching, receiving, until, watching

INSTANCES = int(os.environ.get("FIVREC_TEST_INSTANCES", "12"))
"""200 for the whole claim."""
WAITING = "SELECT alert FROM fivrec.alert_outbox WHERE sent_at IS NULL ORDER BY created_at"


def kill(watch: Watching) -> None:
    watch.process.send_signal(signal.SIGKILL)
    watch.process.wait(60)


def test_an_alert_outlives_kills_while_its_receiver_is_down(fivrec: Fivrec, url: str) -> None:
    with receiving() as receiver:
        receiver.answer = 503
        words = ("--every", "500ms", "--notify-url", receiver.url)
        with watching(fivrec, *words, code=None) as watch:
            until(lambda: watch.of("status_check"))
            fivrec.connect_set("--status", "suspended")
            until(lambda: watch.alerts("suspended"))
            kill(watch)
        with watching(fivrec, *words, code=None) as watch:
            until(lambda: watch.of("status_check"))
            kill(watch)
        assert rows(url, WAITING) == [("suspended",)]
        receiver.answer, receiver.posts[:] = 200, []
        with watching(fivrec, *words) as watch:
            until(lambda: receiver.alerts() == [(INSTANCE, "suspended")])
            until(lambda: rows(url, WAITING) == [])
        with watching(fivrec, *words) as watch:
            until(lambda: len(watch.of("status_check")) >= 3)
    (alert,) = receiver.posts[0]["alerts"]
    assert alert["received"] == {"status": "suspended", "billing_status": "paid"}
    assert {"run_id", "timestamp", "response_time_ms", "level"} <= alert.keys()
    assert len(receiver.posts) == 1


def test_a_transition_that_a_check_by_hand_saw_is_posted_too(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--billing", "overdue")
    assert fivrec.run("check", "client.yaml").code == 6
    assert rows(url, WAITING) == [("overdue",)]
    with receiving() as receiver, watching(fivrec, "--every", "1h", "--notify-url", receiver.url):
        until(lambda: receiver.alerts() == [(INSTANCE, "overdue")])


def test_an_outage_that_only_a_check_by_hand_met_ends_too(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--fail", "404")
    assert fivrec.run("check", "client.yaml").code == 1
    fivrec.connect_set("--fail", "none")
    assert rows(url, WAITING) == [("connect_unreachable",)]
    with receiving() as receiver, watching(fivrec, "--every", "1s", "--notify-url", receiver.url):
        told = [(INSTANCE, "connect_unreachable"), (INSTANCE, "recovered")]
        until(lambda: receiver.alerts() == told)
        until(lambda: rows(url, WAITING) == [])
    assert receiver.alerts() == told


def test_drift_put_back_and_drift_left_are_alerts(fivrec: Fivrec, url: str) -> None:
    drifted = "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'"
    listen = ("--every", "500ms", "--listen", "127.0.0.1:0")
    with watching(fivrec, *listen) as watch:
        until(lambda: watch.of("status_check"))
        run_sql(url, drifted)
        (repaired,) = until(lambda: watch.alerts("drift_repaired"))
        assert repaired["message"] == "🔧 changed by somebody else, and put back: queue/Sales"
    run_sql(url, drifted)
    with watching(fivrec, "--report-only", *listen) as watch:
        (found,) = until(lambda: watch.alerts("drift_found"))
        assert found["message"] == "🔎 changed by somebody else, and left as it is: queue/Sales"
        seen = len(watch.of("status_check"))
        until(lambda: len(watch.of("status_check")) >= seen + 2)
        assert f'fivrec_instance_drift{{instance="{INSTANCE}",kind="queue"}} 1.0' in watch.get("/metrics")[1]
        assert len(watch.alerts("drift_found")) == 1
    assert rows(url, WAITING) == [("drift_repaired",), ("drift_found",)]


@pytest.mark.usefixtures("direct")
def test_a_database_that_was_dropped_and_made_again_is_an_alert(fivrec: Fivrec, url: str, postgres_url: str) -> None:
    """Nothing in the new database shows that there was another before."""
    name = url.rpartition("/")[2].partition("?")[0]
    with watching(fivrec, "--every", "500ms") as watch:
        until(lambda: watch.of("status_check"))
        run_sql(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')
        (said,) = until(lambda: watch.alerts("drift_repaired"))
    again = f"database/{name} (a new, empty one)"
    assert said["message"] == f"🔧 changed by somebody else, and put back: {again}"
    assert ("drift_repaired",) in rows(url, WAITING)  # and recovered, if a cycle was in progress


@pytest.mark.parametrize(
    ("trouble", "words"),
    [("database", "reconciled again (it was "), ("connect", "recovered: Fi.V Connect answers again")],
)
def test_the_end_of_a_trouble_from_before_a_kill_is_alerted(fivrec: Fivrec, url: str, trouble: str, words: str) -> None:
    with receiving() as receiver:
        options = ("--every", "500ms", "--notify-url", receiver.url)
        with watching(fivrec, *options, code=None) as watch:
            until(lambda: watch.of("status_check"))
            if trouble == "connect":
                fivrec.connect_set("--fail", "other-instance")
            else:
                run_sql(url, "ALTER TABLE queues ADD CONSTRAINT no_nights CHECK (name <> 'Night')")
                fivrec.write(manifest(night="plans:|  - {name: Night}\nplans:"), "client.yaml")
            until(lambda: watch.alerts("failing"))
            kill(watch)
        fivrec.connect_set("--fail", "none")
        run_sql(url, "ALTER TABLE queues DROP CONSTRAINT IF EXISTS no_nights")
        with watching(fivrec, *options) as watch:
            (said,) = until(lambda: watch.alerts("recovered"))
            until(lambda: receiver.alerts()[-1:] == [(INSTANCE, "recovered")])
        assert words in said["message"]
        with watching(fivrec, *options) as watch:
            until(lambda: len(watch.of("status_check")) >= 2)
            until(lambda: rows(url, WAITING) == [])  # the first watch may have ended before it marked them
        assert watch.alerts("recovered") == []
        assert "failing" in str(receiver.alerts())


def test_receivers_from_a_file_and_a_variable_all_get_it(fivrec: Fivrec, url: str) -> None:
    fivrec.connect_set("--status", "suspended")
    with receiving() as one, receiving() as other:
        fivrec.write(other.url + "\n", "hook")
        words = ("--notify-url", "env:HOOK", "--notify-url", f"file:{fivrec.folder / 'hook'}")
        with watching(fivrec, "--every", "1h", *words, HOOK=one.url) as watch:
            until(lambda: one.posts and other.posts)
        assert one.alerts() == other.alerts() == [(INSTANCE, "suspended")]
        assert "hook-secret" not in str(watch.events)
    missing = fivrec.run("watch", "client.yaml", "--notify-url", "env:NOWHERE")
    assert (missing.code, "NOWHERE" in missing.stderr) == (78, True)


def test_every_event_of_a_turn_has_its_run_and_the_seeds_fields(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "500ms") as watch:
        until(lambda: len(watch.of("status_check")) >= 2)
        first, second, *_ = watch.of("status_check")
    assert first["run_id"] != second["run_id"]
    assert (first["success"], first["received"]) == (True, {"status": "active", "billing_status": "paid"})
    assert {"timestamp", "level", "operation", "run_id", "instance", "response_time_ms"} <= first.keys()
    assert all({"run_id", "success"} <= event.keys() for event in watch.events if event.get("instance"))


@pytest.mark.slow
def test_a_night_of_troubles_is_12_posts_and_misses_none(
    tmp_path: Path, postgres_url: str, fresh_name: Callable[[], str], record_property: Callable[[str, object], None]
) -> None:
    """At each moment `status --problems` names exactly those that have one. A secret is a file, so it can be
    removed."""
    with running_fleet(tmp_path, postgres_url, fresh_name(), INSTANCES) as fleet, receiving() as receiver:
        words = ("fleet/", "--every", "5s", "--notify-url", receiver.url)
        receiver.answer = 503
        everyone, away, poor = set(fleet.names), fleet.names[: max(INSTANCES // 20, 2)], fleet.names[-1]
        for name in fleet.names:
            fleet.fivrec.write(PASSWORD, f"fleet/{name}")
        declare_with_secrets(fleet)
        with watching(fleet.fivrec, *words, code=None) as watch:
            until(lambda: checked(watch) == everyone, 60 + 3 * INSTANCES)  # waits for their databases to be created
            assert troubled(fleet) == set()
            for name in fleet.names:
                fleet.connect.set(name, fail="500")
            until(lambda: told(watch, "connect_unreachable") == everyone, 30 + INSTANCES)
            kill(watch)
        assert troubled(fleet) == everyone
        with watching(fleet.fivrec, *words, code=None) as watch:
            until(lambda: ended(watch) == everyone, 30 + INSTANCES)
            allow_connections(fleet, away, allowed=False)
            until(lambda: told(watch, "failing") >= set(away), 30 + INSTANCES)
            kill(watch)
        attempts = len(receiver.posts)
        receiver.answer = 200
        (tmp_path / "fleet" / poor).unlink()
        declare_with_secrets(fleet, "no name!")
        assert troubled(fleet, row=f"fleet/clients.csv:{INSTANCES + 2}") == everyone
        with watching(fleet.fivrec, *words, code=None) as watch:
            until(lambda: watch.alerts("manifest_broken"))
            until(lambda: told_to(receiver, attempts, "failing") >= {*away, poor}, 60 + INSTANCES)
            declare_with_secrets(fleet)
            for name in fleet.names:
                fleet.connect.set(name, fail="none")
            until(lambda: told_to(receiver, attempts, "recovered") >= everyone - {*away, poor}, 400 + INSTANCES)
            assert troubled(fleet) == {*away, poor}
            allow_connections(fleet, away, allowed=True)
            (tmp_path / "fleet" / poor).write_text(PASSWORD)
            until(lambda: told_to(receiver, attempts, "recovered") >= everyone, 400 + INSTANCES)
        assert troubled(fleet) == set()
        posts = receiver.posts[attempts:]
        assert fleet.fivrec.run("diff", "fleet/", "-q", timeout=300).code == 0
    assert told_to(receiver, attempts, "connect_unreachable") == everyone
    assert any(alert["alert"] == "manifest_broken" for post in posts for alert in post["alerts"])
    record_property("posts", len(posts))
    assert len(posts) <= 12


def declare_with_secrets(fleet: RunningFleet, *more: str) -> None:
    """Write the fleet with each instance's password in a file of its name."""
    fleet.declare()
    path = fleet.fivrec.folder / "fleet" / "fleet.yaml"
    admin = '  admin: {name: A, email: a@b.example, password: {file: "{{ instance }}"}, bcrypt_cost: 12}\n'
    path.write_text(path.read_text().replace("  queues:", f"{admin}  queues:", 1))
    fleet.fivrec.write("\n".join(["instance", *fleet.names, *more]) + "\n", "fleet/clients.csv")


def troubled(fleet: RunningFleet, row: str = "") -> set[str]:
    """Returns what `status --problems` names; checks that it also explains a broken row."""
    shown = fleet.fivrec.run("status", "fleet/", "--problems", "-o", "json", timeout=300).json
    problems = shown.get("error", {"problems": []})["problems"]
    assert {problem["row"] for problem in problems} == ({row} if row else set())
    return {item["instance"] for item in shown["instances"]}


def checked(watch: Watching) -> set[str]:
    return {event["instance"] for event in watch.of("status_check", success=True)}


def ended(watch: Watching) -> set[str]:
    return {event["instance"] for event in list(watch.events) if event.get("instance")}


def told(watch: Watching, name: str) -> set[str]:
    return {event["instance"] for event in watch.alerts(name) if event.get("instance")}


def told_to(receiver: Receiver, after: int, name: str) -> set[str]:
    alerts = [alert for post in receiver.posts[after:] for alert in post["alerts"]]
    return {alert["instance"] for alert in alerts if alert["alert"] == name and alert.get("instance")}


def allow_connections(fleet: RunningFleet, names: tuple[str, ...], *, allowed: bool) -> None:
    with psycopg.connect(fleet.postgres, autocommit=True) as conn:
        for name in names:
            database = f"{fleet.prefix}_{name}"
            conn.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS {allowed}')  # type: ignore[arg-type]
            if not allowed:
                conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
