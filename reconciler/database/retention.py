"""Delete old rows of the logs in small batches. The database's clock decides what is old."""

from __future__ import annotations

from collections.abc import AsyncIterator

from reconciler.database.connection import Connection
from reconciler.database.rows import Scope
from reconciler.database.statements import query
from reconciler.database.status_queries import entry_from_row
from reconciler.database.transaction import read_rows, write_once
from reconciler.planning.audit import AuditEntry, Head

BATCH = 1000


async def prune_logs(conn: Connection, scope: Scope, keep_s: float) -> bool:
    """Delete a batch of sent usage reports and one of old status checks. Returns True if there may be more."""
    params = {"instance": scope.instance, "keep_s": keep_s, "limit": BATCH}
    writes = [(query("retention", name, scope.schema), params) for name in ("reports", "checks")]
    return await write_once(conn, writes, scope=scope) == BATCH


async def read_old_audit(conn: Connection, keep_s: float) -> Head | None:
    """Returns the last entry of the batch that may be deleted, or None. Reads in the open transaction."""
    rows = await read_rows(conn, query("retention", "old_audit"), {"keep_s": keep_s, "limit": BATCH})
    return next(((row["seq"], row["hash"]) for row in rows), None)


async def read_audit_until(conn: Connection, seq: int) -> AsyncIterator[AuditEntry]:
    """Yields the entries from the first to `seq`, page by page, in the open transaction."""
    after = 0
    while after < seq:
        rows = await read_rows(conn, query("readings", "chain"), {"after": after, "limit": min(BATCH, seq - after)})
        for row in rows:
            yield entry_from_row(row)
        if not rows:
            return
        after = rows[-1]["seq"]
