"""Charts of status checks as inline SVG: classes for colours, a title for people who don't see them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup, escape

from reconciler.database.status_queries import CheckLog

_SPARK = (120, 28)
_CHART = (920, 220)
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 14, 30
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)


def sparkline(checks: Sequence[CheckLog], title: str) -> Markup:
    """Response times of the last checks, the oldest on the left; failed ones as dots at the bottom."""
    width, height = _SPARK
    shown = list(reversed(checks[:30]))
    if not shown:
        return Markup('<span class="muted">—</span>')
    top = max((check.response_time_ms or 0 for check in shown), default=0) or 1
    step = (width - 8) / max(1, len(shown) - 1)
    points, failed = [], []
    for number, check in enumerate(shown):
        x = 4 + number * step
        if check.success:
            points.append((x, height - 4 - (height - 8) * (check.response_time_ms or 0) / top))
        else:
            failed.append(f'<circle class="failed" cx="{x:.1f}" cy="{height - 4}" r="2.5"/>')
    line = f'<polyline class="line" points="{_pairs(points)}"/>' if len(points) > 1 else ""
    end = f'<circle class="end" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2.5"/>' if points else ""
    return Markup(  # noqa: S704 (the numbers are fivrec's; the title is escaped)
        f'<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(title)}</title>{line}{''.join(failed)}{end}</svg>"
    )


def timeline(checks: Sequence[CheckLog], title: str) -> Markup:
    """Response time over time: a line, a dot per check coloured by Connect's status, failed ones at the bottom."""
    width, height = _CHART
    shown = list(reversed(checks))
    if not shown:
        return Markup("")
    top = _ceiling(max((check.response_time_ms or 0 for check in shown), default=0))
    first, last = shown[0].at, shown[-1].at
    foot, span = height - _BOTTOM, (last - first).total_seconds() or 1.0

    def place(check: CheckLog) -> tuple[float, float]:
        x = _LEFT + (width - _LEFT - _RIGHT) * (check.at - first).total_seconds() / span
        return x, foot - (foot - _TOP) * (check.response_time_ms or 0) / top

    line = _pairs([place(check) for check in shown if check.success])
    dots = "".join(_dot(check, *place(check), foot) for check in shown)
    grid = "".join(_rule(foot - (foot - _TOP) * share, f"{top * share:g} ms") for share in (0, 0.5, 1))
    times = "".join(_time(at, x, anchor) for at, x, anchor in _ends(first, last, width))
    return Markup(  # noqa: S704 (as above)
        f'<svg class="timeline" viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>'
        f'{grid}{times}<polyline class="line" points="{line}"/>{dots}</svg>'
    )


def _dot(check: CheckLog, x: float, y: float, foot: float) -> str:
    word = check.status_received if check.success else "failed"
    kind = word if word in ("active", "suspended", "pending_payment", "failed") else "unknown"
    said = escape(f"{check.at:%Y-%m-%d %H:%M:%S} UTC · {check.check_type} · {word} · {check.response_time_ms or 0} ms")
    if not check.success:
        shape = f'<path class="dot failed" d="M{x - 4:.1f} {foot - 8} l8 8 m0 -8 l-8 8"/>'
    else:
        shape = f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    return f"<g><title>{said}</title>{shape}</g>"


def _rule(y: float, label: str) -> str:
    return (
        f'<line class="rule" x1="{_LEFT}" x2="{_CHART[0] - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _ends(first: datetime, last: datetime, width: int) -> list[tuple[datetime, float, str]]:
    ends = [(first, float(_LEFT), "start"), (last, float(width - _RIGHT), "end")]
    return ends if first != last else ends[:1]


def _time(at: datetime, x: float, anchor: str) -> str:
    return f'<text class="axis" x="{x:.1f}" y="{_CHART[1] - 8}" text-anchor="{anchor}">{at:%Y-%m-%d %H:%M}</text>'


def _ceiling(value: int) -> int:
    return next((step for step in _STEPS if step >= value), value)


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
