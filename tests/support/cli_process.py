"""The command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    stdout: str
    stderr: str


def fivrec(
    *words: str,
    env: Mapping[str, str] | None = None,
    python: tuple[str, ...] = (),
    cwd: Path | None = None,
    stdout: IO[str] | int = subprocess.PIPE,
    stderr: IO[str] | int = subprocess.PIPE,
) -> Ended:
    """Run the command to its end, in an environment without any settings for fivrec but those given."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("FIV", "GITHUB_"))}
    done = subprocess.run(
        [sys.executable, *python, "-m", "reconciler", *words],
        cwd=cwd,
        env={**bare, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout or "", done.stderr or "")
