"""The environment of fivrec and the bare scripts: only this checkout and its dependencies, as users have it.

If more is installed the figures are wrong: next to rich and pygments, httpx loads a command line of its own, which
makes the bare scripts 40 ms slower than for users, and fivrec look better than it is. Knows nothing of what is
measured.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "FIVREC_BENCH_ENVIRONMENT"


def enter() -> None:
    """Make the environment unless this process runs in it, and restart there with the same arguments."""
    if os.environ.get(MARK):
        return
    name = f"fivrec-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}"  # another checkout measures another fivrec
    folder = Path.home() / ".cache" / "fivrec-benchmarks" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    _claim(folder.with_suffix(".lock"))
    python = folder / "bin" / "python"
    print(f"installing fivrec into {folder} …", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, MARK: str(folder)})


def _claim(lock: Path) -> None:
    """Allow one run at a time: the inherited descriptor keeps the lock through execve until the process ends."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
