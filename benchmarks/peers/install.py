"""Install Ansible and pyinfra into separate virtual environments, once. Says loudly what could not be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The package `ansible` includes the collection community.postgresql, whose modules need psycopg and bcrypt.
PACKAGES = {
    "ansible": ("ansible", "psycopg[binary]", "bcrypt"),
    "pyinfra": ("pyinfra", "bcrypt"),
}
COMMANDS = {"ansible": "ansible-playbook", "pyinfra": "pyinfra"}


def folder() -> Path:
    given = os.environ.get("FIVREC_BENCH_PEERS")
    return Path(given) if given else Path.home() / ".cache" / "fivrec-benchmarks"


def install(name: str) -> Path | None:
    """Returns the virtual environment's folder, or None if pip could not fill it."""
    venv = folder() / name
    finished = venv / f"installed-{len(PACKAGES[name])}"
    if finished.exists():
        return venv
    print(f"installing {name} into {venv} …", file=sys.stderr, flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES[name]],
        [str(venv / "bin" / COMMANDS[name]), "--version"],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        except (OSError, subprocess.TimeoutExpired) as exc:
            _skip(name, str(exc))
            return None
        if done.returncode:
            _skip(name, (done.stderr.strip() or "no reason given").splitlines()[-1])
            return None
    finished.touch()
    return venv


def _skip(name: str, why: str) -> None:
    print(f"!! SKIPPED: {name} could not be installed: {why}", file=sys.stderr, flush=True)
