"""The loop as its users run it: checks on time, drift corrected, manifests reloaded, an end within 10 seconds."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import psycopg

from reconciler.model.secret import Secret
from tests.support.harness import INSTANCE, Fivrec, assert_once_each, fingerprint, manifest, rows, run_sql
from tests.support.watching import another, until, watching

CHECKS = "SELECT check_type, success FROM status_check_logs ORDER BY created_at"


def test_a_startup_check_then_scheduled_ones(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 7)
    assert rows(url, CHECKS)[:3] == [("startup", True), ("scheduled", True), ("scheduled", True)]
    times = [at for (at,) in rows(url, "SELECT created_at FROM status_check_logs ORDER BY created_at")]
    gaps = [(after - before).total_seconds() for before, after in pairwise(times[1:])]
    assert 0.5 < median(gaps) < 3, gaps  # a busy machine may delay some of them


def test_drift_is_reverted_and_an_idle_cycle_logs_one_line(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 2)
        before = fingerprint(url)
        said = len(watch.events)
        until(lambda: len(watch.events) >= said + 2)
        assert {event["operation"] for event in list(watch.events)[said:]} == {"status_check"}
        assert fingerprint(url) == before
        run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Technical Support'")
        query = "SELECT description FROM queues WHERE name = 'Technical Support'"
        until(lambda: rows(url, query) == [("Suporte técnico",)])
        (change,) = until(lambda: watch.of("reconcile", changes=1))
        assert change["message"] == "🔧 1 changed: queue/Technical Support update (drift)"


def test_sigterm_ends_it_within_10_seconds_cleanly(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: watch.of("status_check"))
        begun = time.monotonic()
        assert watch.stop(signal.SIGTERM) == 143
        assert time.monotonic() - begun < 10
    locks = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    until(lambda: rows(url, locks) == [(0,)])  # a server's process ends a moment after its client
    assert fivrec.diff().code == 0
    assert INSTANCE in manifest()


def test_a_stopped_process_makes_one_check_up_for_all_it_missed(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 2)
        watch.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        before = len(rows(url, CHECKS))
        time.sleep(5.2)
        watch.process.send_signal(signal.SIGCONT)
        until(lambda: len(rows(url, CHECKS)) >= before + 5)
    times = [at for (at,) in rows(url, "SELECT created_at FROM status_check_logs ORDER BY created_at")][before:]
    assert_once_each(times, 1.0)


def test_a_field_that_keeps_changing_is_left_alone(fivrec: Fivrec, url: str) -> None:
    description = "SELECT description FROM queues WHERE name = 'Technical Support'"
    with watching(fivrec, "--every", "300ms") as watch:
        until(lambda: watch.of("status_check"))
        for _ in range(4):
            until(lambda: rows(url, description) == [("Suporte técnico",)])
            run_sql(url, "UPDATE queues SET description = 'mine' WHERE name = 'Technical Support'")
        (fight,) = until(lambda: watch.alerts("fight"))
        assert fight["field"] == "queue/Technical Support/description"
        run_sql(
            url,
            "UPDATE queues SET description = 'mine' WHERE name = 'Technical Support'",
            "UPDATE queues SET is_active = false WHERE name = 'Technical Support'",
            "UPDATE settings SET value = '\"en\"' WHERE key = 'locale'",
        )
        until(lambda: rows(url, "SELECT value FROM settings WHERE key = 'locale'") == [("pt-BR",)])
        until(lambda: rows(url, "SELECT is_active FROM queues WHERE name = 'Technical Support'") == [(True,)])
        assert rows(url, description) == [("mine",)]
        fivrec.write(manifest(text="Suporte técnico|Suporte"))
        until(lambda: rows(url, description) == [("Suporte",)])
        assert len(watch.alerts("fight")) == 1


def test_check_only_records_checks_and_follows_the_lock_only(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'by hand'")
    fivrec.connect_set("--status", "suspended")
    with watching(fivrec, "--every", "1s", "--check-only") as watch:
        until(lambda: rows(url, "SELECT is_locked FROM instance_config") == [(True,)])
        fivrec.connect_set("--status", "active")
        until(lambda: rows(url, "SELECT is_locked FROM instance_config") == [(False,)])
        assert watch.of("reconcile", changes=1)
    assert rows(url, "SELECT DISTINCT description FROM queues") == [("by hand",)]


def test_manifests_are_taken_up_kept_when_broken_and_let_go(
    fivrec: Fivrec, url: str, make_database: Callable[[], Secret]
) -> None:
    folder = fivrec.folder / "fleet"
    folder.mkdir()
    second = make_database().reveal()
    fivrec.write(manifest(), "fleet/client.yaml")
    other = another(fivrec, "client-two", second)
    checks = "SELECT count(*) FROM status_check_logs"
    with watching(fivrec, "fleet/", "--every", "1s") as watch:
        until(lambda: watch.of("status_check", instance=INSTANCE))
        (fivrec.folder / other).rename(folder / other)
        until(lambda: watch.of("status_check", instance="client-two"))
        locale = "SELECT value FROM settings WHERE key = 'locale'"
        fivrec.write("version: 1\ninstance: [", "fleet/client.yaml")
        (broken,) = until(lambda: watch.alerts("manifest_broken"))
        assert "fleet/client.yaml:3:1: YAML" in broken["message"]
        run_sql(url, "UPDATE settings SET value = '\"en\"' WHERE key = 'locale'")
        until(lambda: rows(url, locale) == [("pt-BR",)])
        fivrec.write(manifest(text="pt-BR|pt-PT"), "fleet/client.yaml")
        until(lambda: rows(url, locale) == [("pt-PT",)])
        assert [event.get("instance") for event in watch.alerts("recovered")] == [None]
        (folder / other).unlink()
        until(lambda: "no longer watched" in str([event["message"] for event in watch.of("watch")]))
        found = []
        for _ in range(2):  # a turn that was in progress may record its check before the first one
            seen = len(watch.of("status_check", instance=INSTANCE))
            until(lambda seen=seen: len(watch.of("status_check", instance=INSTANCE)) >= seen + 2)
            found.append(rows(second, checks))
        assert found[0] == found[1]
        assert rows(second, "SELECT count(*) FROM queues") == [(2,)]


def test_a_suspended_manifest_is_watched_and_changes_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE queues SET description = 'by hand'")
    fivrec.write(manifest(text="environment: production|environment: production\nsuspend: true"))
    before = fingerprint(url)
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 3)
    assert fingerprint(url) == before
    assert rows(url, "SELECT count(*) > 2 FROM status_check_logs WHERE check_type <> 'manual'") == [(True,)]


def test_two_watches_of_one_fleet_record_each_check_once(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with watching(fivrec, "--every", "1s") as one:
        until(lambda: len(one.of("status_check")) >= 2)
        with watching(fivrec, "--every", "1s") as two:
            query = "SELECT created_at FROM status_check_logs WHERE check_type = 'scheduled' ORDER BY created_at"
            until(lambda: rows(url, STARTUPS) == [(2,)])
            seen = len(rows(url, query))
            until(lambda: len(rows(url, query)) >= seen + 6)
            assert not two.alerts("failing")
        times = [at for (at,) in rows(url, query)][seen:]
        span = (times[-1] - times[0]).total_seconds()
        assert len(times) - 2 <= 1.5 * span, times  # 2 s per second if each watch recorded its own
    assert rows(url, STARTUPS) == [(2,)]


STARTUPS = "SELECT count(*) FROM status_check_logs WHERE check_type = 'startup'"


def test_the_second_watch_takes_over_when_the_first_one_dies(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with watching(fivrec, "--every", "1s", code=-9) as one, watching(fivrec, "--every", "1s") as two:
        until(lambda: len(one.of("status_check")) + len(two.of("status_check")) >= 5)
        one.stop(signal.SIGKILL)
        seen = len(two.of("status_check"))
        until(lambda: len(two.of("status_check")) >= seen + 3)


def test_a_hung_instance_delays_nobody(fivrec: Fivrec, url: str) -> None:
    """There is one place for cycles, and the database behind one of them accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hole = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/hole?connect_timeout=60"
        other = another(fivrec, "client-hung", hole)
        with watching(fivrec, "client.yaml", other, "--every", "1s", "--forks", "1", "--timeout", "6s") as watch:
            until(lambda: len(watch.of("status_check", instance=INSTANCE)) >= 14, 60)
            assert len(watch.alerts("failing")) == 1
            begun = time.monotonic()
            assert watch.stop() == 143
            assert time.monotonic() - begun < 10
    times = [at for (at,) in rows(url, "SELECT created_at FROM status_check_logs ORDER BY created_at")]
    gaps = [(after - before).total_seconds() for before, after in pairwise(times[1:])]
    # It hung the first time; each of its cycles in the only place would hold up the other for 6 s.
    assert sum(gap > 4 for gap in gaps) <= 2, gaps


def test_sigterm_in_a_blocked_write_rolls_back_in_10_seconds(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.write(manifest(text="Suporte técnico|Suporte"))
    before = fingerprint(url)
    with psycopg.connect(url) as holder, watching(fivrec) as watch:
        holder.execute("LOCK TABLE queues IN SHARE MODE")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND application_name LIKE 'fivrec watch%%'"
        )
        until(lambda: rows(url, waiting) == [(1,)])
        begun = time.monotonic()
        assert watch.stop() == 143
        assert time.monotonic() - begun < 10
    after = fingerprint(url)
    assert {**after, "fivrec.audit_log": ()} == {**before, "fivrec.audit_log": ()}
    assert fivrec.apply().one["outcome"] == "changed"
