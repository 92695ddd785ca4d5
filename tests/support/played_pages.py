"""Plays pages of docs/ as a reader would: their shell blocks in one shell, with each fivrec command's exit code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\(umask 077; set -C; )?fivrec ([a-z-]+)")
EXIT = re.compile(r"# exit (\d+)$")
TIMEOUT_S = 900

FIVREC = """#!/bin/sh
case $1 in watch) exec {python} -m reconciler "$@" ;; esac
{python} -m reconciler "$@"
code=$?
echo "$1 $code" >> {log}
exit $code
"""


@dataclass(frozen=True, slots=True)
class Played:
    """Each command with its exit code, as `apply 0`, and what they all printed."""

    codes: Sequence[str]
    stdout: str
    stderr: str


def blocks(page: str) -> list[tuple[str, str]]:
    """Returns language and text of each block of a page below docs/."""
    return FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def promised(script: str) -> list[str]:
    """Returns each fivrec command with the exit code given in its comment, else 0."""
    found = []
    for line in script.splitlines():
        if (command := COMMAND.search(line)) and command[1] != "watch":
            code = EXIT.search(line)
            found.append(f"{command[1]} {code[1] if code else 0}")
    return found


def patient(script: str, *instance: str) -> str:
    """Returns the script with more than `sleep 8` for a slow machine: the nth also waits until n alerts were delivered.
    `instance`: the words that name it."""
    parts = script.split("\nsleep 8\n")
    for number in range(1, len(parts)):
        query = f"SELECT count(sent_at) >= {number} FROM fivrec.alert_outbox"
        words = (sys.executable, "-m", "reconciler", "psql", *instance, "--", "-Atc", query)
        parts[number] = f'sleep 8\nuntil [ "$({shlex.join(words)})" = t ]; do sleep 1; done\n{parts[number]}'
    return "\n".join(parts)


def play(script: str, place: Path) -> Played:
    """Run the script in a folder, with nothing set that fivrec or git would read."""
    log = place.with_name("log")
    log.unlink(missing_ok=True)
    program = place.with_name("bin") / "fivrec"
    program.parent.mkdir(exist_ok=True)
    program.write_text(FIVREC.format(python=shlex.quote(sys.executable), log=shlex.quote(str(log))), encoding="utf-8")
    program.chmod(0o755)
    unset = ("FIV", "DATABASE_URL", "NODE_ENV", "GIT_", "PG")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(unset)}
    environ = {**kept, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=place, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return Played(log.read_text(encoding="utf-8").splitlines(), ran.stdout, ran.stderr)
