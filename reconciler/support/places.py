"""Work of which so much is done at once, and no more: whoever takes a place does his part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


@contextmanager
def held_place(places: asyncio.Semaphore, patience_s: float) -> Iterator[None]:
    """Have the place that was taken, for `patience_s` at most: what hangs does not keep it from those that wait."""
    given_back = False

    def give_back() -> None:
        nonlocal given_back
        if not given_back:
            given_back = True
            places.release()

    timer = asyncio.get_running_loop().call_later(patience_s, give_back)
    try:
        yield
    finally:
        timer.cancel()
        give_back()


async def ask_each(items: Iterable[A], ask: Callable[[A], Awaitable[T]], at_once: int) -> list[T]:
    """What `ask` says of each, so many at once, in the order given. What one of them raises is raised."""
    places = asyncio.Semaphore(at_once)

    async def one(item: A) -> T:
        async with places:
            return await ask(item)

    return await asyncio.gather(*(one(item) for item in items))
