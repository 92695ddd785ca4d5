"""`fivrec setup` reports wrong input before it creates anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli_process import fivrec

WORDS = ("setup", "--database-url", "embedded:", "--admin-email", "admin@empresa.com", "--company-name", "Empresa")


@pytest.mark.parametrize(
    ("words", "env", "code", "said"),
    [
        (("--instance", "no name", "--admin-password", "senha-123"), {}, 64, "--instance is not a valid instance name"),
        (("--admin-password", "x" * 73), {}, 78, "--admin-password: the password is longer than 72 bytes"),
        (("--admin-password-env", "PW"), {"PW": "x" * 73}, 78, "PW: the password is longer than 72 bytes"),
        (("--admin-password-env", "PW"), {}, 78, "the variable PW is not set"),
        ((), {}, 64, "Missing option '--admin-password-env'."),
        (("--admin-password", "xxx", "--admin-password-env", "PW"), {"PW": "y" * 9}, 64, "give one of the two"),
    ],
)
def test_wrong_arguments_are_reported_and_nothing_is_created(
    tmp_path: Path, words: tuple[str, ...], env: dict[str, str], code: int, said: str
) -> None:
    ended = fivrec(*WORDS, *words, env=env, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "xxx" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {}, "'--database-url', '--admin-email', '--admin-password-env', '--company-name'"),
        (("--admin-email", "a@b.co", "--admin-password", "senha-123"), {}, "'--database-url', '--company-name'"),
        ((), {"FIVREC_SETUP_ADMIN_PASSWORD": "senha-123"}, "'--database-url', '--admin-email', '--company-name'"),
    ],
)
def test_all_missing_options_are_named_at_once(
    tmp_path: Path, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    ended = fivrec("setup", *words, env=env, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (64, "")
    assert ended.stderr.splitlines()[1] == f"error [usage]: Missing: {said}."


def test_a_json_log_holds_events_alone(tmp_path: Path) -> None:
    words = ("--admin-password", "x" * 73, "--log-format", "json")
    ended = fivrec(*WORDS, *words, cwd=tmp_path)
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(event["level"], event["operation"]) for event in events] == [("warning", "setup"), ("error", "setup")]
