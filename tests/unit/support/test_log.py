"""A repeated error is logged once in 5 minutes, with a count; an alert is always logged."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from reconciler.support import log as module
from reconciler.support.log import EventLog, Level, Patience, counted
from reconciler.support.quiet_log import QuietLog


def test_a_repeated_error_comes_once_in_5_minutes_with_a_count() -> None:
    now = [0.0]
    stream = io.StringIO()
    log = QuietLog(stream, "json", clock=lambda: now[0])
    heard: list[str] = []
    log.listeners.append(lambda record: heard.append(str(record["operation"])))
    for second in range(0, 610, 10):
        now[0] = float(second)
        log.error("status_check", "❌ Connect returned 500", instance="a", error="connect_http_error")
        log.error("status_check", "❌ Connect returned 500", instance="b", error="connect_http_error")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(it["instance"], it.get("repeats")) for it in said] == [
        ("a", None), ("b", None), ("a", 29), ("b", 29), ("a", 29), ("b", 29),
    ]  # fmt: skip
    assert said[2]["message"] == "❌ Connect returned 500 (and 29 more times in the last 5 minutes)"
    assert len(heard) == 122


def test_a_failed_check_that_is_an_alert_is_never_held_back() -> None:
    """Connect was away for a moment, and is away again within the 5 minutes."""
    stream = io.StringIO()
    log = QuietLog(stream)
    for alert in ("connect_unreachable", None, None, "connect_unreachable", None):
        log.error("status_check", "500", instance="a", error="connect_http_error", alert=alert)
    assert stream.getvalue() == "a: 500\n" * 2


def test_alerts_and_infos_are_never_held_back() -> None:
    stream = io.StringIO()
    log = QuietLog(stream)
    for _ in range(3):
        log.event(Level.WARNING, "alert", "suspended", instance="a", alert="suspended")
        log.info("status_check", "ok", instance="a")
    assert stream.getvalue() == "a: suspended\na: ok\n" * 3


def test_what_has_an_error_is_no_success() -> None:
    stream = io.StringIO()
    log = EventLog(stream, "json")
    log.warning("usage", "⚠️ 1 usage report not sent yet", error="connect_http_error")
    log.warning("alert", "⚠️ instance suspended", error=None)
    log.error("alert", "❌")
    assert [json.loads(line)["success"] for line in stream.getvalue().splitlines()] == [False, True, False]


def test_a_count_agrees_with_its_noun() -> None:
    said = [counted(number, "change") for number in (0, 1, 2, 1000)]
    assert said == ["0 changes", "1 change", "2 changes", "1,000 changes"]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe; reads don't block, and nobody waits long."""
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def read_all(reading: int) -> list[str]:
    found = b""
    try:
        while block := os.read(reading, 65536):
            found += block
    except BlockingIOError:
        pass
    return found.decode().splitlines()


@pytest.mark.parametrize("size", [10, 3000, 100_000])
def test_a_log_that_nobody_reads_stops_no_service(pipe: tuple[int, TextIO], size: int) -> None:
    reading, stream = pipe
    log = QuietLog.over(EventLog(stream, "json")).bind(run_id="1")
    count = 300_000 // size
    for number in range(count):
        log.info("status_check", "x" * size, number=number)
    before = read_all(reading)
    log.info("status_check", "read again", number=count)
    lost, last = (json.loads(line) for line in read_all(reading) if line)
    whole = [json.loads(line)["number"] for line in before if line.endswith("}")]
    assert whole == list(range(len(whole)))
    assert (lost["level"], lost["error"], lost["message"], last["number"]) == (
        "warning", "log_lost", f"⚠️ {counted(count - len(whole), 'log line')} lost: nobody read the log", count,
    )  # fmt: skip


class FullDisk(io.StringIO):
    """Accepts lines while there is room, like a file on a disk."""

    room = True

    def write(self, text: str, /) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_lines_that_a_full_disk_did_not_take_are_counted() -> None:
    disk = FullDisk()
    log = EventLog(disk, patience=Patience())
    for room in (True, False, False, True):
        disk.room = room
        log.info("status_check", "ok")
    assert disk.getvalue().splitlines() == [
        "ok",
        "",
        "⚠️ 2 log lines lost: it could not be written (no space left on device)",
        "ok",
    ]


def test_a_reader_that_is_slow_loses_nothing(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    log = QuietLog.over(EventLog(stream))
    said = []
    for number in range(200):
        log.info("status_check", f"{number} {'x' * 3000}")
        said += read_all(reading)
    assert [int(line.split()[0]) for line in said] == list(range(200))


def test_a_stream_that_is_gone_is_no_error(pipe: tuple[int, TextIO]) -> None:
    log = EventLog(pipe[1], patience=Patience())
    pipe[1].close()
    log.info("status_check", "nobody is there")
    assert log.patience == Patience()
