"""SIGINT and SIGTERM, from a command's start to its end: it stops, reports that, and has ended within ten seconds."""

from __future__ import annotations

import os
import signal
from types import FrameType

from reconciler.model.records import dataclass

STOPPING = (signal.SIGINT, signal.SIGTERM)
LIMIT_S = 9.0
"""Seconds after which a process that has not ended, because it waits for a name server or for the reader of its output,
is killed: the databases roll back open transactions."""


class Stopped(KeyboardInterrupt):
    """A type of its own: Python remembers a plain KeyboardInterrupt that passes through `exec`, as dataclasses use it,
    and then ends the process by SIGINT whatever its exit code is."""


@dataclass(slots=True)
class Signals:
    """The first signal that came, 0 if none did. A process has one of these, as it has one set of handlers.

    A signal raises Stopped in the command, so that servers stop and files close. Once a result is complete (`hold`) the
    signal is only noted, and the result is written in full.
    """

    number: int = 0
    holding: bool = False

    def listen(self) -> None:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, self._heard)

    def hold(self) -> None:
        self.holding = True

    def note(self, number: int) -> None:
        """Note that a signal came, here or to other listeners: the remaining time begins."""
        if self.number:
            return
        self.number = number
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + self.number))
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)

    def _heard(self, number: int, _: FrameType | None) -> None:
        self.note(number)
        if not self.holding:
            raise Stopped


SIGNALS = Signals()


def outlive_hangup() -> None:
    """For services: SIGHUP asks them to read their files again, and must not end one that is still starting."""
    signal.signal(signal.SIGHUP, lambda *_: None)
