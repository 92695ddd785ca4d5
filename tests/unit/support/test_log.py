"""One error is logged once in 5 minutes, with a count; an alert is always logged."""

from __future__ import annotations

import io
import json

from reconciler.support.log import Level, QuietLog, counted


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


def test_alerts_and_infos_are_never_held_back() -> None:
    stream = io.StringIO()
    log = QuietLog(stream)
    for _ in range(3):
        log.event(Level.WARNING, "alert", "suspended", instance="a", alert="suspended")
        log.info("status_check", "ok", instance="a")
    assert stream.getvalue() == "a: suspended\na: ok\n" * 3


def test_a_count_agrees_with_its_noun() -> None:
    said = [counted(number, "change") for number in (0, 1, 2, 1000)]
    assert said == ["0 changes", "1 change", "2 changes", "1,000 changes"]
