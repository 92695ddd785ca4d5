"""Retention: status checks and audit entries are kept for ever, unless the operator sets a limit."""

from __future__ import annotations

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.retention import prune_logs, read_audit_until, read_old_audit
from reconciler.engine.audit_log import signatures_of, with_audit
from reconciler.engine.observe import build_scope, database
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import NEVER_APPLIED
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.planning.audit import Head, prune_event
from reconciler.planning.audit_check import Chain, Tail

MOST_BATCHES = 20


@dataclass(frozen=True, slots=True)
class Keep:
    """Ages in seconds; None keeps rows for ever."""

    logs_s: float | None = None
    audit_s: float | None = None

    def __bool__(self) -> bool:
        return self.logs_s is not None or self.audit_s is not None


async def prune(desired: Desired, run: Run, keep: Keep) -> bool:
    """Delete some batches of rows that are too old. Returns whether there may be more. Does nothing if nothing was ever
    applied."""
    more = False
    try:
        async with database(desired, run) as conn:
            if keep.logs_s is not None:
                for _ in range(MOST_BATCHES):
                    more = await prune_logs(conn, build_scope(desired), keep.logs_s)
                    if not more:
                        break
            if keep.audit_s is None:
                return more
            for _ in range(MOST_BATCHES):
                if not await _prune_audit(conn, desired, run, keep.audit_s):
                    return more
    except DatabaseError as exc:
        if exc.code not in NEVER_APPLIED:
            raise
        return False
    return True


async def _prune_audit(conn: Connection, desired: Desired, run: Run, keep_s: float) -> bool:
    """Delete one batch and record that in an audit entry, in one transaction under the lock."""
    scope = build_scope(desired)
    tail = await store.begin_recording(conn, scope)
    try:
        until = await read_old_audit(conn, keep_s)
        if until is None:
            return False
        await _refuse_forged(conn, desired, run, tail, until)
        bare = store.Writes(run_id=run.id, prune_audit=until[0])
        writes = with_audit(bare, desired, run, tail, (prune_event(until),))
        await store.commit(conn, writes, scope)
    finally:
        await store.rollback(conn)
    return True


async def _refuse_forged(conn: Connection, desired: Desired, run: Run, tail: Tail, until: Head) -> None:
    """Entries that don't verify are kept: pruning them would sign away what was done to them, and their age may be
    forged.

    The first signed entry vouches for those from before signatures existed.
    """
    signatures = signatures_of(tail.key, run.keys, desired.instance)
    last = max(until[0], min(signatures.since or 0, tail.head[0]))
    chain = Chain(signatures=signatures)
    async for entry in read_audit_until(conn, last):
        chain.take(entry)
    if chain.finding is not None:
        raise DatabaseError(
            f"the audit log is not pruned: {chain.finding.message}",
            hint="fivrec history --verify",
            code="audit_forged",
        )
