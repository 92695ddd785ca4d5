"""A failed instance is one event of a JSON log; the console's output stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli_process import Ended, fivrec

MANIFEST = """\
version: 1
instance: client-abc-123
environment: development
database: {url: {env: DATABASE_URL}}
config: {connect_api_url: {env: FIV_APP_API_URL}, instance_key: {env: FIV_APP_API_KEY}}
"""
NOWHERE = {
    "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/d",
    "FIV_APP_API_URL": "https://127.0.0.1:1",
    "FIV_APP_API_KEY": "hunter2-key",
    "FIVREC_ENCRYPTION_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}
READING = [("status",), ("logs",), ("history",), ("history", "--verify"), ("usage",), ("usage", "--send")]
CONNECT = [("plans",), ("databases",)]
WRITING = [("apply",), ("apply", "--check"), ("diff",), ("check",), ("purge",), ("production-test",), ("key", "rotate")]
NAMED = {("apply", "--check"): "diff", ("history", "--verify"): "history", ("usage", "--send"): "usage"}


def run(tmp_path: Path, words: tuple[str, ...], *more: str) -> Ended:
    (tmp_path / "m.yaml").write_text(MANIFEST, encoding="utf-8")
    ended = fivrec(*words, "m.yaml", *more, env=NOWHERE, cwd=tmp_path)
    assert "hunter2" not in ended.stdout + ended.stderr
    return ended


def events(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.stderr.splitlines()]


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("words", [*READING, *CONNECT, *WRITING], ids=" ".join)
def test_a_failed_instance_is_one_event(words: tuple[str, ...], output: str, tmp_path: Path) -> None:
    ended = run(tmp_path, words, "--log-format", "json", "-o", output)
    (event,) = [event for event in events(ended) if event.get("error")]
    code = "connect_unreachable" if words in CONNECT else "database_unreachable"
    expected = ("error", NAMED.get(words, " ".join(words)), "client-abc-123", False, code)
    assert tuple(event[name] for name in ("level", "operation", "instance", "success", "error")) == expected
    assert event["message"]
    assert event["hint"]
    assert event["timestamp"]


@pytest.mark.parametrize("words", [("status",), ("plans",)], ids=" ".join)
def test_the_console_has_two_lines_and_with_json_on_stdout_none(words: tuple[str, ...], tmp_path: Path) -> None:
    text = run(tmp_path, words)
    assert text.stderr.startswith("client-abc-123: [")
    assert len(text.stderr.splitlines()) == 2
    assert run(tmp_path, words, "-o", "json").stderr == ""


@pytest.mark.parametrize("words", [("apply",), ("diff",)], ids=" ".join)
def test_the_console_of_a_run_stays_silent_the_report_says_it(words: tuple[str, ...], tmp_path: Path) -> None:
    assert run(tmp_path, words).stderr == ""
