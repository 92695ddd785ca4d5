"""The environment that fivrec and the bare scripts run in: this checkout and its dependencies alone, as users have it.

Where more is installed the figures lie: httpx loads a command line of its own beside rich and pygments, which makes the
bare scripts 40 ms slower than they are for users, and fivrec better than it is. Knows nothing of what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "FIVREC_BENCH_ENVIRONMENT"


def enter() -> None:
    """Make it anew where the caller is not in it yet, and go on there with the same arguments."""
    if os.environ.get(MARK):
        return
    folder = Path.home() / ".cache" / "fivrec-benchmarks" / "fivrec"
    python = folder / "bin" / "python"
    print(f"installing fivrec into {folder} …", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, MARK: str(folder)})
