"""If two writers keep correcting each other, find the field and leave it alone. Pure.

The lock, what Connect says and row-level security are corrected every time: nobody wins by writing more often. Any
other field that we corrected more than 3 times in 10 minutes is a fight. It is then ignored as if the manifest had an
`ignore` entry for it: the plan shows it as accepted drift, and everything else goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field

from reconciler.model.changes import Change, Deactivate, Update
from reconciler.model.records import dataclass
from reconciler.model.types import Ignore, Value
from reconciler.planning.diff import FOUNDATIONS
from reconciler.planning.plan import Plan

WINDOW_S = 600.0
MOST = 3
NEVER_HELD = frozenset({"environment", "status"})
"""Kinds that are corrected every time."""


@dataclass(slots=True)
class Flapping:
    """What was corrected recently in one instance, and which fields are left alone. Times are monotonic seconds."""

    _corrected: dict[str, list[float]] = field(default_factory=dict)
    _held: dict[str, float] = field(default_factory=dict)

    @property
    def held(self) -> tuple[str, ...]:
        """The fields left alone, as kind/name/field, or kind/name if the whole row is fought over."""
        return tuple(sorted(self._held))

    @property
    def memory(self) -> dict[str, dict[str, Value]]:
        """Everything as JSON, for a turn in another process."""
        return {"corrected": dict(self._corrected), "held": dict(self._held)}

    @classmethod
    def remembered(cls, memory: Mapping[str, Mapping[str, Value]]) -> Flapping:
        held = {path: since for path, since in memory["held"].items() if not never_held(path)}
        return cls({path: list(times) for path, times in memory["corrected"].items()}, held)

    def ignores(self) -> tuple[Ignore, ...]:
        reason = f"fought over: corrected more than {MOST} times in {WINDOW_S / 60:g} minutes"
        return tuple(Ignore(_escaped(path), reason) for path in self.held)

    def corrected(self, plan: Plan, now: float) -> tuple[str, ...]:
        """Record a plan that was applied. Returns the fields that are fought over from now on; they are held, unless
        `never_held`."""
        found: list[str] = []
        for path in _corrections(plan.changes):
            times = [at for at in self._corrected.get(path, ()) if at > now - WINDOW_S]
            times.append(now)
            self._corrected[path] = times
            if never_held(path):
                found += [path] if len(times) == MOST + 1 else []
            elif len(times) > MOST and path not in self._held:
                self._held[path] = now
                found.append(path)
        return tuple(sorted(found))

    def seen(self, plan: Plan, now: float) -> tuple[str, ...]:
        """Record a new plan. Returns the fields that did not differ for 10 minutes: they are corrected again."""
        self._corrected = {path: at for path, at in self._corrected.items() if at[-1] > now - WINDOW_S}
        fought = {str(one.key) if one.field == "*" else f"{one.key}/{one.field}" for one in plan.accepted}
        over: list[str] = []
        for path in self.held:
            if path in fought:
                self._held[path] = now
            elif now - self._held[path] >= WINDOW_S:
                over.append(path)
                self._forget(path)
        return tuple(over)

    def clear(self) -> None:
        """Forget everything: a new manifest is a new intent."""
        self._corrected.clear()
        self._held.clear()

    def _forget(self, path: str) -> None:
        del self._held[path]
        self._corrected.pop(path, None)


def never_held(path: str) -> bool:
    return path.partition("/")[0] in NEVER_HELD


def _corrections(changes: Iterable[Change]) -> Iterable[str]:
    """Yields what a plan corrects of others' changes: by field if a field can be left alone, else by row."""
    for change in changes:
        if change.cause != "drift" or change.key.kind in FOUNDATIONS:
            continue
        if isinstance(change, Update | Deactivate):
            yield from (f"{change.key}/{one.field}" for one in change.fields)
        else:
            yield str(change.key)


def _escaped(path: str) -> str:
    """Escapes *, ? and [, so that a name with them means itself."""
    return re.sub(r"([*?[])", r"[\1]", path)
