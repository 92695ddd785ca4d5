"""Turns what uvicorn and asyncio log into events of our log: each kind only once in a while, without tracebacks.

Clients on the network must not be able to fill a disk.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.support.log import EventLog
from reconciler.support.quiet_log import QuietLog

_LOGGERS = ("uvicorn.error", "asyncio")
_UNSAID = ("WebSocket", "timeout graceful shutdown exceeded")
"""Not logged: advice to install what this server doesn't need, because a client asked for it; and that calls were cut
off at the end, as each of them is in the access log."""


class _Handler(logging.Handler):
    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if any(word in str(record.msg) for word in _UNSAID):
            return
        error, place = record.exc_info[1] if record.exc_info else None, ""
        if error is not None:
            # Only the type and the place: the text could hold anything.
            frame = traceback.extract_tb(error.__traceback__)[-1:]
            place = f": {type(error).__name__}" + "".join(f" at {one.filename}:{one.lineno}" for one in frame)
        words = str(record.msg).strip().partition("\n")[0]
        self._log.warning("http", f"⚠️ {words}{place}", error="internal" if error is not None else None)


@contextmanager
def server_log(log: EventLog) -> Iterator[QuietLog]:
    """Send the loggers of the server to `log` while it serves."""
    quiet = QuietLog(log.stream, log.format, log.level, log.now, log.listeners, patience=log.patience)
    handler = _Handler(quiet)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [one.propagate for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.propagate = False
    try:
        yield quiet
    finally:
        for one, propagates in zip(loggers, before, strict=True):
            one.removeHandler(handler)
            one.propagate = propagates
