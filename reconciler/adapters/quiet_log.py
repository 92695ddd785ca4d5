"""A log for a process that never ends: one error is said once in a while, with a count of its repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from reconciler.adapters.log import EventLog, Level
from reconciler.model.types import Value

QUIET_S = 300.0
_MANY = 10_000


@dataclass(slots=True)
class _Said:
    at: float
    repeats: int = 0


@dataclass(slots=True)
class QuietLog(EventLog):
    """Warnings and errors of one operation, instance and error code come once in 5 minutes. Alerts, which tell of
    transitions, always come. Listeners hear everything."""

    clock: Callable[[], float] = monotonic
    _said: dict[tuple[str, str | None, str], _Said] = field(default_factory=dict)

    def event(
        self, level: Level, operation: str, message: str, *, instance: str | None = None, **fields: Value
    ) -> None:
        if level >= Level.WARNING and operation != "alert":
            repeats = self._repeats((operation, instance, str(fields.get("error") or message)))
            if repeats is None:
                for listener in self.listeners:
                    listener(self.record(level, operation, message, instance=instance, **fields))
                return
            if repeats:
                message = f"{message} (and {repeats} times more in the last {QUIET_S / 60:g} minutes)"
                fields["repeats"] = repeats
        # No zero-argument super(): a dataclass with slots is a class made anew.
        EventLog.event(self, level, operation, message, instance=instance, **fields)

    def _repeats(self, key: tuple[str, str | None, str]) -> int | None:
        """How often it was held back since it was said last; None where it is to be held back now."""
        now = self.clock()
        said = self._said.get(key)
        if said is not None and now - said.at < QUIET_S:
            said.repeats += 1
            return None
        if len(self._said) >= _MANY:
            self._said = {one: it for one, it in self._said.items() if now - it.at < QUIET_S}
        self._said[key] = _Said(now)
        return said.repeats if said else 0
