"""The log of a service: a trouble that goes on is written once in five minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from time import monotonic

from reconciler.model.records import dataclass
from reconciler.model.types import Value
from reconciler.support.log import EventLog, Level, Patience

QUIET_S = 300.0
_MANY = 10_000


@dataclass(slots=True)
class _Said:
    at: float
    repeats: int = 0


@dataclass(slots=True)
class QuietLog(EventLog):
    """Writes warnings and errors of one operation, instance and error code (for `notify`, also receiver and reason)
    once in 5 minutes. Alerts, which report transitions, are always written, and so is an event that is an alert too:
    the first failed check. Listeners get everything."""

    clock: Callable[[], float] = monotonic
    _said: dict[tuple[str | None, ...], _Said] = field(default_factory=dict)

    @classmethod
    def over(cls, log: EventLog) -> QuietLog:
        """Returns one with the stream, format and level of another log, for a service: it does not wait long."""
        return cls(log.stream, log.format, log.level, patience=log.patience or Patience())

    def event(
        self, level: Level, operation: str, message: str, *, instance: str | None = None, **fields: Value
    ) -> None:
        if level >= Level.WARNING and operation != "alert":
            more = (str(fields[name]) for name in ("receiver", "reason") if name in fields)
            key = (operation, instance, str(fields.get("error") or message), *more)
            if fields.get("alert") is not None:
                self._said.pop(key, None)  # what was written before is about a trouble that is over
            repeats = self._repeats(key)
            if repeats is None:
                for listener in self.listeners:
                    listener(self.record(level, operation, message, instance=instance, **fields))
                return
            if repeats:
                message = f"{message} (and {repeats} more times in the last {QUIET_S / 60:g} minutes)"
                fields["repeats"] = repeats
        # No zero-argument super(): a dataclass with slots is a new class.
        EventLog.event(self, level, operation, message, instance=instance, **fields)

    def _repeats(self, key: tuple[str | None, ...]) -> int | None:
        """Returns how often the event was held back since it was last written; None if it is held back now."""
        now = self.clock()
        said = self._said.get(key)
        if said is not None and now - said.at < QUIET_S:
            said.repeats += 1
            return None
        if len(self._said) >= _MANY:
            for one in [one for one, it in self._said.items() if now - it.at >= QUIET_S]:
                del self._said[one]  # in place: bound logs share it
        self._said[key] = _Said(now)
        return said.repeats if said else 0
