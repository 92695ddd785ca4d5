"""`{command: …}`: takes what a program prints within its deadline, whatever the program leaves behind."""

from __future__ import annotations

import time

import pytest

from reconciler.manifest.secrets.sources import SourceError, run_command


def test_a_command_is_read_to_its_end() -> None:
    assert run_command(["sh", "-c", "printf one; sleep 0.1; printf two"], 100) == b"onetwo"


def test_background_processes_of_a_command_are_not_awaited() -> None:
    began = time.monotonic()
    assert run_command(["sh", "-c", "setsid sleep 8 & printf one"], 100, 20.0) == b"one"
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sleep 20", "the command sh took longer than 0.3 s"),
        ("exec >&-; sleep 20", "the command sh took longer than 0.3 s"),
        ("setsid sleep 1 & sleep 20", "the command sh took longer than 0.3 s"),
        ("while :; do printf x; done", "the command sh prints more than 100 bytes"),
        ("printf one; exit 3", "the command sh ended with code 3"),
    ],
)
def test_a_command_that_does_not_do_is_named(script: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        run_command(["sh", "-c", script], 100, 5.0 if "exit" in script or "while" in script else 0.3)
    assert str(caught.value) == said
