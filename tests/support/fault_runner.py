"""Runs applies as processes that a test may kill, forked from here, where everything is imported already.

Speaks JSON lines on stdin and stdout: {"start": job} forks a child that waits, {"go": pid} lets it begin, {"wait": pid}
returns its exit code. Ends when stdin closes, and takes its children with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of


def apply(job: dict[str, Any]) -> int:
    """Run one apply and leave its report as a file."""
    keys = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": job["key"]})
    desired = desired_of(document(**job["sections"]), Secret(job["url"]))
    report = asyncio.run(reconcile(desired, run_of(keys, Path(job["work_dir"]), job["number"])))
    error = asdict(report.error) if report.error else None
    told = {"outcome": report.outcome, "exit_code": report.exit_code, "error": error, "run": job["number"]}
    Path(job["result"]).write_text(json.dumps(told))
    return report.exit_code


def start(job: dict[str, Any], gates: dict[int, int]) -> int:
    gate, opener = os.pipe()
    pid = os.fork()
    if pid:
        os.close(gate)
        gates[pid] = opener
        return pid
    code = 70
    try:
        os.close(opener)
        if os.read(gate, 1):
            code = apply(job)
    finally:
        os._exit(code)


def main() -> None:

    gates: dict[int, int] = {}
    for line in sys.stdin:
        match json.loads(line):
            case {"start": job}:
                answer: Any = {"pid": start(job, gates)}
            case {"go": pid}:
                os.write(gates[pid], b"x")
                answer = {}
            case {"wait": pid}:
                _, status = os.waitpid(pid, 0)
                os.close(gates.pop(pid))
                answer = {"code": os.waitstatus_to_exitcode(status)}
        print(json.dumps(answer), flush=True)
    for pid in gates:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
