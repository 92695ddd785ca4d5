"""Usage reports: counted and queued in one transaction, sent after it, again until Connect took them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.adapters import outbox, store
from reconciler.core.model import Desired, Value
from reconciler.errors import ConnectError, MissingSetting
from reconciler.flow.instance import connect_client, database, scope_of
from reconciler.flow.run import Run

RETRY_S = 60.0
"""How long a report that Connect did not take waits, for each time it was tried; an hour at most."""

_MAX_RETRY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that Connect took; `sent` counts it and those that had waited."""

    id: str
    payload: Mapping[str, Value]
    sent: int


async def count_usage(desired: Desired, run: Run) -> Mapping[str, Value]:
    """The report as Connect would get it now (seed: Relatório de Uso)."""
    scope = scope_of(desired)
    async with database(desired, run) as conn:
        return (await outbox.read_usage_counts(conn, scope, limits=run.limits)).payload(scope)


async def queue_usage(desired: Desired, run: Run) -> outbox.PendingUsage:
    """Count, and leave the report in the database: from here on it reaches Connect, once."""
    scope = scope_of(desired)
    async with database(desired, run) as conn:
        payload = (await outbox.read_usage_counts(conn, scope, limits=run.limits)).payload(scope)
        row = store.UsageRow(str(uuid.uuid4()), payload)
        await store.begin_recording(conn, scope, limits=run.limits)
        await store.commit(conn, store.Writes(run_id=run.id, usage=row), scope, limits=run.limits)
    return outbox.PendingUsage(row.id, payload, 0)


async def send_pending(desired: Desired, run: Run, *, all_of_them: bool) -> tuple[str, ...]:
    """Send what waits, oldest first, and give the ids that Connect took. ConnectError at the first it did not take.

    The order is kept: one that is stuck holds back those behind it, and none is counted twice.
    """
    scope = scope_of(desired)
    taken: list[str] = []
    async with connect_client(desired, run) as client:
        if client is None:
            raise MissingSetting("the manifest names no Connect", hint="set config.connect_api_url")
        async with database(desired, run) as conn:
            pending = await outbox.read_pending_usage(conn, scope, all_of_them=all_of_them, limits=run.limits)
        for report in pending:
            try:
                await client.send_usage(report.payload, report.id)
            except ConnectError as exc:
                retry_s = min(RETRY_S * (report.attempts + 1), _MAX_RETRY_S)
                async with database(desired, run) as conn:
                    said = f"{exc.code}: {exc.message}"
                    await outbox.mark_usage_failed(conn, scope, report.id, said, retry_s=retry_s, limits=run.limits)
                raise
            async with database(desired, run) as conn:
                await outbox.mark_usage_sent(conn, scope, report.id, limits=run.limits)
            taken.append(report.id)
    return tuple(taken)


async def report_usage(desired: Desired, run: Run) -> Reported:
    """Queue a report and send it, with all that waited. ConnectError where Connect did not take it: it stays queued."""
    queued = await queue_usage(desired, run)
    taken = await send_pending(desired, run, all_of_them=True)
    return Reported(queued.id, queued.payload, len(taken))
