"""Events on stderr, one per line: console style with the seed's emoji, or JSON. No secrets: callers pass none."""

from __future__ import annotations

import errno
import json
import os
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field, replace
from datetime import UTC, datetime
from enum import IntEnum
from time import monotonic
from typing import Literal, Self, TextIO, TypeAlias

from reconciler.model.names import one_line, printable
from reconciler.model.records import dataclass
from reconciler.model.secret import MASK, Secret
from reconciler.model.types import Value, rfc3339

Format: TypeAlias = Literal["console", "json"]


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


def utc_now() -> datetime:
    return datetime.now(UTC)


def counted(number: int, noun: str) -> str:
    """Returns `1 change` or `2 changes`, for people."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


WAIT_S, HURRY_S = 1.0, 60.0
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a file that can't be written to now, but perhaps later."""
PIECE = 1024
"""In characters, at most 4 KiB: a pipe that is ready to be written takes this much."""


@dataclass(slots=True)
class Patience:
    """How long a service waits for the reader of its log: a full pipe or a stopped terminal must not stop the loop.
    `lost` counts lines that were not written, for the reason `why`; `torn`: the last was written only in part."""

    clock: Callable[[], float] = monotonic
    lost: int = 0
    why: str = ""
    torn: bool = False
    _hurries_until: float = 0.0

    def is_read(self, stream: TextIO) -> bool:
        """Whether the stream takes a piece of a line; if not, lines are dropped for a while without waiting."""
        now = self.clock()
        try:
            taken = select.select((), (stream,), (), 0.0 if now < self._hurries_until else WAIT_S)[1]
        except (OSError, ValueError):
            return True  # it is closed, or not a file: writing will show that
        if not taken:
            self._hurries_until = now + HURRY_S
        return bool(taken)


@dataclass(slots=True)
class EventLog:
    """Writes events at or above `level`, each after `lead`. `now` returns the timestamps. A closed stream is not an
    error. Without `patience` it waits for as long as nobody reads the stream."""

    stream: TextIO
    format: Format = "console"
    level: Level = Level.INFO
    now: Callable[[], datetime] = utc_now
    listeners: list[Callable[[dict[str, Value]], None]] = field(default_factory=list)
    common: Mapping[str, Value] = field(default_factory=dict)
    lead: str = ""
    patience: Patience | None = None

    def bind(self, **common: Value) -> Self:
        """Returns the same log with these fields in all its events: run_id, commit."""
        return replace(self, common={**self.common, **common})

    def event(
        self, level: Level, operation: str, message: str, *, instance: str | None = None, **fields: Value
    ) -> None:
        """Write an event. `message` is the console's line; `fields` are success, response_time_ms, received, error …"""
        record = self.record(level, operation, message, instance=instance, **fields)
        for listener in self.listeners:
            listener(record)
        if level >= self.level:
            self._write(record)

    def record(
        self, level: Level, operation: str, message: str, *, instance: str | None = None, **fields: Value
    ) -> dict[str, Value]:
        """Returns an event as listeners get it and as the JSON format writes it."""
        return {
            "timestamp": rfc3339(self.now(), "milliseconds"),
            "level": level.name.lower(),
            "operation": operation,
            "instance": instance,
            "message": message,
            "success": level < Level.ERROR and fields.get("error") is None,
            **self.common,
            **fields,
        }

    def info(self, operation: str, message: str, *, instance: str | None = None, **fields: Value) -> None:
        self.event(Level.INFO, operation, message, instance=instance, **fields)

    def debug(self, operation: str, message: str, *, instance: str | None = None, **fields: Value) -> None:
        self.event(Level.DEBUG, operation, message, instance=instance, **fields)

    def warning(self, operation: str, message: str, *, instance: str | None = None, **fields: Value) -> None:
        self.event(Level.WARNING, operation, message, instance=instance, **fields)

    def error(self, operation: str, message: str, *, instance: str | None = None, **fields: Value) -> None:
        self.event(Level.ERROR, operation, message, instance=instance, **fields)

    def _write(self, record: dict[str, Value]) -> None:
        patience = self.patience
        if patience is None:
            self._put(record)
            return
        if patience.lost and patience.is_read(self.stream):
            lost = f"⚠️ {counted(patience.lost, 'log line')} lost: {patience.why}"
            if self._put(self.record(Level.WARNING, "service", lost, error="log_lost")):
                patience.lost = 0
        if not self._put(record):
            patience.lost += 1

    def _put(self, record: dict[str, Value]) -> bool:
        """Returns whether the line needs no further attempt: it was written whole, or the stream is gone."""
        line = _json_line(record) if self.format == "json" else _console_line(record)
        text, patience = f"{self.lead}{line}\n", self.patience
        try:
            if patience is None:
                self.stream.write(text)
                self.stream.flush()
                return True
            text = f"\n{text}" if patience.torn else text
            for start in range(0, len(text), PIECE):
                if not patience.is_read(self.stream):
                    patience.why, patience.torn = "nobody read the log", patience.torn or start > 0
                    return False
                if not self._put_piece(text[start : start + PIECE], patience):
                    return False
            patience.torn = False
        except (ValueError, OSError):
            pass  # stderr is gone: the run goes on, its result is on stdout
        return True

    def _put_piece(self, text: str, patience: Patience) -> bool:
        """Returns whether the stream took it, or is gone for good. A full disk may have taken the beginning."""
        number = 0
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as exc:
            number = exc.errno or 0
        number = number or getattr(self.stream.write, "failure", 0)  # stderr reports none (cli/streams)
        if not number:
            return True
        with suppress(AttributeError):
            self.stream.write.failure = 0  # type: ignore[attr-defined]
        if number not in FULL:
            return True
        patience.why, patience.torn = f"it could not be written ({os.strerror(number).lower()})", True
        return False


OF_EVERY_EVENT = ("instance", "run_id", "received", "error")
TIMES = frozenset({"response_time_ms", "duration_ms"})


def _json_line(record: dict[str, Value]) -> str:
    """Fields that every event has are null if they have no value; others are left out then."""
    kept = {key: value for key, value in record.items() if value is not None or key in OF_EVERY_EVENT}
    kept |= dict.fromkeys(name for name in OF_EVERY_EVENT if name not in kept)
    if TIMES.isdisjoint(kept):
        kept["duration_ms"] = None
    return json.dumps(kept, ensure_ascii=False, default=_mask)


def _mask(value: object) -> str:
    return MASK if isinstance(value, Secret) else str(value)


def _console_line(record: dict[str, Value]) -> str:
    message = one_line(str(record["message"]))
    instance = record.get("instance")
    return message if instance is None else f"{printable(str(instance))}: {message}"
