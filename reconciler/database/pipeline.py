"""Pipelines that send all their statements together: one write to the socket, one wait for the answers.

psycopg's own pipelines send each statement by itself and wait for the socket twice before the next, which took a fifth
of a check's CPU time. Here statements stay in psycopg's queue until the pipeline ends, or a result is fetched; then all
go into libpq's buffer. Order, errors and results are psycopg's.

A pipeline that receives too much data is broken off: libpq takes any amount into memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncPipeline
from psycopg.generators import send

from reconciler.database.bounds import MOST_BYTES, TooMuchDataError, received

__all__ = ["PipelinedConnection"]


class _AtOnce(AsyncPipeline):
    def _communicate_gen(self) -> Generator[Any, Any, None]:
        """Called after each statement: sends nothing yet."""
        yield from ()

    def _fetch_gen(self, *, flush: bool) -> Generator[Any, Any, None]:
        """Called at the end, or when a result is fetched."""
        while self.command_queue:
            self.command_queue.popleft()()
        if not flush:  # a Sync is on its way, and nothing else sends it
            yield from send(self.pgconn)
        yield from self._bounded(super()._fetch_gen(flush=flush))

    def _bounded(self, fetching: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        at_first, ready = received(self.pgconn.socket), None
        while True:
            try:
                wanted = fetching.send(ready)
            except StopIteration:
                return
            ready = yield wanted
            if received(self.pgconn.socket) - at_first > MOST_BYTES:
                self.pgconn.finish()
                raise TooMuchDataError


_FITS = hasattr(AsyncPipeline, "_communicate_gen") and hasattr(AsyncPipeline, "_fetch_gen")
"""If psycopg's pipelines work differently, they are used as they are: slower, but just as correct."""


class PipelinedConnection(AsyncConnection[Any]):
    place = "the database"
    """For error messages: once a connection is gone, libpq no longer has its name."""

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        if _FITS and self._pipeline is None:
            self._pipeline = _AtOnce(self)  # psycopg uses an existing one, and removes it at the end
        async with super().pipeline() as opened:
            yield opened
