"""Files that are read again when they change. Changes are detected without reading them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from reconciler.model.errors import FivrecError, MissingSetting

T = TypeVar("T")


def stamps(paths: Iterable[str | Path]) -> tuple[object, ...]:
    """Returns one value per path, following links; None for a missing file. Equal as long as nothing changed."""
    return tuple(_stamp(path) for path in paths)


def refuse_streams(paths: Iterable[str | Path]) -> None:
    """Raises MissingSetting if one is a pipe, socket or device by now: opening that may block for ever."""
    for path in paths:
        with suppress(OSError, ValueError):
            mode = os.stat(path).st_mode  # noqa: PTH116 (a str as well)
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise MissingSetting(f"{path} is a pipe or a device, which can't be read again")


class Reread(Generic[T]):
    """What `load` makes of `files`, loaded again when they have changed. A pipe is read once.

    If loading fails later, the last good value stays, and `said` is called with the reason.
    """

    def __init__(self, files: Iterable[str | Path], load: Callable[[], T], said: Callable[[str], None]) -> None:
        self._files = tuple(files)
        self._load = load
        self._said = said
        self._seen = stamps(self._files)
        self._value = load()

    def value(self) -> T:
        """Returns the current value. Looking for changes takes 2 microseconds per file."""
        seen = stamps(self._files)
        if seen != self._seen:
            self._seen = seen
            try:
                refuse_streams(self._files)
                self._value = self._load()
            except FivrecError as error:
                self._said(f"⚠️ {error.message}; what was read before counts until it can be read")
        return self._value


def _stamp(path: str | Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (a str as well)
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return None
    if stat.S_ISFIFO(found.st_mode):
        return 0, 0, 0, found.st_ino  # its times change whenever somebody writes to it or reads it
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
