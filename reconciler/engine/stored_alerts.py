"""Alerts in an instance's database: stored apart from the run's transaction, read after a kill, marked when sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.database.alert_outbox import mark_alerts_sent, read_alerts, write_alerts
from reconciler.database.store import AlertRow
from reconciler.engine.observe import build_scope, database
from reconciler.engine.run import Run
from reconciler.model.errors import FivrecError
from reconciler.model.types import Desired, Value
from reconciler.planning.alerts import Alert

SETTLED_S = 60.0
"""An alert that is younger is about to be delivered by the process that stored it."""


def alert_rows(alerts: Sequence[Alert]) -> tuple[AlertRow, ...]:
    return tuple(AlertRow(alert.id, alert.name, alert.payload()) for alert in alerts)


def as_stored(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    return tuple(replace(alert, stored=True) for alert in alerts)


async def store_alerts(desired: Desired, run: Run, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Best effort, in a transaction of its own: the alerts, as stored if they could be."""
    if not alerts:
        return ()
    try:
        async with database(desired, run) as conn:
            await write_alerts(conn, build_scope(desired), alert_rows(alerts), limits=run.limits)
    except FivrecError:
        return tuple(alerts)
    return as_stored(alerts)


async def read_stored(desired: Desired, run: Run, *, first: bool) -> tuple[tuple[dict[str, Value], ...], str | None]:
    """Alerts that wait for delivery, and the trouble that was reported last. `first`: who stored them may be gone."""
    async with database(desired, run) as conn:
        older_s = 0.0 if first else SETTLED_S
        return await read_alerts(conn, build_scope(desired), older_s=older_s, limits=run.limits)


async def mark_delivered(desired: Desired, run: Run, ids: Sequence[str]) -> None:
    async with database(desired, run) as conn:
        await mark_alerts_sent(conn, build_scope(desired), ids, limits=run.limits)
