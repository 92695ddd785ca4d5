"""What a run that failed or was refused leaves behind: its audit entry and its check, in a transaction of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.flow import instance
from reconciler.flow.commit import usable
from reconciler.flow.run import Run
from reconciler.flow.writes import audit_entries
from reconciler.model.errors import FivrecError, Refused
from reconciler.model.types import Desired
from reconciler.planning.audit import run_event

if TYPE_CHECKING:
    from psycopg import AsyncConnection


async def record_failure(
    conn: AsyncConnection, desired: Desired, run: Run, exc: FivrecError, check: store.CheckRow | None = None
) -> None:
    """Best effort: what can't be recorded is said, and does not hide the failure itself."""
    try:
        async with usable(conn, desired, run) as recording:
            await store.rollback(recording)
            scope = instance.scope_of(desired)
            head = await store.begin_recording(recording, scope, limits=run.limits)
            known = run.turn is not None and run.turn.recorded == exc.code
            event = run_event("refused" if isinstance(exc, Refused) else "failed", exc.code, exc.message)
            entries = () if known else audit_entries(desired, run, head, (event,))
            writes = store.Writes(run_id=run.id, audit=entries, check=check)
            await store.commit(recording, writes, scope, limits=run.limits)
    except FivrecError as also:
        if also.code != "schema_missing":
            said = f"⚠️ the {exc.code} could not be recorded: {also.message}"
            run.log.warning(run.command, said, instance=desired.instance)
