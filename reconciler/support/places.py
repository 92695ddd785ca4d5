"""Bounded concurrency: work that waits for one of a fixed number of places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


@contextmanager
def held_place(places: asyncio.Semaphore, patience_s: float) -> Iterator[None]:
    """Release an acquired place at the end, or after `patience_s`: work that hangs does not hold up the others."""
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
    """Call `ask` for each item, at most `at_once` at a time. Returns the answers in order; raises the first error."""
    places = asyncio.Semaphore(at_once)

    async def one(item: A) -> T:
        async with places:
            return await ask(item)

    return await asyncio.gather(*(one(item) for item in items))
