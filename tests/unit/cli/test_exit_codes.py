"""Exit codes: error classes, constants and --help agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.main import BROKEN_PIPE, EXIT_CODES, USAGE
from reconciler.model import errors
from reconciler.planning import report
from tests.support.cli_process import ROOT, fivrec

FORESEEN = {
    errors.FivrecError: 1,
    errors.UsageError: 64,
    errors.ManifestError: 65,
    errors.MissingSetting: 78,
    errors.Refused: 3,
    errors.Busy: 4,
    errors.ConnectError: 1,
    errors.DatabaseError: 1,
    errors.NotConverged: 1,
    errors.Unforeseen: 1,
}


def listed() -> dict[int, str]:
    return {int(code): words for code, words in re.findall(r"^  (\d+) +(.+)$", EXIT_CODES, re.MULTILINE)}


@pytest.mark.parametrize("error", FORESEEN, ids=lambda error: error.__name__)
def test_each_foreseen_error_ends_with_its_code(error: type[errors.FivrecError]) -> None:
    assert error.exit_code == FORESEEN[error]


@pytest.mark.parametrize(("signal", "code"), [(2, 130), (15, 143)])
def test_a_signal_ends_with_128_and_its_number(signal: int, code: int) -> None:
    assert errors.Interrupted(signal).exit_code == code


def subclasses(cls: type[errors.FivrecError]) -> set[type[errors.FivrecError]]:
    return {cls}.union(*(subclasses(child) for child in cls.__subclasses__()))


def test_no_error_has_a_code_that_help_does_not_list() -> None:
    assert {error.exit_code for error in subclasses(errors.FivrecError)} <= set(listed())


def test_every_error_class_of_errors_is_in_the_table_above() -> None:
    ours = {error for error in subclasses(errors.FivrecError) if error.__module__ == errors.__name__}
    assert ours == {*FORESEEN, errors.Interrupted}


def test_the_reports_constants_are_those_of_help() -> None:
    words = listed()
    constants = {
        report.DONE: "done",
        report.FAILED: "failed",
        report.CHANGES: "changes",
        report.REFUSED: "refused",
        report.BUSY: "busy",
        report.PARTLY: "partly",
        USAGE: "command line",
    }
    for code, word in constants.items():
        assert word in words[code]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["apply", "--help"]])
def test_help_and_version_exit_zero_on_stdout(words: list[str]) -> None:
    ended = fivrec(*words)
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize(
    ("words", "env", "code"),
    [
        (("apply", "nowhere.yaml", "--log-format", "json"), {}, "manifest_invalid"),
        (("apply", "nowhere.yaml"), {"FIVREC_APPLY_LOG_FORMAT": "json"}, "manifest_invalid"),
        (("diff", "--log-format=json", "--no-such-option"), {}, "usage"),
    ],
)
def test_in_a_json_log_an_error_is_an_event(words: tuple[str, ...], env: dict[str, str], code: str) -> None:
    (line,) = fivrec(*words, env=env).stderr.splitlines()
    event = json.loads(line)
    assert (event["level"], event["operation"], event["error"]) == ("error", words[0], code)


def test_a_reader_that_went_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")


def test_a_compiled_file_that_is_cut_off_is_no_signal(tmp_path: Path) -> None:
    env = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    assert fivrec("sql", env=env).code == 0
    (compiled,) = (tmp_path / ROOT.relative_to("/") / "reconciler" / "cli").glob("sql.*.pyc")
    compiled.write_bytes(compiled.read_bytes()[:100])
    ended = fivrec("sql", env=env)
    assert (ended.code, ended.stdout) == (1, "")
    assert "error [internal]: a compiled file of Python is cut off" in ended.stderr
    assert "__pycache__" in ended.stderr
