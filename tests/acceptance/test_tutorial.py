"""docs/tutorial.md, played from its first line to its last: each command ends as the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"# exit (\d+)$")
TIMEOUT_S = 300

FIVREC = """#!/bin/sh
case $1 in watch) exec {python} -m reconciler "$@" ;; esac
{python} -m reconciler "$@"
code=$?
echo "$1 $code" >> {log}
exit $code
"""


def script() -> str:
    """All that a reader types: shell blocks, and the manifest where the page has it saved."""
    pieces = []
    for language, body in FENCE.findall(PAGE):
        if language == "yaml":
            pieces.append(f"cat > clients.yaml <<'END'\n{body}END\n")
        elif language == "sh":
            pieces.append(body)
    return "\n".join(pieces)


def promised() -> list[str]:
    """Each fivrec command of the page with its exit code, which is 0 unless a comment says otherwise."""
    found = []
    for line in script().splitlines():
        if line.startswith("fivrec ") and not line.startswith("fivrec watch"):
            code = EXIT.search(line)
            found.append(f"{line.split()[1]} {code[1] if code else 0}")
    return found


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = tmp_path / "bin/fivrec"
    program.parent.mkdir()
    program.write_text(FIVREC.format(python=shlex.quote(sys.executable), log=shlex.quote(str(log))), encoding="utf-8")
    program.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FIV", "DATABASE_URL", "NODE_ENV", "GIT_"))
    }
    environ = {**kept, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", script()], cwd=place, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert log.read_text(encoding="utf-8").splitlines() == promised(), ran.stdout + ran.stderr
    assert "client-b: 🔎 1 changes found and left (1 drift): queue/Sales update (drift)" in ran.stderr
    assert "+  - {instance: client-a" in ran.stdout
