"""Which queues rows of other tables refer to, by every foreign key in the catalogue. Removes nothing.

A foreign key with ON DELETE CASCADE or SET NULL refuses nothing, so look here before removing a queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.database import transaction
from reconciler.database.connection import Connection, where
from reconciler.database.rows import Rows, RowWrite, Scope
from reconciler.database.statements import query, statement
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.types import OTHER_ENVIRONMENT, Key, Snapshot

NAME = "queue_references"
"""Under this name a reading has first the conditions made from foreign keys, then the rows that they hold for."""


async def read_referenced(conn: Connection, rows: Rows, scope: Scope) -> dict[str, list[transaction.Row]]:
    """Returns which queues of a reading rows refer to, to add to it. One more round trip if any queue is undeclared."""
    if not scope.references:
        return {}
    declared = frozenset(scope.declared_queues)
    found = [str(row["row_id"]) for row in rows.get("queue", ()) if row["key"] not in declared]
    conditions = await _conditions(conn, scope) if found and NAME not in rows else rows.get(NAME, ())
    return {NAME: await _of_these(conn, found, conditions, scope)}


async def hold(conn: Connection, writes: Sequence[RowWrite], scope: Scope) -> None:
    """Lock the queues to be removed, so that no new row can refer to them before the transaction ends.

    Raises DatabaseError `queue_in_use` if one has done so since they were read.
    """
    gone = [str(row.params["row_id"]) for row in writes if (row.kind, row.statement) == ("queue", "remove")]
    if not gone:
        return
    params = {"environment": scope.environment, "found": gone}
    held = await transaction.read_more(conn, {"held": query("referenced", "hold", scope.schema)}, params)
    # In a statement after the locks: only that one sees what was committed while we waited for them.
    used = {row["row_id"] for row in await _of_these(conn, gone, await _conditions(conn, scope), scope)}
    if used:
        names = sorted(str(row["name"]) for row in held["held"] if str(row["row_id"]) in used)
        raise DatabaseError(
            f"{where(conn)}: rows came to refer to a queue that was to be removed: {', '.join(names)}",
            hint="run again: it is deactivated then",
            code="queue_in_use",
        )


async def refuse_move(conn: Connection, snapshot: Snapshot, scope: Scope) -> None:
    """Raises Refused `admin_in_use` if rows that stay refer to the user who is to move here from the other environment,
    `isolation_refused` if row-level security hides that user."""
    mover = next((row for row in snapshot.state.values() if row.moves_from is not None), None)
    if mover is None:
        await _refuse_hidden(conn, snapshot, scope)
    if mover is None or scope.test_data:
        return
    params = {"row_id": str(mover.row_id), "environment": mover.moves_from}
    rows = await transaction.read_more(conn, {"mover": query("referenced", "mover", scope.schema)}, params)
    if rows["mover"][0]["used"]:
        raise Refused(
            f"{where(conn)}: conversations or messages of {mover.moves_from} refer to {mover.key.name}, "
            f"who would move to {scope.environment}",
            hint="environment.purge_development_data: true deletes development rows first; or declare another email",
            code="admin_in_use",
        )


async def _refuse_hidden(conn: Connection, snapshot: Snapshot, scope: Scope) -> None:
    last = snapshot.state.get(Key("environment", scope.instance))
    if last is None or last.fields["name"] == scope.environment or last.fields["isolation"] == "constraints":
        return
    # Ask as the other environment; switch back before anything else is read or written.
    other, turn = OTHER_ENVIRONMENT[scope.environment], query("purge", "environment")
    params = {"environment": other, "admin_email": scope.admin_email, "admin_renamed_from": scope.admin_renamed_from}
    hidden = {"hidden": query("referenced", "hidden", scope.schema)}
    rows = await transaction.write_and_read(conn, ((turn, {"environment": other}),), hidden, params)
    await conn.execute(turn, {"environment": scope.environment})
    if rows["hidden"]:
        raise Refused(
            f"{where(conn)}: isolation: enforced hides {rows['hidden'][0]['email']}, who would move from {other} to "
            f"{scope.environment}",
            hint=f"apply isolation: constraints as {other} first; then set {scope.environment}, with enforced again",
            code="isolation_refused",
        )


async def _conditions(conn: Connection, scope: Scope) -> list[transaction.Row]:
    return (await transaction.read_more(conn, {NAME: statement("queue", "references", scope.schema)}, {}))[NAME]


async def _of_these(
    conn: Connection, found: Sequence[str], conditions: Sequence[Mapping[str, Any]], scope: Scope
) -> list[transaction.Row]:
    if not found or not conditions:
        return []
    # The conditions come from the catalogue; the server quoted the names in them.
    text = query("referenced", "which", scope.schema).replace(
        "{conditions}", " OR ".join(row["condition"] for row in conditions)
    )
    rows = await transaction.read_more(conn, {NAME: text}, {"environment": scope.environment, "found": list(found)})
    return rows[NAME]
