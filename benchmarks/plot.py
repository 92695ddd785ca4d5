"""`python benchmarks/plot.py figures.json docs/`: instances/s and memory over the number of instances, as SVG.

Draws what `run.py scale --json figures.json` wrote. The pictures follow the reader's light or dark setting.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 50
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .ground { fill: #ffffff }
  .title { font-size: 16px; font-weight: 600 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
  .c0 { stroke: #0969da } .d0 { fill: #0969da }
  .c1 { stroke: #8250df; stroke-dasharray: 7 4 } .d1 { fill: #8250df }
  .c2 { stroke: #9a6700; stroke-dasharray: 2 3 } .d2 { fill: #9a6700 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #3d444d }
    .c0 { stroke: #58a6ff } .d0 { fill: #58a6ff }
    .c1 { stroke: #bc8cff } .d1 { fill: #bc8cff }
    .c2 { stroke: #e3b341 } .d2 { fill: #e3b341 }
  }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a logarithmic number of instances; the other axis starts at 0."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[Point]]

    def svg(self) -> str:
        numbers = sorted({x for line in self.lines.values() for x, _ in line})
        top = _round_up(max(y for line in self.lines.values() for _, y in line))
        across = _across(numbers)
        parts = [*self._frame(numbers, top, across)]
        drawn = ((name, [(across(x), _up(y, top)) for x, y in line]) for name, line in self.lines.items())
        labels = _apart([(name, points) for name, points in drawn])
        for number, (name, points, height) in enumerate(labels):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline class="line c{number}" points="{path}"/>')
            parts += [f'<circle class="d{number}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
            parts.append(f'<text x="{points[-1][0] + 10:.1f}" y="{height:.1f}">{escape(name)}</text>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}">\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
        )

    def _frame(self, numbers: Sequence[float], top: float, across: Callable[[float], float]) -> list[str]:
        parts = ['<rect class="ground" width="100%" height="100%" rx="6"/>']  # its own: a page may have another theme
        parts.append(f'<text class="title" x="{LEFT}" y="24">{escape(self.title)}</text>')
        for step in range(5):
            value = top * step / 4
            y = _up(value, top)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for number in numbers:
            x = across(number)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{number:g}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">instances</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{TOP - 10}" text-anchor="end">{escape(self.unit)}</text>')
        return parts


def charts(points: Sequence[Mapping[str, Any]]) -> dict[str, Chart]:
    """Returns charts by file name, from the points of the work `scale`."""
    names = sorted({str(point["contender"]) for point in points}, reverse=True)

    def lines(value: Callable[[Mapping[str, Any]], float]) -> dict[str, list[Point]]:
        return {
            _shown(name): sorted((point["instances"], value(point)) for point in points if point["contender"] == name)
            for name in names
        }

    return {
        "scaling-rate.svg": Chart(
            "No-op apply, fresh connections: instances per second", "1/s", lines(lambda point: point["rate"])
        ),
        "scaling-memory.svg": Chart(
            "No-op apply: memory of the process", "MiB", lines(lambda point: point["memory"] / 1024 / 1024)
        ),
    }


def write(points: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in charts(points).items():
        path = folder / name
        path.write_text(chart.svg())
        written.append(path)
    return written


def _shown(name: str) -> str:
    return {"bare": "bare script"}.get(name, name)


def _across(numbers: Sequence[float]) -> Callable[[float], float]:
    low, high = math.log10(numbers[0]), math.log10(numbers[-1])
    span = (high - low) or 1
    return lambda number: LEFT + 15 + (math.log10(number) - low) / span * (WIDTH - RIGHT - LEFT - 30)


def _up(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    """Returns the next value whose quarters read well."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)


def _apart(lines: Sequence[tuple[str, list[Point]]]) -> list[tuple[str, list[Point], float]]:
    """Returns the lines with the height of each one's name: at its end, but never on another's."""
    placed: list[tuple[str, list[Point], float]] = []
    taken: list[float] = []
    for name, points in sorted(lines, key=lambda line: line[1][-1][1]):
        height = points[-1][1] + 4
        while any(abs(height - other) < 16 for other in taken):
            height += 4
        taken.append(height)
        placed.append((name, points, height))
    order = [name for name, _ in lines]
    return sorted(placed, key=lambda one: order.index(one[0]))


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 64
    figures = json.loads(Path(sys.argv[1]).read_text())
    points = figures["works"].get("scale", {}).get("points")
    if not points:
        print(f"{sys.argv[1]} holds no figures of the work scale: run it with --json first", file=sys.stderr)
        return 65
    for path in write(points, Path(sys.argv[2])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
