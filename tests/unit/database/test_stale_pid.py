"""Whether the process number in postmaster.pid belongs to another PostgreSQL, without calling other programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reconciler.database.embedded.cluster import _command_of


def test_a_process_is_known_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/proc/self/cmdline"):  # noqa: PTH110
        pytest.skip("this system has no /proc, and ps")
    monkeypatch.setenv("PATH", "/nonexistent")
    command = [sys.executable, "-c", "print(flush=True); input()", "/srv/data"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()  # wait until it has started
        assert _command_of(other.pid) == f"{' '.join(command)} "
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert _command_of(other.pid) == ""  # a zombie
    assert _command_of(other.pid) == ""
