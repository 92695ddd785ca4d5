"""Applies as processes, for tests: start them, let them go, kill them, learn how they ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key

ROOT = Path(__file__).parents[2]


@dataclass
class Ended:
    """How a process ended: its exit code, negative if a signal ended it, and its report."""

    code: int
    report: dict[str, Any] | None


@dataclass
class Runner:
    """`key` is the encryption key of all its runs; each run has a number."""

    process: asyncio.subprocess.Process
    folder: Path
    key: str = field(default_factory=generate_key)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    results: dict[int, Path] = field(default_factory=dict)

    async def start(self, url: Secret, **sections: Any) -> int:
        """Start an apply that waits for `go`. Returns its pid."""
        number = next(self.numbers)
        result = self.folder / f"result-{number}.json"
        job = {"url": url.reveal(), "key": self.key, "sections": sections, "number": number}
        answer = await self._ask(start={**job, "work_dir": str(self.folder), "result": str(result)})
        self.results[answer["pid"]] = result
        return int(answer["pid"])

    async def go(self, pid: int) -> None:
        await self._ask(go=pid)

    async def wait(self, pid: int) -> Ended:
        answer = await self._ask(wait=pid)
        result = self.results.pop(pid)
        return Ended(answer["code"], json.loads(result.read_text()) if result.exists() else None)

    async def _ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return answer


@asynccontextmanager
async def runner(folder: Path) -> AsyncIterator[Runner]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.fault_runner"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Runner(process, folder)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
