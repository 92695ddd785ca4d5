"""Pipelines that send what they hold at once: one write to the socket, one wait for the answers.

psycopg's own sends each statement of a pipeline by itself and waits twice for the socket before the next, which took a
fifth of a check's CPU time. Here statements stay in psycopg's queue until the pipeline ends, or somebody fetches; then
libpq's buffer takes all of them. Order, errors and what a statement returns are psycopg's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncPipeline
from psycopg.generators import send

__all__ = ["PipelinedConnection"]


class _AtOnce(AsyncPipeline):
    def _communicate_gen(self) -> Generator[Any, Any, None]:
        """After each statement: it waits for the others."""
        yield from ()

    def _fetch_gen(self, *, flush: bool) -> Generator[Any, Any, None]:
        """At the end, or if a result is asked for."""
        while self.command_queue:
            self.command_queue.popleft()()
        if not flush:  # a Sync is on its way, and nothing else sends it
            yield from send(self.pgconn)
        yield from super()._fetch_gen(flush=flush)


_FITS = hasattr(AsyncPipeline, "_communicate_gen") and hasattr(AsyncPipeline, "_fetch_gen")
"""A psycopg whose pipelines work otherwise keeps them: slower, and as right."""


class PipelinedConnection(AsyncConnection[Any]):
    place = "the database"
    """For errors: libpq knows no name of a connection that is gone."""

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        if _FITS and self._pipeline is None:
            self._pipeline = _AtOnce(self)  # psycopg takes the one that is there, and takes it away when it ends
        async with super().pipeline() as opened:
            yield opened
