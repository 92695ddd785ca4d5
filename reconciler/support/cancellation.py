"""Work that must not be interrupted: even a run that is being stopped waits for a COMMIT that was sent; and SIGHUP,
which only asks for something, does not end the process."""

from __future__ import annotations

import asyncio
import atexit
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress

GRACE_S = 4.0
"""How long a stopped run waits for the answer to its COMMIT."""


async def finish_despite_cancel(work: Coroutine[None, None, None], cut: Callable[[], None]) -> None:
    """Run `work` to its end. If this is cancelled meanwhile, `work` has GRACE_S more; then `cut` makes it fail.

    Returns or raises what `work` does, cancelled or not: ask `is_being_stopped` before going on.
    """
    task = asyncio.create_task(work)
    until: float | None = None
    loop = asyncio.get_running_loop()
    while not task.done():
        try:
            await asyncio.wait({task}, timeout=None if until is None else max(0.0, until - loop.time()))
        except asyncio.CancelledError:
            until = until or loop.time() + GRACE_S
        if until is not None and loop.time() >= until and not task.done():
            cut()
            until = loop.time() + GRACE_S
    task.result()


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel the task, and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def is_being_stopped() -> bool:
    """Whether the current task was asked to end, and has not yet."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def on_hangup(call: Callable[[], None]) -> None:
    """Make SIGHUP call `call` in this loop, and never end the process, however late it comes: the loop's own handlers
    would restore the default at the end, which kills a process that is stopping."""
    loop = asyncio.get_running_loop()

    def pass_on(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(call)

    signal.signal(signal.SIGHUP, pass_on)
    atexit.register(signal.signal, signal.SIGHUP, signal.SIG_IGN)
