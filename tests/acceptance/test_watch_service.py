"""How a watch fits its surroundings: health, metrics, alerts, systemd, retention, usage, addresses that change."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from reconciler.connect.emulator.state_file import StateFile
from tests.support.fault_proxy import running_proxy
from tests.support.harness import INSTANCE, Fivrec, manifest, rows, run_sql
from tests.support.watching import receiving, until, watching

CUTS = int(os.environ.get("FIVREC_TEST_CUTS", "8"))
"""100 for the whole claim."""
MOVES = int(os.environ.get("FIVREC_TEST_MOVES", "3"))
"""20 for the whole claim."""


def test_health_is_about_the_loop_and_not_about_its_work(fivrec: Fivrec, url: str) -> None:
    """A Connect that does not answer is a matter for alerts: restarting the watch would not help."""
    with watching(fivrec, "--every", "1s", "--listen", "127.0.0.1:0") as watch:
        until(lambda: watch.get("/readyz") == (200, "ok\n"))
        assert watch.get("/healthz") == (200, "ok\n")
        assert watch.get("/nothing")[0] == 404
        fivrec.connect_set("--delay", "8s")
        time.sleep(5)  # more than 3 intervals in which no cycle ends
        assert (watch.get("/healthz"), watch.get("/readyz")) == ((200, "ok\n"), (200, "ok\n"))
        fivrec.connect_set("--delay", "0s")


def test_a_folder_that_is_gone_is_reported_and_watched_on(fivrec: Fivrec, url: str) -> None:
    folder, away = fivrec.folder / "fleet", fivrec.folder / "away"
    folder.mkdir()
    fivrec.write(manifest(), "fleet/client.yaml")
    with watching(fivrec, "fleet/", "--every", "1s", "--listen", "127.0.0.1:0") as watch:
        until(lambda: watch.of("status_check", instance=INSTANCE))
        folder.rename(away)
        (broken,) = until(lambda: watch.alerts("manifest_broken"))
        assert "fleet/: cannot be read: no such file or directory" in broken["message"]
        assert watch.metric("fivrec_manifest_broken") == 1
        seen = len(watch.of("status_check", instance=INSTANCE))
        until(lambda: len(watch.of("status_check", instance=INSTANCE)) >= seen + 2)
        away.rename(folder)
        until(lambda: watch.alerts("recovered"))
        assert watch.metric("fivrec_manifest_broken") == 0
    assert "no longer watched" not in str(watch.events)


def test_metrics_tell_what_happened_with_bounded_labels(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "500ms", "--listen", "127.0.0.1:0") as watch:
        until(lambda: watch.metric("fivrec_checks_total") >= 2)
        until(lambda: watch.metric("fivrec_instance_database_problem") == 1)
        run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
        until(lambda: watch.metric("fivrec_drift_total") == 1)
        fivrec.connect_set("--status", "suspended")
        until(lambda: watch.metric("fivrec_locked") == 1)
        fivrec.connect_set("--fail", "500")
        until(lambda: 'fivrec_checks_total{result="failure",type="scheduled"}' in watch.get("/metrics")[1])
        page = watch.get("/metrics")[1]
    assert page.count("fivrec_connect_response_seconds_bucket") > 5
    assert 'fivrec_runs_total{outcome="changed"} ' in page
    assert 'fivrec_changes_total{action="update",cause="drift",kind="queue"} 1.0' in page
    assert 'fivrec_alerts_total{alert="suspended"} 1.0' in page
    assert "fivrec_queue_depth " in page
    assert f'fivrec_last_success_age_seconds{{instance="{INSTANCE}"}} ' in page
    names = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    assert all(name.startswith("fivrec_") for name in names), names
    labels = set(re.findall(r'(\w+)="', page))
    bounded = {
        "outcome",
        "kind",
        "action",
        "cause",
        "type",
        "result",
        "alert",
        "le",
        "status",
        "billing_status",
        "problem",
    }
    assert labels <= bounded | {"instance", "version", "python"}
    assert f'fivrec_instance_status{{instance="{INSTANCE}",status="suspended"}} 1.0' in page
    assert f'fivrec_instance_status{{instance="{INSTANCE}",status="active"}} 0.0' in page
    assert f'fivrec_instance_billing{{billing_status="paid",instance="{INSTANCE}"}} 1.0' in page
    assert f'fivrec_instance_drift{{instance="{INSTANCE}",kind="queue"}} 0.0' in page
    assert f'fivrec_last_run_age_seconds{{instance="{INSTANCE}"}} ' in page
    assert 'fivrec_alerts_total{alert="drift_repaired"} 1.0' in page
    assert "fivrec_alerts_waiting 0.0" in page
    problems = re.findall(r'fivrec_instance_database_problem{.*problem="(\w+)"} (.)', page)
    assert problems == [("unlisted", "1"), ("status", "0"), ("backup", "0")]
    assert 'fivrec_build_info{python="' in page


def test_alerts_go_to_log_and_receiver_on_transitions_only(fivrec: Fivrec, url: str) -> None:
    with receiving() as receiver, watching(fivrec, "--every", "500ms", "--notify-url", receiver.url) as watch:
        until(lambda: len(watch.of("status_check")) >= 2)
        steps = (
            (("--status", "suspended"), "suspended"),
            (("--status", "pending_payment"), "payment_pending"),
            (("--status", "active", "--billing", "overdue"), "overdue"),
            (("--fail", "500"), "connect_unreachable"),
            (("--reset",), "recovered"),
        )
        for words, alert in steps:
            fivrec.connect_set(*words)
            until(lambda alert=alert: watch.alerts(alert), what=alert)
            time.sleep(0.8)
        until(lambda: (INSTANCE, "recovered") in receiver.alerts())
        checks = watch.of("status_check", success=False)
    assert receiver.alerts() == [(INSTANCE, alert) for _, alert in steps]
    assert (len(checks), checks[0]["error"]) == (1, "connect_http_error")
    first = receiver.posts[0]["text"].splitlines()[0]  # what comes within a second goes into one post
    assert first == f"{INSTANCE}: ⚠️ instance suspended: access is locked"
    assert "hook-secret" not in str(watch.events)


def test_a_failing_receiver_neither_blocks_nor_floods(fivrec: Fivrec, url: str) -> None:
    with receiving() as receiver, watching(fivrec, "--every", "300ms", "--notify-url", receiver.url) as watch:
        receiver.answer, receiver.delay_s = 500, 1.0
        until(lambda: watch.of("status_check"))
        for status, alert in (("suspended", "suspended"), ("active", "recovered")):
            fivrec.connect_set("--status", status)
            until(lambda alert=alert: watch.alerts(alert), what=alert)
        until(lambda: watch.of("notify"))
        seen = len(watch.of("status_check"))
        until(lambda: len(watch.of("status_check")) >= seen + 3)
        posts = len(receiver.posts)
        receiver.answer, receiver.delay_s = 200, 0.0
        until(lambda: len(receiver.posts) > posts, 40)
        time.sleep(0.5)
        assert len(watch.of("notify")) == 1
    assert posts <= 6
    assert receiver.posts[-1]["alerts"][-1]["alert"] == "recovered"
    assert [alert["alert"] for alert in receiver.posts[-1]["alerts"]] == ["suspended", "recovered"]


def test_a_suspended_manifest_alerts_once_and_claims_no_lock(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(manifest(INSTANCE) + "suspend: true\n", "client.yaml")
    fivrec.connect_set("--status", "suspended", "--billing", "overdue")
    with watching(fivrec, "--every", "300ms", "--listen", "127.0.0.1:0") as watch:
        until(lambda: len(watch.of("status_check")) >= 4)
        assert watch.metric("fivrec_locked") == 0
        (said,) = watch.alerts("suspended")
        assert said["message"].endswith("access is not locked (suspend: true)")
        fivrec.connect_set("--reset")
        (said,) = until(lambda: watch.alerts("recovered"))
        assert said["message"].endswith("recovered: active, paid")
        seen = len(watch.of("status_check"))
        until(lambda: len(watch.of("status_check")) >= seen + 2)
        assert len(watch.alerts("recovered")) == 1
    assert rows(url, "SELECT status, is_locked FROM instance_config") == [("active", False)]


def test_checks_lock_and_alert_even_if_reconcile_is_refused(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(
        manifest().partition("queues:")[0] + "queues: {unmanaged: remove, items: [{name: Sales}]}\n", "client.yaml"
    )
    run_sql(url, "INSERT INTO queues (name) VALUES ('Theirs'), ('Night')")  # only what fivrec created may go unasked
    before = rows(url, "SELECT count(*) FROM status_check_logs")[0][0]
    with watching(fivrec, "--every", "1s") as watch:
        (guard,) = until(lambda: watch.alerts("failing"))
        assert guard["error"] == "guard"
        until(lambda: len(watch.of("status_check")) >= 2)
        fivrec.connect_set("--status", "suspended")
        until(lambda: watch.alerts("suspended"))
        assert rows(url, "SELECT status, is_locked FROM instance_config") == [("suspended", True)]
        fivrec.connect_set("--status", "active")
        until(lambda: watch.alerts("recovered"))
        assert rows(url, "SELECT status, is_locked FROM instance_config") == [("active", False)]
    logged = rows(url, "SELECT count(*) FROM status_check_logs")[0][0] - before
    assert 0 <= logged - len(watch.of("status_check")) <= 1  # one may be stopped between its commit and its event
    assert rows(url, "SELECT count(*) FROM queues") == [(4,)]
    refused = rows(url, "SELECT count(*) FROM fivrec.audit_log WHERE kind = 'run'")
    assert refused == [(1,)]


@pytest.mark.parametrize(("fail", "alert"), [("500", "connect_unreachable"), ("other-instance", "failing")])
def test_connects_recovery_is_logged_once_despite_other_trouble(
    fivrec: Fivrec, url: str, fail: str, alert: str
) -> None:
    fivrec.connect_set("--billing", "overdue")
    with watching(fivrec, "--every", "300ms") as watch:
        until(lambda: watch.alerts("overdue"))
        fivrec.connect_set("--fail", fail)
        until(lambda: watch.alerts(alert))
        fivrec.connect_set("--fail", "none")
        (said,) = until(lambda: watch.alerts("recovered"))
        seen = len(watch.of("status_check"))
        until(lambda: len(watch.of("status_check")) >= seen + 2)
        assert len(watch.alerts("recovered")) == 1
    assert said["message"].endswith("recovered: Fi.V Connect answers again")


def test_a_repeated_error_is_logged_once_and_so_is_recovery(fivrec: Fivrec, url: str) -> None:
    parts = urlsplit(url)
    with running_proxy(parts.hostname or "", parts.port or 0) as proxy:
        through = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"))
        with watching(fivrec, "--every", "500ms", DATABASE_URL=through) as watch:
            until(lambda: watch.of("status_check"))
            proxy.faults.refuse = True
            proxy.drop_all()
            (failing,) = until(lambda: watch.alerts("failing"))
            assert failing["error"].startswith("database_")
            time.sleep(3)
            proxy.faults.refuse = False
            until(lambda: watch.alerts("recovered"))
            said = [event for event in watch.events if event["level"] == "error"]
            assert len(said) <= 3, said


def test_a_moved_database_and_connect_are_found_again(
    fivrec: Fivrec, url: str, record_property: Callable[[str, object], None]
) -> None:
    """A move: connections are reset, or go silent; reconnecting leads to the new address."""
    database, connect = urlsplit(url), urlsplit(fivrec.env["FIV_APP_API_URL"])
    longest = 0.0
    with (
        running_proxy(database.hostname or "", database.port or 0) as one,
        running_proxy(connect.hostname or "", connect.port or 0) as two,
    ):
        through = urlunsplit(database._replace(netloc=f"{database.netloc.rpartition('@')[0]}@127.0.0.1:{one.port}"))
        asked = urlunsplit(connect._replace(netloc=f"localhost:{two.port}"))
        with watching(fivrec, "--every", "1s", DATABASE_URL=through, FIV_APP_API_URL=asked) as watch:
            until(lambda: len(watch.of("status_check")) >= 2)
            for move in range(MOVES):
                for proxy in (one, two):
                    proxy.faults.refuse = True
                    proxy.freeze() if move % 3 == 2 else proxy.drop_all()
                time.sleep(2)
                checks = rows(url, "SELECT count(*) FROM status_check_logs WHERE success")[0][0]
                begun = time.monotonic()
                for proxy in (one, two):
                    proxy.faults.refuse = False
                    proxy.drop_all()
                    proxy.thaw()
                query = "SELECT count(*) FROM status_check_logs WHERE success"
                until(lambda query=query, checks=checks: rows(url, query)[0][0] > checks, 60)
                longest = max(longest, time.monotonic() - begun)
    assert longest <= 60
    record_property("back_within_s", round(longest, 1))


def own_hosts_file(path: Path) -> tuple[str, ...]:
    """Returns words that start a command in a mount namespace in which `path` is /etc/hosts."""
    words = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(path))
    if sys.platform != "linux" or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a namespace with names of its own is Linux's and root's")
    return words


@pytest.mark.slow
def test_moved_names_are_looked_up_again_without_a_restart(
    fivrec: Fivrec, url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """DNS changes, and the old address goes silent: open connections to it notice nothing."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 localhost\n")
    fivrec.within = own_hosts_file(hosts)
    database, connect = urlsplit(url), urlsplit(fivrec.env["FIV_APP_API_URL"])
    to_database, to_connect = (database.hostname or "", database.port or 0), (connect.hostname or "", connect.port or 0)
    longest = 0.0
    with ExitStack() as stack:
        places = {
            "127.0.0.2": [
                stack.enter_context(running_proxy(*it, listen=("127.0.0.2", 0))) for it in (to_database, to_connect)
            ]
        }
        ports = [proxy.port for proxy in places["127.0.0.2"]]
        places["127.0.0.3"] = [
            stack.enter_context(running_proxy(*it, listen=("127.0.0.3", port)))
            for it, port in zip((to_database, to_connect), ports, strict=True)
        ]
        through = urlunsplit(database._replace(netloc=f"{database.netloc.rpartition('@')[0]}@localhost:{ports[0]}"))
        asked = urlunsplit(connect._replace(netloc=f"localhost:{ports[1]}"))
        watch = stack.enter_context(watching(fivrec, "--every", "1s", DATABASE_URL=through, FIV_APP_API_URL=asked))
        until(lambda: len(watch.of("status_check", success=True)) >= 2)
        for move in range(MOVES):
            old, new = ("127.0.0.2", "127.0.0.3") if move % 2 == 0 else ("127.0.0.3", "127.0.0.2")
            hosts.write_text(f"{new} localhost\n")
            begun = time.monotonic()
            for proxy in places[new]:
                proxy.faults.refuse = False
                proxy.drop_all()
                proxy.thaw()
            for proxy in places[old]:
                proxy.faults.refuse = True
                proxy.freeze() if move % 4 < 2 else proxy.drop_all()
            seen = len(watch.of("status_check", success=True))
            until(lambda seen=seen: len(watch.of("status_check", success=True)) >= seen + 2, 60)
            longest = max(longest, time.monotonic() - begun)
        accepted = [proxy.traffic.connections for proxy in places["127.0.0.3"]]
    assert all(accepted), accepted
    record_property("names led elsewhere", f"{MOVES} times, back within {longest:.1f} s")


