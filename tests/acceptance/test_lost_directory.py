"""If the working directory is gone, a command says so in plain words, with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        "apply fleet -o json",
        f"apply {ROOT}/manifests/client.yaml",
        "status fleet",
        "init",
        "watch fleet",
        "serve fleet",
    ],
)
def test_a_lost_working_directory_is_reported(command: str, tmp_path: Path) -> None:
    gone = tmp_path / "release"
    gone.mkdir()
    script = f'rmdir "$PWD"; exec {sys.executable} -m reconciler {command}'
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    ended = subprocess.run(
        ["/bin/sh", "-c", script], cwd=gone, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    said = "the working directory was removed, or replaced by another one of its name"
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (1, f"error [directory_gone]: {said}")
    if ended.stdout:
        assert json.loads(ended.stdout)["error"]["code"] == "directory_gone"
