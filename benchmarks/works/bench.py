"""What every work has at hand: server, Connect, launcher, contenders' programs, and how often to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import contenders
from contenders import Peers
from instances import Fleet, Ground
from measure import BenchmarkError, Contender, Launcher, Result, in_turn
from rows import Ledger
from table import Line, ratio

STUB = Path(__file__).parents[1] / "stub.py"


@dataclass(frozen=True, slots=True)
class Bench:
    ground: Ground
    launcher: Launcher
    peers: Peers
    program: Path
    rounds: int
    count: int | None
    seconds: float
    keep: int

    def has(self, command: str = "") -> bool:
        return contenders.offers(self.program, command)


@contextmanager
def connect_stub(*words: str) -> Iterator[str]:
    """A stub of Connect in a process of its own; gives its URL."""
    command = [sys.executable, str(STUB), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline().split() if process.stdout else []
        if len(said) != 2:
            raise BenchmarkError("the Connect stub did not start")
        yield f"http://127.0.0.1:{said[1]}"
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait()


def settle(bench: Bench, fleet: Fleet) -> bool:
    """fivrec takes the fleet over, so that the next apply is a no-op; False where fivrec can't apply (yet)."""
    if not bench.has("apply"):
        return False
    apply = contenders.fivrec(bench.program, "apply", str(fleet.manifest), "-o", "json", env=fleet.env)
    print(f"fivrec takes over {len(fleet)} instances …", file=sys.stderr, flush=True)
    bench.launcher.run(apply)
    return True


def compare(
    bench: Bench, fleet: Fleet, found: Sequence[Contender | None], rounds: int | None = None
) -> tuple[Result, ...]:
    """No-op runs in turn; a program that did other work than the others ends the benchmark."""
    ledger = Ledger(bench.ground.server, fleet)
    results = in_turn(bench.launcher, [one for one in found if one], rounds or bench.rounds, after=ledger.record)
    ledger.verify()
    return results


def lines(results: Sequence[Result], beside: Result | None, *, by: Callable[[Result], float]) -> tuple[Line, ...]:
    """A table's lines; the ratios are to `beside`."""
    return tuple(
        Line(
            result.contender.name + (f" ({result.contender.work} instances)" if result.contender.work > 1 else ""),
            result.seconds,
            result.rate,
            result.memory,
            "" if beside is None else f"{ratio(by(result), by(beside)):.2f} ×",
            result.cpu,
        )
        for result in results
    )


def named(results: Sequence[Result], name: str) -> Result | None:
    return next((result for result in results if result.contender.name.startswith(name)), None)


def seconds(result: Result | None) -> float | None:
    return None if result is None else result.seconds


def rate(result: Result | None) -> float | None:
    return None if result is None else result.rate


def peers_note(bench: Bench, few: Fleet) -> tuple[str, ...]:
    there = [name for name, venv in (("Ansible", bench.peers.ansible), ("pyinfra", bench.peers.pyinfra)) if venv]
    return (f"{' and '.join(there)} did {len(few)} of the instances.",) if there else ()
