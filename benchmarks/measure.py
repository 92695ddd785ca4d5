"""Run contenders in turn and keep their measurements. Starts processes; judges nothing."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

LAUNCHER = Path(__file__).with_name("launcher.py")


class BenchmarkError(Exception):
    """The benchmark can't continue: the message says what failed and shows the end of its stderr."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One command for the same work. One run handles `work` instances; `codes` are the accepted exit codes."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    work: int = 1
    rounds: int | None = None
    codes: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of wall clock and CPU, bytes of the largest process, the file with its output, and its cost to the
    servers: see `Meter`."""

    wall: float
    cpu: float
    memory: int
    code: int
    out: Path
    others: Mapping[str, float] = field(default_factory=dict)

    def stdout(self) -> str:
        return self.out.with_suffix(".out").read_text(errors="replace")

    def stderr(self) -> str:
        return self.out.with_suffix(".err").read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of one contender."""

    contender: Contender
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        return statistics.median(run.wall for run in self.runs)

    @property
    def rate(self) -> float:
        """Instances per second."""
        return self.contender.work / self.seconds

    @property
    def cpu(self) -> float:
        """CPU seconds of the command and its children: steadier than the clock on a busy machine."""
        return statistics.median(run.cpu for run in self.runs)

    def other(self, name: str) -> float | None:
        """Returns PostgreSQL's cost per instance, or Connect's per run; None if it was not measured."""
        found = [run.others[name] for run in self.runs if name in run.others]
        return statistics.median(found) if found else None

    @property
    def memory(self) -> int:
        return int(statistics.median(run.memory for run in self.runs))


Meter: TypeAlias = Callable[[], Mapping[str, float]]
"""Reads the servers' counters, which only grow: a run is charged with the difference."""


class Launcher:
    """The small process that starts the contenders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, contender: Contender) -> tuple[int, Path]:
        """Start the command. Returns its pid, and the file for its output."""
        self.count += 1
        out = self.folder / f"run-{self.count:05}"
        asked = {
            "argv": list(contender.argv),
            "env": environment() | dict(contender.env),
            "folder": str(self.folder),
            "out": str(out),
        }
        return int(self._ask(asked)["pid"]), out

    def wait(self, pid: int, out: Path) -> Run:
        return Run(**self._ask({"wait": pid}), out=out)

    def run(self, contender: Contender) -> Run:
        pid, out = self.start(contender)
        try:
            run = self.wait(pid, out)
        except BaseException:
            stop(pid)
            raise
        if run.code not in contender.codes:
            raise BenchmarkError(f"{contender.name} ended with {run.code}:\n{errors(run)}")
        return run

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise BenchmarkError("the launcher has no pipes")
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise BenchmarkError("the launcher ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def launcher(folder: Path) -> Iterator[Launcher]:
    opened = Launcher(folder)
    try:
        yield opened
    finally:
        opened.close()


def environment() -> dict[str, str]:
    """Returns every contender's environment: only the caller's paths, so that runs are comparable."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"NO_COLOR": "1"}


def stop(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def errors(run: Run) -> str:
    """Returns the messages of a failed run: the errors in fivrec's report, or the end of its output."""
    try:
        report = json.loads(run.stdout())
    except ValueError:
        return (run.stdout()[-1000:] + run.stderr()[-2000:]).strip()
    failed = [f"{one['instance']}: {one['error']}" for one in report.get("instances", ()) if one["error"]]
    return "\n".join(failed or [str(report.get("error"))])


def in_turn(
    start: Launcher,
    contenders: Sequence[Contender],
    rounds: int,
    *,
    before: Callable[[Contender], None] = lambda _: None,
    after: Callable[[Contender], None] = lambda _: None,
    meter: Meter = dict,
) -> tuple[Result, ...]:
    """Run a b c a b c …: the machine's noise affects all alike. The first round warms caches and is not counted.

    A contender with its own `rounds` runs only that often, from the first counted round on.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            if contender.rounds is not None and not 1 <= number <= contender.rounds:
                continue
            before(contender)
            counted = meter()
            run = start.run(contender)
            run = replace(run, others={name: value - counted[name] for name, value in meter().items()})
            after(contender)
            if number:
                runs[contender.name].append(run)
            print(f"  {contender.name}: {run.wall:.3f} s", file=sys.stderr, flush=True)
    return tuple(Result(contender, tuple(runs[contender.name])) for contender in contenders)
