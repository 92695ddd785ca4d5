"""The loop as its users run it: checks in time, drift taken back, manifests taken up, an end within 10 seconds."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

from tests.acceptance.harness import INSTANCE, Fivrec, fingerprint, manifest, rows, run_sql
from tests.acceptance.watching import until, watching

CHECKS = "SELECT check_type, success FROM status_check_logs ORDER BY created_at"


def test_a_startup_check_then_scheduled_ones(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: len(watch.of("status_check")) >= 3)
    assert rows(url, CHECKS)[:3] == [("startup", True), ("scheduled", True), ("scheduled", True)]
    times = [at for (at,) in rows(url, "SELECT created_at FROM status_check_logs ORDER BY created_at")]
    gaps = [(after - before).total_seconds() for before, after in pairwise(times[1:])]
    assert all(0.7 < gap < 1.6 for gap in gaps), gaps


def test_drift_is_taken_back_and_an_unchanged_turn_writes_and_says_one_line(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: watch.of("status_check"))
        time.sleep(0.5)
        before = fingerprint(url)
        said = len(watch.events)
        checks = len(watch.of("status_check"))
        until(lambda: len(watch.of("status_check")) >= checks + 2)
        assert len(watch.events) - said == len(watch.of("status_check")) - checks
        assert fingerprint(url) == before
        run_sql(url, "UPDATE queues SET description = 'by hand' WHERE name = 'Technical Support'")
        query = "SELECT description FROM queues WHERE name = 'Technical Support'"
        until(lambda: rows(url, query) == [("Suporte técnico",)])
        (change,) = until(lambda: watch.of("reconcile", changes=1))
        assert change["message"] == "🔧 1 changed: queue/Technical Support update (drift)"


def test_sigterm_ends_it_within_10_seconds_and_leaves_nothing_half_done(fivrec: Fivrec, url: str) -> None:
    with watching(fivrec, "--every", "1s") as watch:
        until(lambda: watch.of("status_check"))
        begun = time.monotonic()
        assert watch.stop(signal.SIGTERM) == 143
        assert time.monotonic() - begun < 10
    locks = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert rows(url, locks) == [(0,)]
    assert fivrec.diff().code == 0
    assert INSTANCE in manifest()
