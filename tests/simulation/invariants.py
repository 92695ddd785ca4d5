"""What must hold in a world, whatever went wrong in it. Each function returns the violations that it found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from reconciler.watch.instance_state import BEHIND
from tests.simulation.shapes import Shape
from tests.simulation.world import HIDES, FakeInstance

KINDS = {
    "failing": "failing",
    "not_converged": "failing",
    "connect_unreachable": "unreachable",
    "suspended": "status",
    "payment_pending": "status",
}
"""The alerts that begin a trouble, of which one per kind may be active."""


@dataclass(slots=True)
class Life:
    """What happened to the whole service: `down` are periods without any running process, `restarts` when one began,
    `shifts` when the queue was restored from a backup, or its clock moved."""

    shape: Shape
    restarts: list[float] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.shape.end


MEANT = ("RuntimeError", "OSError", "CancelledError")
"""Errors raised on purpose: in cycles, when files are read, and when a process is killed."""


def is_unforeseen(record: Mapping[str, Any]) -> bool:
    """Whether a part of a service, or a cycle, ended in a way that the seed did not cause."""
    ended = record.get("alert") == "part_failed" or record.get("error") == "internal"
    return ended and not any(name in str(record["message"]) for name in MEANT)


def slot_of(begun: float, slot: float, interval: float) -> float:
    """Returns the slot that a cycle belongs to: the next one if it has come, else the previous one, as for a retry.
    Based on the slot itself, since after a change of position a slot of the old position comes first."""
    return round(slot if begun + 0.001 >= slot else slot - interval, 3)


def quiet_stretches(one: FakeInstance, life: Life, begin: float, *, also: Sequence[str] = ()) -> Iterator[Any]:
    """Yields stretches from the end of the last event to the next event, as (begin, end)."""
    hidden = [(a, b) for a, b, what in one.faults if what in HIDES or what in also]
    edges = sorted([*hidden, *life.down, *((at, at) for at in one.touched), *((at, at) for at in life.restarts)])
    at = begin
    for start, end in edges:
        if start > at:
            yield at, min(start, life.end)
        at = max(at, end)
    if at < life.end:
        yield at, life.end


def missing(one: FakeInstance, life: Life, begin: float) -> Iterator[str]:
    """A check and a usage report in every interval in which anything could be recorded.

    A lost cycle's check is taken for another watch's, and followed, if its slot is no longer known: the queue was
    restored, its clock moved, or the manifest changed.
    """
    for over, end in quiet_stretches(one, life, begin):
        start = over + life.shape.slack_s
        for what, times in (("check", [check.at for check in one.checks]), ("usage report", one.usage)):
            if what == "usage report" and start < begin + one.interval + life.shape.slack_s:
                continue  # the startup check has none
            marks = [start, *(at for at in times if start <= at <= end), end]
            for before, after in pairwise(marks):
                since = before - one.interval - life.shape.slack_s
                shifted = any(since <= at <= after for at in (*life.shifts, *one.touched))
                late = 1.0 if what == "usage report" else BEHIND  # a slot that came already has its report
                longest = one.interval * (1 + late if shifted else 1)
                if after - before > longest + life.shape.slack_s:
                    yield f"{one.name}: no {what} from {before:.0f} to {after:.0f}, interval {one.interval:.0f}"


def wrong_lock(one: FakeInstance, life: Life, begin: float) -> Iterator[str]:
    """At the end of each stretch longer than an interval, the lock is what Connect says."""
    for start, end in quiet_stretches(one, life, begin, also=("unreachable", "429")):
        last = max(at for at, _ in one.statuses if at <= end)
        if end - max(start, last) < one.interval + life.shape.slack_s or one.suspend or end < life.end:
            continue
        said, locked = one.status(end), bool(one.row and one.row.get("is_locked"))
        if (said, locked) in (("suspended", False), ("active", True)):
            yield f"{one.name}: {said} at Connect, and locked is {locked}"


def over_kinds(event: Mapping[str, Any]) -> Iterator[str]:
    """Yields the kinds that ended, from the alert's text: one alert may report several."""
    said = str(event["message"])
    if "reconciled again" in said or "was" in event:
        yield "failing"
    if "answers again" in said:
        yield "unreachable"
    if "active, " in said:
        yield "status"


def repeated_alerts(
    events: Sequence[dict[str, Any]], forgets: Callable[[str | None], Sequence[float]]
) -> Iterator[str]:
    """A trouble begins once, until it has ended or is a different one. `forgets`: when it may be reported again,
    because a process started or the end of a cycle was lost."""
    begun: dict[tuple[str | None, str], tuple[str | None, float]] = {}
    ended: defaultdict[tuple[str | None, str], float] = defaultdict(float)
    for event in events:
        instance, alert, at = event["instance"], event["alert"], event["at"]
        if alert == "recovered":
            for kind in over_kinds(event) if instance else ():
                at_risk = begun.pop((instance, kind), None) is None
                if at_risk and not any(ended[instance, kind] <= one <= at for one in forgets(instance)):
                    yield f"{instance}: {kind} is over at {at:.0f}, and had not begun"
                ended[instance, kind] = at
        elif alert in KINDS:
            kind, said = KINDS[alert], event.get("error") or alert
            code, since = begun.get((instance, kind), ("", at))
            if code == said and not any(since <= moment <= at for moment in forgets(instance)):
                yield f"{instance}: {alert} ({code}) begins at {since:.0f} and again at {at:.0f}"
            begun[instance, kind] = said, at