def test_a_usage_report_counts_once_however_often_it_is_cut(fivrec: Fivrec, url: str) -> None:
    """kill -9 at any moment; Connect honours the idempotency key."""
    fivrec.write(manifest(text="environment: production|environment: production\nusage: {report: true}"))
    assert fivrec.apply().code == 0
    for cut in range(CUTS):
        with watching(fivrec, "--every", "150ms", code=-9) as watch:
            until(lambda: watch.of("status_check"))
            if cut % 2:
                queued_before = rows(url, QUEUED)
                until(lambda before=queued_before: rows(url, QUEUED) != before)
            time.sleep(0.6 * (cut * 0.618 % 1))
            watch.stop(signal.SIGKILL)
    waiting = "SELECT count(*) FROM fivrec.usage_outbox WHERE sent_at IS NULL"
    with watching(fivrec) as watch:
        until(lambda: watch.of("status_check") and rows(url, waiting) == [(0,)])
    queued = {key for (key,) in rows(url, "SELECT id FROM fivrec.usage_outbox")}
    counted = StateFile(fivrec.folder / "connect.json").read().instances[INSTANCE]
    assert len(queued) >= CUTS // 2
    assert (set(counted.reports), counted.reports_counted) == (queued, len(queued))
    checks = "SELECT count(*) FROM status_check_logs WHERE check_type = 'scheduled'"
    assert rows(url, checks) == [(len(queued),)]


