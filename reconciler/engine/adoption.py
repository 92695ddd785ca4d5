"""What adopting a database leaves to do outside of the transaction: indexes and constraints of big tables, sequences
that are behind. Changes no row."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
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


async def advance_sequences(conn: AsyncConnection, desired: Desired, run: Run, refused: DatabaseError) -> bool:
    """Whether a sequence that was behind its table, which explains why a row was `refused` as a double, is so no
    longer. DatabaseError, naming those that this login may not advance."""
    from reconciler.database.sequences import advance_sequences as advance

    try:
        behind = await advance(conn, build_scope(desired), limits=run.limits)
    except FivrecError:
        return False  # what it was refused for is the better answer
    kept = [one for one in behind if not one.may_advance]
    for one in behind:
        if one.may_advance:
            words = f"🔢 the sequence {one.sequence} was behind {one.column}: advanced to {one.top}"
            run.log.warning(run.command, words, instance=desired.instance)
    if kept and len(kept) == len(behind):
        said = ", ".join(f"{one.sequence} is behind {one.column}" for one in kept)
        statements = " ".join(f"SELECT setval('{one.sequence}', {one.top});" for one in kept)
        hint = f"{statements} as a role that may, then run again"
        raise DatabaseError(f"{refused.message}; the sequence {said}", code=refused.code, hint=hint) from refused
    return bool(behind)
