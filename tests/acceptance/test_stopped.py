"""SIGTERM and SIGINT at any moment: rolled back, reported as JSON, gone within ten seconds with 143 or 130."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from reconciler.database.transaction import lock_key
from reconciler.model.secret import Secret
from tests.support.fault_proxy import running_proxy, server_of, through
from tests.support.harness import INSTANCE, Fivrec, manifest, rows
from tests.support.watching import until

Record = Callable[[str, object], None]

LIMIT_S = 10.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[dict[str, Any] | None, float]:
    """Send the command a signal now. Returns its report, and how long it took to end."""
    begun = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    took = time.monotonic() - begun
    assert process.returncode < 0 or "Traceback" not in stderr
    return json.loads(stdout) if stdout else None, took


def apply(fivrec: Fivrec, description: str, **more: str) -> subprocess.Popen[str]:
    fivrec.write(manifest(queue=f"{{name: Sales}}|{{name: Sales, description: {description}}}"))
    return fivrec.start("apply", "client.yaml", "-o", "json", **more)


def description(url: str) -> str:
    return rows(url, "SELECT description FROM queues WHERE name = 'Sales'")[0][0]


@pytest.mark.slow
def test_a_signal_at_random_moments_is_reported_correctly(fivrec: Fivrec, url: str, record_property: Record) -> None:
    """Before Python handles signals (its first 0.1 s or so) the kernel ends it: then nothing was done."""
    assert fivrec.apply().code == 0
    begun = time.monotonic()
    apply(fivrec, "whole").communicate()
    whole = time.monotonic() - begun
    choose = random.Random(20261123)
    seen: Counter[str] = Counter()
    for number in range(16):
        before = description(url)
        process = apply(fivrec, f"n{number}")
        moment = choose.uniform(0.1, 0.9) * whole
        time.sleep(moment)
        kind = choose.choice(sorted(CODES))
        report, took = stopped(process, kind)
        point = f"{kind.name} after {moment:.3f} s: {process.returncode}, {report}"
        assert took < LIMIT_S, point
        outcome = report["instances"][0]["outcome"] if report and report["instances"] else "none"
        assert description(url) == (f"n{number}" if outcome == "changed" else before), point
        if process.returncode == 0:
            assert outcome == "changed", point  # it had ended before
        elif process.returncode != -kind:
            assert process.returncode == CODES[kind], point
            assert report is not None, point
            error = report["error"] or report["instances"][0]["error"]
            assert outcome == "changed" or error["code"] == "interrupted", point
        seen[f"{process.returncode} {outcome}"] += 1
    record_property("stopped or busy", f"16 signals within {whole * 1000:.0f} ms: {dict(seen)}")
    assert fivrec.apply().code == 0
    assert fivrec.run("history", "client.yaml", "--verify").code == 0


@pytest.mark.parametrize("number", CODES)
def test_a_run_that_waits_for_connect_stops_at_once(fivrec: Fivrec, url: str, number: signal.Signals) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--delay", "20s")
    process = apply(fivrec, "never")
    until(lambda: rows(url, SESSIONS))
    report, took = stopped(process, number)
    assert (process.returncode, took < LIMIT_S) == (CODES[number], True)
    assert report is not None
    (instance,) = report["instances"]
    assert (instance["outcome"], instance["error"]["code"]) == ("skipped", "interrupted")
    assert description(url) is None


def until_no_session(url: str) -> None:
    """A server's process ends a moment after its client."""
    until(lambda: rows(url, SESSIONS) == [], what="the end of the sessions")


SESSIONS = "SELECT state, xact_start FROM pg_stat_activity WHERE application_name LIKE 'fivrec apply%%'"


@pytest.mark.slow
def test_a_run_on_a_frozen_link_stops_within_ten_seconds(fivrec: Fivrec, url: str, record_property: Record) -> None:
    assert fivrec.apply().code == 0
    with running_proxy(*server_of(Secret(url))) as proxy:
        proxy.faults.delay_s = 0.3
        process = apply(fivrec, "never", DATABASE_URL=through(Secret(url), proxy.port).reveal())
        until(lambda: [row for row in rows(url, SESSIONS) if row[1]])
        proxy.freeze()
        time.sleep(0.2)
        report, took = stopped(process, signal.SIGTERM)
        record_property("stopped or busy", f"stopped on a frozen link in {took:.1f} s")
    assert (process.returncode, took < LIMIT_S) == (143, True)
    assert report is not None
    assert report["instances"][0]["error"]["code"] in ("interrupted", "commit_unknown")
    assert description(url) is None


def test_a_run_that_waits_for_the_lock_stops_and_leaves_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with psycopg.connect(url, application_name="the other run") as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(INSTANCE),))
        process = apply(fivrec, "never")
        until(lambda: rows(url, SESSIONS))
        report, _ = stopped(process, signal.SIGTERM)
    assert process.returncode == 143
    assert report is not None
    assert report["instances"][0]["error"]["code"] == "interrupted"
    until_no_session(url)


def test_busy_comes_within_three_seconds_of_the_database(fivrec: Fivrec, url: str, record_property: Record) -> None:
    """Counted from the start of its session: Python's start is not part of the wait."""
    assert fivrec.apply().code == 0
    with psycopg.connect(url, application_name="the other run") as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(INSTANCE),))
        (pid,) = conn.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        took = LIMIT_S
        for _ in range(3):  # a busy machine may slow down one of them
            process = apply(fivrec, "never")
            until(lambda: rows(url, SESSIONS))
            begun = time.monotonic()
            stdout, _ = process.communicate(timeout=60)
            took = min(took, time.monotonic() - begun)
            until_no_session(url)
            (instance,) = json.loads(stdout)["instances"]
            assert (process.returncode, instance["outcome"]) == (4, "busy")
            assert f"the other run, pid {pid}, since 20" in instance["error"]["message"]
            if took < 3:
                break
    record_property("stopped or busy", f"busy after {took:.1f} s")
    begun = time.monotonic()
    assert fivrec.diff().code == 2
    assert took < 3 + time.monotonic() - begun


def test_no_transaction_is_open_while_connect_is_slow(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    fivrec.connect_set("--delay", "8s")
    process = apply(fivrec, "slowly")
    waits = f"{SESSIONS} AND state = 'idle' AND state_change < now() - interval '500 ms'"  # its own start is over
    with psycopg.connect(url, autocommit=True) as looking:  # one connection: each new one takes time from the 8 s
        until(lambda: looking.execute(waits).fetchall())
        for _ in range(20):
            assert [row for row in looking.execute(SESSIONS).fetchall() if row[1] is not None] == []
            time.sleep(0.02)
    assert process.poll() is None
    process.communicate(timeout=60)
    assert (process.returncode, description(url)) == (0, "slowly")
