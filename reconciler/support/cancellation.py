"""Work that is not broken off halfway: a COMMIT that was sent is waited for, also by a run that is being stopped; and
a signal that asks for something does not end it."""

from __future__ import annotations

import asyncio
import atexit
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress

GRACE_S = 4.0
"""How long a stopped run waits for the answer to its COMMIT."""


async def finish_despite_cancel(
    work: Coroutine[None, None, None], cut: Callable[[], None], *, grace_s: float = GRACE_S
) -> None:
    """Run `work` to its end. Cancelled meanwhile, it has `grace_s` more; then `cut` makes it fail.

    Its own end counts, whether it was cancelled or not: `is_being_stopped` tells who goes on from there.
    """
    task = asyncio.create_task(work)
    until: float | None = None
    loop = asyncio.get_running_loop()
    while not task.done():
        try:
            await asyncio.wait({task}, timeout=None if until is None else max(0.0, until - loop.time()))
        except asyncio.CancelledError:
            until = until or loop.time() + grace_s
        if until is not None and loop.time() >= until and not task.done():
            cut()
            until = loop.time() + grace_s
    task.result()


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def is_being_stopped() -> bool:
    """Whether the current task was asked to end, and has not yet."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def on_hangup(heard: Callable[[], None]) -> None:
    """SIGHUP calls `heard` in this loop, and ends nothing, however late it comes: a handler of the loop's would leave
    the signal's default behind, which ends the process while it is stopping."""
    loop = asyncio.get_running_loop()

    def pass_on(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(heard)

    signal.signal(signal.SIGHUP, pass_on)
    atexit.register(signal.signal, signal.SIGHUP, signal.SIG_IGN)
