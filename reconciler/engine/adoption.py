"""Finish an adoption after its transaction: indexes and constraints of big tables. Changes no row."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired, ErrorInfo, Snapshot
from reconciler.support.cancellation import is_being_stopped

if TYPE_CHECKING:
    from psycopg import AsyncConnection

UNFINISHED = "adoption_unfinished"


async def finish_adoption(
    conn: AsyncConnection, desired: Desired, run: Run, snapshot: Snapshot, *, migrated: bool
) -> ErrorInfo | None:
    """What kept it from being finished: the run was committed, and the next apply goes on from there."""
    if not migrated and not snapshot.unfinished:
        return None
    from reconciler.database.adoption import finish

    try:
        if await finish(conn, build_scope(desired), limits=run.limits):
            run.log.info("adoption", "🏗️ indexes and constraints of big tables are made", instance=desired.instance)
    except FivrecError as exc:
        return _unfinished(exc.message)
    except asyncio.CancelledError:
        if not is_being_stopped():
            raise
        return _unfinished("the run was stopped")
    return None


def _unfinished(why: str) -> ErrorInfo:
    message = f"committed, but indexes and constraints of big tables are not all made yet: {why}"
    return ErrorInfo(UNFINISHED, message, 'run "fivrec apply" again: it goes on from there')
