"""Commands that go on with --follow: what is there, oldest first, then what comes, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from reconciler.cli.failure_events import say_failure
from reconciler.cli.queries import ask_within, write_errors
from reconciler.cli.signals import SIGNALS

if TYPE_CHECKING:
    from reconciler.cli.options import Settings
    from reconciler.cli.runtime import RunSetup
    from reconciler.engine.run import Run
    from reconciler.model.types import Desired

T = TypeVar("T")
Ask = Callable[["Desired", "Run", T | None], Awaitable[Sequence[T]]]
"""What an instance has after the last that was seen (None: nothing was), oldest first."""

POLL_S = 1.0


def follow(ready: RunSetup, settings: Settings, ask: Ask[T], write: Callable[[str, T], None]) -> None:
    """Every instance side by side, each from where it is. Ends the command."""
    try:
        asyncio.run(_follow(ready, settings, ask, write))
    except KeyboardInterrupt:  # the end that it has; nothing of it belongs among the lines
        click.get_current_context().exit(128 + SIGNALS.number)


async def _follow(ready: RunSetup, settings: Settings, ask: Ask[T], write: Callable[[str, T], None]) -> None:
    places = asyncio.Semaphore(settings.forks)

    async def one(item: Desired) -> None:
        """A database that can't be read is said once, and asked again until it can."""
        from reconciler.engine.queries import try_reading

        failing, last = False, None
        while True:
            async with places:
                found = await try_reading(item, partial(ask_within, partial(_asked, ask, last), item, ready.run))
            if found.error is not None and not failing:
                say_failure(ready.run, item.instance, found.error)
                write_errors([found], settings)
            failing = found.error is not None
            for value in found.value or ():
                write(item.instance, value)
                last = value
            await asyncio.sleep(POLL_S)

    await asyncio.gather(*(one(item) for item in ready.desired))


async def _asked(ask: Ask[T], last: T | None, item: Desired, run: Run) -> Sequence[T]:
    return await ask(item, run, last)
