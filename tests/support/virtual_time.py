"""An event loop on virtual time: if nothing is ready, the clock jumps to the next timer. No I/O, no threads."""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: all tasks wait for each other."""


class _Leaping(selectors.DefaultSelector):
    """Moves the clock instead of waiting. No file is ever ready, and the kernel is not asked."""

    clock = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        if timeout > 0:
            self.clock += max(timeout, 1e-6)  # a smaller step would vanish in a large float
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, start: float = 1_000_000.0) -> None:
        self._leaping = _Leaping()
        self._leaping.clock = start
        super().__init__(self._leaping)
        self._clock_resolution = 1e-6  # asyncio adds it to the time; a smaller one would vanish in a large float

    def time(self) -> float:
        return self._leaping.clock

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Runs the function at once: there are no threads on virtual time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 (it is the caller's)
            future.set_exception(exc)
        return future


def run_virtually(main: Coroutine[Any, Any, T], start: float = 1_000_000.0) -> T:
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 20, 50)  # millions of tasks and timers come and go, with few reference cycles
    try:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*usual)
