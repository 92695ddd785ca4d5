"""Usage reports: counted and queued after a check, in transactions of their own, and sent until Connect accepts them.

A report's id is its idempotency key: a report that is sent twice, because the process died before it could note the
first time, counts once.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.connect.errors import asked_to_wait, of_its_content
from reconciler.database.connection import Connection, limited
from reconciler.database.usage_outbox import (
    PendingUsage,
    UsageCounts,
    mark_usage_failed,
    mark_usage_sent,
    read_pending_usage,
    read_usage_counts,
    write_usage,
)
from reconciler.engine.commit import reopen_if_lost
from reconciler.engine.guards import refuse_other_owner
from reconciler.engine.observe import build_scope, connect_client, database
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import require_connect, warn_of_version
from reconciler.model.errors import ConnectError, DatabaseError, FivrecError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, ErrorInfo, Value
from reconciler.planning.plan import Plan
from reconciler.planning.schedule import LAST_RETRY_S, retry_delay

if TYPE_CHECKING:
    from reconciler.connect.client import ConnectClient

LAST_REFUSED_S = 86_400.0
"""The longest wait, in seconds, of a report whose content Connect refuses. `usage --send` sends all waiting reports at
once."""
COUNT_MS = 10_000
"""Milliseconds that counting one instance may take."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The ids of the reports that Connect accepted, how many still wait, and the first other answer."""

    taken: tuple[str, ...] = ()
    waiting: int = 0
    problem: ErrorInfo | None = None

    @property
    def sent(self) -> int:
        return len(self.taken)


@dataclass(frozen=True, slots=True)
class Usage:
    """An instance's usage in the seed's JSON; its id and state if it was to be sent."""

    report: Mapping[str, Value]
    id: str | None = None
    outcome: Sent | None = None


async def count_usage(desired: Desired, run: Run) -> Usage:
    """The counts as they are now; nothing is queued."""
    async with database(desired, run) as conn:
        await warn_of_version(conn, desired, run)
        counts = await _count(conn, desired)
    return Usage(counts.payload(build_scope(desired)))


async def _count(conn: Connection, desired: Desired) -> UsageCounts:
    """Raises Refused if the database belongs to another instance: what it holds is not this one's use."""
    counts = await read_usage_counts(conn, build_scope(desired))
    refuse_other_owner(counts.owner, desired.instance)
    return counts


async def send_usage(desired: Desired, run: Run) -> Usage:
    """Queue a report, then send it and all that wait. Reports that Connect does not accept stay queued."""
    scope = build_scope(desired)
    async with database(desired, run) as conn:
        counts = await _count(conn, desired)
        report = PendingUsage(str(uuid.uuid4()), counts.payload(scope), 0)
        await _queue(conn, desired, run, report)
    return Usage(report.payload, report.id, await send_waiting(desired, run, all_of_them=True))


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that Connect accepted; `sent` counts it and those that were waiting."""

    id: str
    payload: Mapping[str, Value]
    sent: int


async def report_usage(desired: Desired, run: Run) -> Reported:
    """Queue a report and send it. Raises ConnectError if Connect did not accept it; then it stays queued."""
    usage = await send_usage(desired, run)
    outcome = usage.outcome or Sent()
    if outcome.problem is not None and usage.id not in outcome.taken:
        problem = outcome.problem
        raise ConnectError(problem.message, hint=problem.hint, code=problem.code)
    return Reported(usage.id or "", usage.report, outcome.sent)


async def queue_usage(conn: Connection, desired: Desired, run: Run, plan: Plan) -> bool:
    """Count, and queue the report that this turn of `watch` owes. Returns whether it was queued. A failure to count is
    logged, delays nothing else, and the next turn tries again.

    Before the schema exists nothing can be counted: the next turn does it.
    """
    if run.turn is None or not run.turn.report_usage or not desired.usage_report:
        return False
    if conn.closed or any(change.key.kind in ("database", "schema") for change in plan.changes):
        return False
    scope, limits = build_scope(desired), replace(run.limits, statement_ms=COUNT_MS, total_s=COUNT_MS / 1000 + 2)
    try:
        with limited(conn, limits):
            counts = await read_usage_counts(conn, scope)
            report = PendingUsage(run.turn.usage_id or str(uuid.uuid4()), counts.payload(scope), 0)
            await _queue(conn, desired, replace(run, limits=limits), report)
    except FivrecError as exc:
        said = f"⚠️ the usage could not be counted: {exc.message}"
        run.log.warning("usage", said, instance=desired.instance, error=exc.code)
        return False
    return True


async def _queue(conn: Connection, desired: Desired, run: Run, report: PendingUsage) -> None:
    """Try once more if the connection was lost: the report may be queued already, and then its id prevents a second
    one."""
    scope = build_scope(desired)
    try:
        await write_usage(conn, scope, report)
    except DatabaseError:
        if not conn.closed:
            raise
        async with reopen_if_lost(conn, desired, run) as other:
            await write_usage(other, scope, report)


async def send_waiting(desired: Desired, run: Run, *, all_of_them: bool = False) -> Sent:
    """Send the reports that are due, oldest first, until Connect can't be asked.

    A report whose content Connect refuses (400, 409, 422) waits on its own, longer each time: those after it are sent.
    """
    taken: list[str] = []
    first: ErrorInfo | None = None
    async with database(desired, run) as conn:
        waiting = await read_pending_usage(conn, build_scope(desired), all_of_them=all_of_them)
        if not waiting:
            return Sent()
        async with connect_client(desired, run) as found:
            client = require_connect(found)
            for report in waiting:
                refusal = await _send(conn, client, desired, report)
                if refusal is None:
                    taken.append(report.id)
                    continue
                first = first or ErrorInfo.of(refusal)
                if not of_its_content(refusal):
                    break
    return Sent(tuple(taken), len(waiting) - len(taken), first)


async def _send(conn: Connection, client: ConnectClient, desired: Desired, report: PendingUsage) -> ConnectError | None:
    scope = build_scope(desired)
    try:
        await client.send_usage(report.payload, report.id)
    except ConnectError as exc:
        own = retry_delay(report.attempts + 1, random.random())  # noqa: S311 (spreads retries)
        if of_its_content(exc):  # the same report gets the same answer until somebody changes something at Connect
            own = min(LAST_REFUSED_S, LAST_RETRY_S * 2 ** min(report.attempts, 16))
        wait = max(own, min(asked_to_wait(exc), LAST_RETRY_S))
        await mark_usage_failed(conn, scope, report.id, exc.message, retry_s=wait)
        return exc
    await mark_usage_sent(conn, scope, report.id)
    return None
