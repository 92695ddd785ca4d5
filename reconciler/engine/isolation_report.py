"""What is reported of the app's rows and never changed: isolation violations, clear-text passwords."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired
from reconciler.planning.plan import Plan
from reconciler.support.cancellation import is_being_stopped

if TYPE_CHECKING:
    from psycopg import AsyncConnection

MOST = 100


async def describe_violations(conn: AsyncConnection, desired: Desired, run: Run, plan: Plan) -> tuple[str, ...]:
    """A note for each such row, by table and id, after a run that made or changed the schema; at most MOST.

    The run was committed: neither an error nor a signal makes it another one.
    """
    if conn.closed or not any(change.key.kind == "schema" for change in plan.changes):
        return ()
    if is_being_stopped():
        return _not_looked_for("the run was stopped")
    from reconciler.database.status_queries import read_breaking_rows

    try:
        rows = await read_breaking_rows(conn, build_scope(desired), limit=MOST + 1, limits=run.limits)
    except FivrecError as exc:
        return _not_looked_for(exc.message)
    except asyncio.CancelledError:
        return _not_looked_for("the run was stopped")
    found = [f"⚠️ {row.table} {row.id}: {_why(row.reason)}; it is kept, fix it by hand" for row in rows[:MOST]]
    more = [f"⚠️ and more than {MOST} such rows"] if len(rows) > MOST else []
    return (*found, *more)


async def open_passwords(conn: AsyncConnection, desired: Desired, run: Run) -> tuple[str, ...]:
    """A note for each user of production whose password stands in clear text; at most 10. For `--deep`."""
    from reconciler.database.isolation_probes import read_open_passwords

    return tuple(
        f"⚠️ the password of {email} is stored in users.password in plain text: let its owner set another one"
        for email in await read_open_passwords(conn, desired.database.schema, run.limits)
    )


def _not_looked_for(why: str) -> tuple[str, ...]:
    return (f"⚠️ rows that break the rules of environments could not be looked for: {why}",)


def _why(reason: str) -> str:
    return "it is of no environment" if reason == "environment" else f"{reason} points out of its environment"
