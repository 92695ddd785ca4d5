"""Shells complete commands and options by the script that fivrec prints."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from reconciler.cli.main import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_fivrec_back(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_FIVREC_COMPLETE={shell}_complete" in printed.output


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
