"""A benchmark's results as a markdown table and as JSON. Formats; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

MIB = 1024 * 1024
BEGIN, END = "<!-- figures of benchmarks/run.py: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True, slots=True)
class Line:
    """One contender: seconds of a run, instances per second, bytes of its largest process, CPU seconds; PostgreSQL's
    CPU seconds per instance and the run's TLS handshakes with Connect, if counted."""

    contender: str
    seconds: float | None
    rate: float | None
    memory: float | None
    ratio: str = ""
    cpu: float | None = None
    server_cpu: float | None = None
    handshakes: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A requirement: `value` must be at most, or at least, `bound`. `value` is None if a part was skipped."""

    text: str
    value: float | None
    bound: float
    way: Literal["at most", "at least"]

    @property
    def reached(self) -> str:
        if self.value is None:
            return "not measured"
        met = self.value <= self.bound if self.way == "at most" else self.value >= self.bound
        return "yes" if met else "NO"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One work's table. `points` are the data for a plot."""

    work: str
    title: str
    lines: tuple[Line, ...]
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()
    points: tuple[dict[str, Any], ...] = ()


def ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def markdown(outcomes: Sequence[Outcome]) -> str:
    return "\n".join(_section(outcome) for outcome in outcomes)


def write_into(page: Path, outcomes: Sequence[Outcome], machine: dict[str, Any]) -> None:
    """Put all results between the page's marks: the requirements first, then each work."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no {BEGIN} and {END}")
    named = ", ".join(f"{name} {value}" for name, value in machine.items())
    page.write_text(f"{before}{begin}\n\n{named}.\n\n{_asked(outcomes)}\n{markdown(outcomes)}\n{end}{after}")


def _asked(outcomes: Sequence[Outcome]) -> str:
    lines = ["| work | what | found | asked | reached |", "| --- | --- | ---: | ---: | --- |"]
    for outcome in outcomes:
        lines += [f"| `{outcome.work}` {_target(target)}" for target in outcome.targets]
    return "\n".join(lines) + "\n"


def _target(target: Target) -> str:
    sign = "≤" if target.way == "at most" else "≥"
    return f"| {target.text} | {_number(target.value)} | {sign} {target.bound:g} | {target.reached} |"


def as_json(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> dict[str, Any]:
    works = {outcome.work: _plain(outcome) for outcome in outcomes}
    return {"version": 1, "machine": machine, "works": works}


def _plain(outcome: Outcome) -> dict[str, Any]:
    targets = [asdict(target) | {"reached": target.reached} for target in outcome.targets]
    return asdict(outcome) | {"targets": targets}


def _section(outcome: Outcome) -> str:
    lines = [f"### {outcome.title}", ""]
    lines += [
        "| contender | median | CPU | instances/s | memory | PostgreSQL's CPU each | TLS handshakes | beside |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for line in outcome.lines:
        cells = (line.contender, _seconds(line.seconds), _seconds(line.cpu), _number(line.rate))
        others = (_milliseconds(line.server_cpu), "" if line.handshakes is None else f"{line.handshakes:.0f}")
        lines.append("| " + " | ".join((*cells, _mebibytes(line.memory), *others, line.ratio)) + " |")
    if outcome.targets:
        lines += ["", "| target | found | asked | reached |", "| --- | ---: | ---: | --- |"]
    lines += map(_target, outcome.targets)
    lines += ["", *(f"- {note}" for note in outcome.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1000:.1f} ms"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value / MIB:.0f} MiB"
