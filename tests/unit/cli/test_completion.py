"""Shells complete commands and options with the script that fivrec prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.completion import AFTER_EQUALS
from reconciler.cli.main import cli

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_fivrec_back(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_FIVREC_COMPLETE={shell}_complete" in printed.output
    assert [ours for ours in AFTER_EQUALS[shell].values() if ours not in printed.output] == []  # click's as it was


def test_a_command_is_completed() -> None:
    environment = {**os.environ, "_FIVREC_COMPLETE": "bash_complete", "COMP_WORDS": "fivrec va", "COMP_CWORD": "1"}
    asked = subprocess.run(
        [sys.executable, "-m", "reconciler"], env=environment, capture_output=True, text=True, check=False
    )
    assert asked.stdout.split() == ["plain,validate"]


def test_an_option_is_completed() -> None:
    words = {"_FIVREC_COMPLETE": "bash_complete", "COMP_WORDS": "fivrec apply --max-ch", "COMP_CWORD": "2"}
    asked = subprocess.run(
        [sys.executable, "-m", "reconciler"], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert asked.stdout.split() == ["plain,--max-changed"]


FLEET = """\
version: 1
defaults: {database: {url: {env: D}}, queues: [{name: Sales}, {name: Support}], environment: {env: NOT_SET}}
instances:
  - {instance: client-a, labels: {region: south}}
  - {instance: client-b, labels: {region: north}}
  - {instance: other}
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fivrec apply m.yaml -l cl", ["client-a", "client-b"]),
        ("fivrec apply m.yaml --limit re", ["region=north", "region=south"]),
        ("fivrec status m.yaml -l other,!client-b", ["other,!client-b"]),
        ("fivrec diff m.yaml --explain qu", ["queue/"]),
        ("fivrec diff m.yaml --explain queue/S", ["queue/Sales", "queue/Support"]),
        ("fivrec diff m.yaml --explain config/client-", ["config/client-a", "config/client-b"]),
        ("fivrec apply broken.yaml -l cl", []),
        ("fivrec apply -l cl", []),
    ],
)
def test_instances_labels_and_resources_are_completed(tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "m.yaml").write_text(FLEET, encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("version: [", encoding="utf-8")
    environment = {"_FIVREC_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    asked = subprocess.run(
        [sys.executable, "-m", "reconciler"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.stdout.split(), asked.stderr) == ([f"plain,{word}" for word in words], "")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fivrec status --output=", ["text", "json", "markdown"]),
        ("fivrec status --output=j", ["json"]),
        ("fivrec status m.yaml --limit=region=so", ["south"]),
        ("fivrec status m.yaml -l region=", ["north", "south"]),
        ("fivrec status m.yaml -l cl", ["client-a", "client-b"]),
        ("fivrec status m.yaml -l ", ["client-a", "client-b", "other", "region=north", "region=south"]),
    ],
)
def test_bash_gets_what_follows_its_last_word_break(tmp_path: Path, line: str, found: list[str]) -> None:
    (tmp_path / "m.yaml").write_text(FLEET, encoding="utf-8")
    program = tmp_path / "fivrec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reconciler "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    words = [*re.findall("[^ =]+|=+", line), *([""] if line.endswith(" ") else [])]
    script = (
        'eval "$(fivrec completion bash)"; COMP_LINE=$1; COMP_POINT=${#1}; shift; COMP_WORDS=("$@")\n'
        'COMP_CWORD=$(($# - 1)); _fivrec_completion fivrec; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    asked = subprocess.run(
        ["bash", "-c", script, "-", line, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stdout.split() == found, asked.stderr
