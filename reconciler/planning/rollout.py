"""A rollout: which instances go first, how many at a time, and when it stops. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.planning.report import DONE, InstanceReport

T = TypeVar("T")

WELL = frozenset({"in_sync", "changed", "skipped"})
"""Outcomes that are not failures. A degraded one counts as a failure: a bad manifest may be the cause."""

AMOUNT = late(r"[0-9]{1,9}|[0-9]{1,3}(\.[0-9]{1,6})?%")


@dataclass(frozen=True, slots=True)
class Rollout:
    """First `canary` instances that have something to change, then `serial` (N or N%) at a time. It stops if more than
    `max_fail` (N or N%, 0 by default) failed, and at any failure of the canary; if nothing is set, it never stops.
    Percentages are of all instances of the run."""

    canary: int = 0
    serial: str | None = None
    max_fail: str | None = None

    @property
    def staged(self) -> bool:
        return bool(self.canary or self.serial or self.max_fail)


def is_amount(text: str) -> bool:
    """Whether the text is N, or N% up to 100%."""
    return AMOUNT.fullmatch(text) is not None and (not text.endswith("%") or float(text[:-1]) <= 100)  # noqa: PLR2004


def share(amount: str, total: int) -> int:
    """Returns the number for N, or for N% of `total`, rounded down."""
    if amount.endswith("%"):
        return int(round(total * float(amount[:-1]) / 100, 9))
    return int(amount)


def waves(items: Sequence[T], rollout: Rollout, proven: Callable[[], int] | None = None) -> Iterator[tuple[T, ...]]:
    """Yields the canary, then waves of `serial`, at least one at a time; without `serial` all the rest at once.

    `proven` returns how many of the canary have changed well so far: while they are too few, the next in the list join
    the canary. An instance that had nothing to do proves nothing.
    """
    total, start, missing = len(items), 0, rollout.canary
    while missing > 0 and start < total:
        yield tuple(items[start : start + missing])
        start += missing
        missing = rollout.canary - proven() if proven is not None else 0
    size = wave_size(total, rollout)
    while start < total:
        yield tuple(items[start : start + size])
        start += size


def wave_size(total: int, rollout: Rollout) -> int:
    return max(1, share(rollout.serial, total)) if rollout.serial else total


def proves(report: InstanceReport) -> bool:
    """Whether it shows that the change does no harm: it was made, and it converged. What Connect says is no change of
    the manifest."""
    made = any(change.key.kind != "status" for change in report.changes)
    return report.outcome == "changed" and report.exit_code == DONE and made


def failed(report: InstanceReport) -> bool:
    return report.outcome not in WELL


def stop_reason(failures: int, total: int, rollout: Rollout, *, canary: bool) -> str | None:
    """Returns why the rollout stops, in words, or None if it goes on. `canary`: the failures are the canary's."""
    if failures and canary:
        return f"{failures} of {min(rollout.canary, total)} canary instances failed"
    if not rollout.staged:  # nobody asked for a rollout that stops: try all, as `fivrec apply` does
        return None
    limit = rollout.max_fail or "0"
    if failures > share(limit, total):
        return f"{failures} of {total} instances failed, more than --max-fail {limit} allows"
    return None
