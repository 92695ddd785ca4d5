"""Usage: the counts of an instance's environment, and the reports that wait in the database for Connect to take them.

A report is queued, and marked once it is sent. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, LiteralString

from reconciler.database.column_values import time_value
from reconciler.database.connection import Connection
from reconciler.database.rows import Json, Scope, parse_features
from reconciler.database.statements import query
from reconciler.database.transaction import read_if_made, read_once, read_rows, read_rows_once, write_once
from reconciler.model.records import dataclass
from reconciler.model.types import Value, rfc3339


@dataclass(frozen=True, slots=True)
class UsageCounts:
    """The counts of one `environment` only. `features` are the instance's, not the environment's. `owner` is the
    instance that instance_config names, or the records if its row is gone."""

    environment: str
    users: int
    conversations: int
    clients: int
    queues: int
    active_conversations: int
    last_activity: datetime | None
    features: Mapping[str, Value]
    owner: str | None

    def payload(self, scope: Scope) -> dict[str, Value]:
        """Returns the report in Connect's format (seed: Relatório de Uso)."""
        at = self.last_activity
        return {
            "instanceId": scope.instance,
            "totalUsers": self.users,
            "totalConversations": self.conversations,
            "totalClients": self.clients,
            "totalQueues": self.queues,
            "activeConversations": self.active_conversations,
            "environment": self.environment,
            "lastActivity": rfc3339(at) if at else None,
            "features": dict(self.features),
        }


@dataclass(frozen=True, slots=True)
class PendingUsage:
    """A report that Connect has not taken yet; `id` is its idempotency key."""

    id: str
    payload: Mapping[str, Value]
    attempts: int


async def read_usage_counts(conn: Connection, scope: Scope) -> UsageCounts:
    """Counts the environment that the instance's rows are in: a manifest that names another is not applied (yet)."""
    known = {"environment": query("readings", "environment"), "recorded": query("readings", "recorded")}
    rows = await read_if_made(conn, _counts(scope), known, _params(scope), scope=scope)
    environment = next((row["environment"] for row in rows["environment"]), scope.environment)
    recorded = next((row["owner"] for row in rows["recorded"]), None)
    if environment != scope.environment:
        scope = replace(scope, environment=environment)
        rows = await read_once(conn, _counts(scope), _params(scope), scope=scope)
    counts = _usage_counts(rows["counts"][0], scope)
    return replace(counts, owner=counts.owner or recorded)


async def read_counts_within(conn: Connection, scope: Scope) -> UsageCounts:
    """Counts the scope's environment, in the open transaction."""
    (row,) = await read_rows(conn, _counts(scope)["counts"], _params(scope))
    return _usage_counts(row, scope)


def _counts(scope: Scope) -> dict[str, LiteralString]:
    return {"counts": query("usage", "counts", scope.schema)}


def _params(scope: Scope) -> dict[str, str]:
    return {"instance": scope.instance, "environment": scope.environment}


def _usage_counts(row: Mapping[str, Any], scope: Scope) -> UsageCounts:
    return UsageCounts(
        environment=scope.environment,
        users=row["users"],
        conversations=row["conversations"],
        clients=row["clients"],
        queues=row["queues"],
        active_conversations=row["active_conversations"],
        last_activity=time_value(row["last_activity"], "conversations", "last_activity_at", "the newest"),
        features=parse_features(row["features"]),
        owner=row["owner"],
    )


async def read_pending_usage(conn: Connection, scope: Scope, *, all_of_them: bool = False) -> tuple[PendingUsage, ...]:
    """Returns the newest hundred reports that are due, oldest first; with `all_of_them` also those that wait after a
    failure. Reports queued before the instance went live are sent all the same: each says which environment it counts.
    """
    params = {"instance": scope.instance, "all": all_of_them, "limit": 100}
    rows = await read_rows_once(conn, query("usage", "pending"), params, scope=scope)
    return tuple(PendingUsage(row["id"], row["payload"], row["attempts"]) for row in rows)


async def write_usage(conn: Connection, scope: Scope, report: PendingUsage) -> None:
    """Queue a report, in a transaction of its own."""
    named = {"instance": scope.instance, "environment": report.payload["environment"]}
    params = {**named, "id": report.id, "payload": Json(dict(report.payload))}
    await write_once(conn, [(query("record", "usage"), params)], scope=scope, held="fivrec")


async def mark_usage_sent(conn: Connection, scope: Scope, report: str) -> bool:
    """Record that Connect took the report. Returns False if it was marked before."""
    write = (query("usage", "sent"), {"id": report})
    return await write_once(conn, [write], scope=scope, held="fivrec") > 0


async def mark_usage_failed(conn: Connection, scope: Scope, report: str, error: str, *, retry_s: float) -> None:
    """Record that Connect did not take the report; it is due again after `retry_s`. `error` must not hold a secret."""
    write = (query("usage", "failed"), {"id": report, "error": error, "retry_s": retry_s})
    await write_once(conn, [write], scope=scope, held="fivrec")
