"""The end of an apply: commit, and where the connection was lost on the way, find out what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.engine import observe
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.types import Desired, ErrorInfo
from reconciler.planning.report import FAILED, InstanceReport

if TYPE_CHECKING:
    from psycopg import AsyncConnection

UNKNOWN = "commit_unknown"
LOOKUP_S = 5
AGAIN_S = 3
"""How long a new connection may take where one was just lost: all of it has to end within 30 s."""


async def commit(conn: AsyncConnection, writes: store.Writes, desired: Desired, run: Run) -> None:
    """Commit. A lost connection is no answer: what became of the transaction is looked up over a new one.

    DatabaseError: `commit_lost` where nothing was written, `commit_unknown` where that could not be found out.
    """
    await _looked_up(
        store.commit(conn, writes, observe.build_scope(desired), limits=run.limits, removed=run.removed),
        writes,
        desired,
        run,
    )


async def conclude(conn: AsyncConnection, writes: store.Writes, desired: Desired, run: Run) -> None:
    """Commit what was written and compared. Errors as of `commit`."""
    await _looked_up(store.conclude(conn, observe.build_scope(desired), limits=run.limits), writes, desired, run)


async def _looked_up(committing: Coroutine[None, None, None], writes: store.Writes, desired: Desired, run: Run) -> None:
    try:
        await committing
    except DatabaseError as exc:
        if exc.code != UNKNOWN:
            raise
        if not await _found(writes, desired, run, exc):
            raise DatabaseError(
                "the connection was lost while committing, and nothing of it was written",
                hint="check the network and the server, then run again",
                code="commit_lost",
            ) from exc


async def _found(writes: store.Writes, desired: Desired, run: Run, unknown: DatabaseError) -> bool:
    from reconciler.database.lost_commit import wait_for_lock_release, was_committed

    limits = replace(run.limits, lock_wait_s=LOOKUP_S, connect_s=AGAIN_S, total_s=LOOKUP_S + 2)
    scope = observe.build_scope(desired)
    try:
        async with observe.database(desired, replace(run, limits=limits)) as conn:
            await wait_for_lock_release(conn, scope, limits=limits)
            return await was_committed(conn, writes, scope, limits=limits)
    except (FivrecError, asyncio.CancelledError) as exc:
        raise unknown from exc  # a run that is being stopped has not heard either


@asynccontextmanager
async def reopen_if_lost(conn: AsyncConnection, desired: Desired, run: Run) -> AsyncIterator[AsyncConnection]:
    """The connection, or a new one where it was lost."""
    if not conn.closed:
        yield conn
        return
    limits = replace(run.limits, connect_s=AGAIN_S)
    async with observe.database(desired, replace(run, limits=limits)) as other:
        yield other


def with_error(report: InstanceReport, trouble: ErrorInfo | None) -> InstanceReport:
    """The report of a run whose changes were committed, with what came after."""
    return report if trouble is None else replace(report, exit_code=FAILED, error=trouble)
