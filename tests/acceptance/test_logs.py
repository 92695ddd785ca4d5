"""`fivrec logs --follow` as a process: existing checks, new ones, and an unreadable instance beside them."""

from __future__ import annotations

import json
import signal
from threading import Thread
from typing import IO, Any

import pytest

from tests.support.harness import INSTANCE, Fivrec, rows, run_sql
from tests.support.watching import another, until

NOWHERE = "postgresql://u:p@127.0.0.1:1/nowhere"


@pytest.mark.usefixtures("url")
def test_follow_goes_on_beside_an_instance_that_cannot_be_read(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    other = another(fivrec, "client-gone", NOWHERE)
    process = fivrec.start("logs", "client.yaml", other, "--follow", "-o", "json")
    shown, checks = reading(process.stdout)
    said, errors = reading(process.stderr)
    try:
        until(lambda: len(checks) == 1)
        until(lambda: errors)
        assert fivrec.run("check", "client.yaml").code == 0
        until(lambda: len(checks) == 2)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    shown.join(30)
    said.join(30)
    found: list[dict[str, Any]] = [json.loads(line) for line in checks]
    assert [(check["instance"], check["type"], check["success"]) for check in found] == [(INSTANCE, "manual", True)] * 2
    assert [line.partition("]")[0] for line in errors if line.startswith("client-gone")] == [
        "client-gone: [database_unreachable"
    ]


def test_follow_shows_a_check_in_one_line_that_commands_nothing(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "UPDATE status_check_logs SET error_message = E'x\\n::error::y\\u001b[2J', success = false")
    process = fivrec.start("logs", "client.yaml", "--follow")
    shown, lines = reading(process.stdout)
    try:
        until(lambda: lines)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    shown.join(30)
    assert [line.partition("FAILED")[2].split()[-2:] for line in lines] == [["x", r"::error::y\x1b[2J"]]


@pytest.mark.parametrize("command", ["logs", "history"])
def test_follow_refuses_markdown(fivrec: Fivrec, command: str) -> None:
    ended = fivrec.run(command, "client.yaml", "--follow", "-o", "markdown")
    assert (ended.code, "--follow writes lines of text or JSON, not markdown" in ended.stderr) == (64, True)


MANY = """
INSERT INTO status_check_logs (instance_config_id, check_type, success, created_at)
SELECT c.id, 'scheduled', true, now() + make_interval(secs => n) FROM instance_config c, generate_series(1, 2500) AS n
"""
LATE = """
INSERT INTO status_check_logs (instance_config_id, check_type, success, created_at)
SELECT c.id, 'manual', false, now() - interval '30 s' FROM instance_config c
"""


@pytest.mark.parametrize("at_first", [0, 1])
def test_follow_misses_nothing_and_keeps_one_connection(fivrec: Fivrec, url: str, at_first: int) -> None:
    assert fivrec.apply().code == 0
    if not at_first:
        run_sql(url, "DELETE FROM status_check_logs")
    process = fivrec.start("logs", "client.yaml", "--follow", "-o", "json")
    shown, checks = reading(process.stdout)
    session = (
        "SELECT pid, query_start - backend_start > interval '1 s' FROM pg_stat_activity "
        "WHERE application_name LIKE 'fivrec logs%%' AND state = 'idle'"
    )
    try:
        (before,) = until(lambda: [found for found in rows(url, session) if found[1]], what="a second reading")
        until(lambda: len(checks) >= at_first)
        assert len(checks) == at_first
        run_sql(url, MANY)
        until(lambda: len(checks) == at_first + 2500)
        run_sql(url, LATE)  # earlier rows have later times, and its transaction took long
        until(lambda: len(checks) == at_first + 2501)
        assert until(lambda: rows(url, session)) == [before]
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    shown.join(30)
    *found, late = (json.loads(line) for line in checks)
    moments = [check["at"] for check in found]
    assert (len(moments), moments, late["success"]) == (at_first + 2500, sorted(moments), False)


def reading(stream: IO[str] | None) -> tuple[Thread, list[str]]:
    """Returns a thread that reads the stream, and the lines read so far."""
    assert stream is not None
    lines: list[str] = []

    def read() -> None:
        with stream:
            for line in stream:
                lines.append(line)  # noqa: PERF402 (seen as they come)

    thread = Thread(target=read, daemon=True)
    thread.start()
    return thread, lines
