"""Commands that continue with --follow: existing rows, oldest first, then new ones, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from reconciler.cli.failure_events import say_failure
from reconciler.cli.options import Settings
from reconciler.cli.reading_commands import ask_within, show_cell, unresolved, write_errors
from reconciler.cli.signals import SIGNALS
from reconciler.cli.streams import json_text
from reconciler.model.errors import UsageError
from reconciler.model.types import Desired

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup

T = TypeVar("T")

POLL_S = 1.0
PAGE = 1000
"""Rows per reading after the beginning. A full page is followed by the next one without a pause."""


Ask: TypeAlias = Callable[..., Awaitable[Sequence[T]]]
"""Reads an instance's unseen rows, oldest first, in a run; with `first` the existing ones."""


def follow(
    ready: RunSetup,
    settings: Settings,
    ask: Ask[T],
    as_json: Callable[[T], dict[str, Any]],
    row: Callable[[str, T], tuple[str, ...]],
) -> None:
    """Follow all instances side by side, each from its own position, over one connection each. Ends the command."""
    if settings.output == "markdown":
        raise UsageError("--follow writes lines of text or JSON, not markdown")

    def write(instance: str, value: T) -> None:
        if settings.output == "json":
            click.echo(json_text({"instance": instance, **as_json(value)}, None))
        else:
            click.echo("  ".join(show_cell(cell) for cell in row(instance, value) if cell))

    try:
        asyncio.run(_follow(ready, settings, ask, write))
    except KeyboardInterrupt:  # the expected end; it has no line among the results
        click.get_current_context().exit(128 + SIGNALS.number)


async def _follow(ready: RunSetup, settings: Settings, ask: Ask[T], write: Callable[[str, T], None]) -> None:
    from reconciler.database.pool import ConnectionPool
    from reconciler.engine.status_and_logs import try_reading

    write_errors(unresolved(ready), settings)
    places = asyncio.Semaphore(settings.forks)
    pool = ConnectionPool(kept=len(ready.desired))
    run = replace(ready.run, pool=pool)

    async def follow_one(item: Desired) -> None:
        """Report a database that can't be read once, and retry until it can."""
        failing, first = False, True
        while True:
            async with places:
                found = await try_reading(item, partial(ask_within, partial(ask, first=first), item, run))
            if found.error is not None and not failing:
                say_failure(run, item.instance, found.error)
                write_errors([found], settings)
            failing = found.error is not None
            first = first and failing
            for value in found.value or ():
                write(item.instance, value)
            if len(found.value or ()) < PAGE:
                await asyncio.sleep(POLL_S)

    try:
        await asyncio.gather(*map(follow_one, ready.desired))
    finally:
        await pool.aclose()
