"""Alerts that wait in the instance's database until every receiver has taken them. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.database.connection import Connection
from reconciler.database.encoding import codec_of, fitted
from reconciler.database.rows import Json, Scope
from reconciler.database.statements import Statement, query
from reconciler.database.transaction import read_once, write_once
from reconciler.model.types import Value
from reconciler.planning.alerts import Alert


async def read_alerts(
    conn: Connection, scope: Scope, *, older_s: float
) -> tuple[tuple[dict[str, Value], ...], str | None]:
    """Returns the waiting alerts, oldest first, and the code of the last reported trouble, or None if it is over."""
    statements = {"waiting": query("alerts", "waiting"), "trouble": query("alerts", "trouble")}
    params = {"instance": scope.instance, "older_s": older_s}
    rows = await read_once(conn, statements, params, scope=scope)
    waiting = tuple({**row["payload"], "alert_id": row["id"]} for row in rows["waiting"])
    return waiting, next((row["code"] for row in rows["trouble"]), None)


def alert_in_encoding(alert: Alert, codec: str | None) -> Alert:
    return replace(alert, message=fitted(alert.message, codec), fields=fitted(alert.fields, codec))


def alert_statements(alerts: Sequence[Alert], scope: Scope) -> list[Statement]:
    """Returns the statements that store these alerts and delete old ones."""
    if not alerts:
        return []
    rows = [{"id": alert.id, "alert": alert.name, "payload": alert.payload()} for alert in alerts]
    named = {"instance": scope.instance}
    return [
        (query("record", "alerts"), {**named, "alerts": Json(rows)}),
        (query("record", "old_alerts"), named),
    ]


async def write_alerts(conn: Connection, scope: Scope, alerts: Sequence[Alert]) -> None:
    """Store alerts in a transaction of their own."""
    codec = codec_of(conn)
    fit = [alert_in_encoding(alert, codec) for alert in alerts]
    await write_once(conn, alert_statements(fit, scope), scope=scope, held="fivrec")


async def mark_alerts_sent(conn: Connection, scope: Scope, ids: Sequence[str]) -> None:
    await write_once(conn, [(query("alerts", "delivered"), {"ids": list(ids)})], scope=scope, held="fivrec")
