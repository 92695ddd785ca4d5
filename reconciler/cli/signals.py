"""SIGINT and SIGTERM, from a command's start to its end: it stops, reports that, and has ended within ten seconds."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from reconciler.model.records import dataclass

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

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
        sys.unraisablehook = self._repeat
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
        self._limit()

    def _limit(self) -> None:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + self.number))
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)

    def _heard(self, number: int, _: FrameType | None) -> None:
        self.note(number)
        if not self.holding:
            raise Stopped

    def _repeat(self, discarded: UnraisableHookArgs) -> None:
        """Raise Stopped again soon if Python discarded it, as it does in a weak reference's callback or a __del__."""
        if not issubclass(discarded.exc_type, Stopped):
            sys.__unraisablehook__(discarded)
            return
        signal.signal(signal.SIGALRM, self._raise_again)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    def _raise_again(self, number: int, _: FrameType | None) -> None:  # noqa: ARG002 (a handler's signature)
        self._limit()
        if not self.holding:
            raise Stopped


SIGNALS = Signals()


def outlive_hangup() -> None:
    """For services: SIGHUP asks them to read their files again, and must not end one that is still starting."""
    signal.signal(signal.SIGHUP, lambda *_: None)
