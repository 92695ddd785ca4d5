"""When instances are due in `watch`: spread slots, retries, a queue. Pure: times and randomness come in as numbers.

Times are seconds of a monotonic clock. Missed slots are not made up for: after a pause each instance is due once, not
once per missed slot.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import field

from reconciler.model.records import dataclass

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 300.0
_GOLDEN = (math.sqrt(5) - 1) / 2


def phase(position: int) -> float:
    """Returns where in its first interval the instance at this position has its slot, in (0, 1].

    Multiples of the golden ratio fill the interval evenly for any count, even one that grows while we run; random slots
    would put 17 of 200 into one second of a minute that should have 3.
    """
    return 1 - position * _GOLDEN % 1


def next_slot(first: float, interval: float, now: float) -> float:
    """Returns the first slot after `now` of an instance whose slots are first, first + interval, …"""
    if now < first:
        return first
    return first + interval * (math.floor((now - first) / interval) + 1)


def retry_delay(failures: int, chance: float) -> float:
    """Returns the seconds to wait after this many failures in a row: 1 to 2, 2 to 4, … up to 5 minutes. `chance` is in
    [0, 1)."""
    spread = min(LAST_RETRY_S / 2, math.ldexp(FIRST_RETRY_S, min(failures - 1, 16)))
    return spread * (1 + chance)


@dataclass(slots=True)
class Spread:
    """Each name's position among those of its interval: 0 to n-1, whatever comes and goes, so that slots stay even."""

    _names: dict[float, list[str]] = field(default_factory=dict)
    _places: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, name: str, interval: float) -> int:
        names = self._names.setdefault(interval, [])
        names.append(name)
        self._places[name] = interval, len(names) - 1
        return len(names) - 1

    def remove(self, name: str) -> tuple[str, int] | None:
        """Returns the name that takes over the position, if one has to, and the position."""
        interval, position = self._places.pop(name)
        last = self._names[interval].pop()
        if not self._names[interval]:
            del self._names[interval]
        if last == name:
            return None
        self._names[interval][position] = last
        self._places[last] = interval, position
        return last, position


@dataclass(slots=True)
class DueQueue:
    """Which name is due when. Each name is in it once: a new time replaces the old one."""

    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _turns: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, name: str, due: float) -> None:
        self._count += 1
        self._turns[name] = self._count
        heapq.heappush(self._heap, (due, self._count, name))

    def remove(self, name: str) -> None:
        self._turns.pop(name, None)

    def next_due(self) -> float | None:
        """Returns the earliest due time, or None if the queue is empty."""
        while self._heap and self._turns.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)  # it was removed, or has another due time by now
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> str | None:
        """Take out the name that has been due for the longest time, or return None if none is due."""
        due = self.next_due()
        if due is None or due > now:
            return None
        _, _, name = heapq.heappop(self._heap)
        del self._turns[name]
        return name

    def waiting(self, now: float) -> int:
        return sum(1 for due, turn, name in self._heap if due <= now and self._turns.get(name) == turn)
