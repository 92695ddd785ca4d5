"""Run contenders in turn and keep what each took. Starts processes; judges nothing."""

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
    """The benchmark can't go on: the message says what failed and shows the end of its stderr."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One command on the same work. `work` instances are done by one run; `codes` are the exit codes that count."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    work: int = 1
    rounds: int | None = None
    codes: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of wall clock and CPU, bytes of the largest process, where its output stands, and what it cost others:
    see `Meter`."""

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
        """Seconds of CPU of the command and what it waited for: steadier than the clock on a busy machine."""
        return statistics.median(run.cpu for run in self.runs)

    def other(self, name: str) -> float | None:
        """What an instance cost PostgreSQL, a run cost Connect; None if nobody looked."""
        found = [run.others[name] for run in self.runs if name in run.others]
        return statistics.median(found) if found else None

    @property
    def memory(self) -> int:
        return int(statistics.median(run.memory for run in self.runs))


Meter: TypeAlias = Callable[[], Mapping[str, float]]
"""Reads counters of the servers, which only grow: a run is charged with the difference."""


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
        """The command's pid, and where its output goes."""
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
    """What every contender gets: nothing of the caller's but the paths, so that runs compare."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"NO_COLOR": "1"}


def stop(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def errors(run: Run) -> str:
    """What a failed run said: the errors of fivrec's report, or the end of what was printed."""
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
    """a b c a b c …: noise of the machine falls on all alike. The first round warms caches and is not counted.

    A contender with `rounds` of its own is run that often only, from the first counted round on.
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