def test_logs_are_kept_for_ever_unless_a_time_is_given(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    old = (
        "INSERT INTO status_check_logs (instance_config_id, check_type, success, created_at) "
        "SELECT id, 'scheduled', true, now() - interval '500 days' FROM instance_config, generate_series(1, 2500)"
    )
    age = "SELECT count(*) FROM {} WHERE {} < now() - interval '400 days'"
    run_sql(url, old)
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 3)
        assert rows(url, age.format("status_check_logs", "created_at")) == [(2500,)]
    with watching(fivrec, "--every", "1s", "--keep-logs", "400d"):
        until(lambda: rows(url, age.format("status_check_logs", "created_at")) == [(0,)])
    assert rows(url, "SELECT count(*) > 3 FROM status_check_logs") == [(True,)]


def test_a_pruned_audit_log_verifies_and_a_cut_one_does_not(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    (entries,) = rows(url, "SELECT count(*) FROM fivrec.audit_log")[0]
    time.sleep(2)
    run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
    with watching(fivrec, "--every", "1s", "--keep-audit", "2s"):
        until(lambda: rows(url, "SELECT min(seq) > %s FROM fivrec.audit_log", entries) == [(True,)])
    assert rows(url, "SELECT count(*) FROM fivrec.audit_log WHERE action = 'prune'")[0][0] >= 1
    verified = fivrec.run("history", "client.yaml", "--verify")
    assert verified.code == 0, verified.stdout + verified.stderr
    run_sql(url, "DELETE FROM fivrec.audit_log WHERE seq = (SELECT min(seq) FROM fivrec.audit_log)")
    if rows(url, "SELECT count(*) FROM fivrec.audit_log")[0][0]:
        assert fivrec.run("history", "client.yaml", "--verify").code != 0


def test_systemd_is_notified_when_ready_alive_and_stopping(fivrec: Fivrec, url: str, tmp_path: Path) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.05)

        def listen() -> list[str]:
            with suppress(TimeoutError):
                heard.append(manager.recv(1000).decode())
            return heard

        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with watching(fivrec, "--every", "1s", **env) as watch:
            until(lambda: listen().count("WATCHDOG=1") >= 3)
            watch.process.send_signal(signal.SIGTERM)
            until(lambda: "STOPPING=1" in listen())
            assert watch.process.wait(60) == 143  # a second signal in its last instant would kill it
    assert heard[:2] == ["READY=1", "STATUS=watching 1 instance"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--listen", "nowhere"), 64),
        (("--notify-url", "http://hooks.example.com/x"), 64),
        (("--every", "0s"), 64),
        (("missing.yaml",), 65),
    ],
)
def test_watch_reports_problems_before_it_starts(fivrec: Fivrec, url: str, words: tuple[str, ...], code: int) -> None:
    named = words if "missing.yaml" in words else ("client.yaml", *words)
    ended = fivrec.run("watch", *named)
    assert (ended.code, ended.stdout) == (code, "")
    assert fivrec.run("watch", "client.yaml", DATABASE_URL=None).code == 78


def test_a_watch_holds_no_more_after_many_turns_than_after_few(fivrec: Fivrec, url: str) -> None:
    """The short version; benchmarks/run.py soak does 10,000 cycles over 200 instances with 5% faults."""
    with watching(fivrec, "--every", "20ms", "--listen", "127.0.0.1:0") as watch:
        until(lambda: watch.metric("fivrec_runs_total") >= 60, 120)
        before = _held(watch.process.pid), rows(url, CONNECTIONS)
        fivrec.connect_set("--fail", "500")
        time.sleep(0.5)
        fivrec.connect_set("--reset")
        until(lambda: watch.metric("fivrec_runs_total") >= 260, 300)
        time.sleep(0.5)
        after = _held(watch.process.pid), rows(url, CONNECTIONS)
    (memory, files, threads), connections = before
    assert after[0][0] <= memory * 1.08
    assert (after[0][1] <= files + 1, after[0][2] <= threads + 1, after[1]) == (True, True, connections)


QUEUED = "SELECT count(*) FROM fivrec.usage_outbox"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'fivrec watch%%'"


def _held(pid: int) -> tuple[int, int, int]:
    """Returns memory in KiB, file descriptors and threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(status["VmRSS"].split()[0]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"])
