"""What the commands show of an instance: status, checks, history, rows out of place. Each in a transaction of its own.

Columns of type `timestamp` hold UTC; the times returned from here are aware.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, LiteralString

from reconciler.database.column_values import plain_value, text_value, time_value, whole_value, yes_no_value
from reconciler.database.connection import Connection
from reconciler.database.rows import Scope, flat, open_drift_from, parse_features
from reconciler.database.statements import query
from reconciler.database.transaction import read_if_made, read_once, read_rows_once
from reconciler.model.changes import Former
from reconciler.model.errors import DatabaseError
from reconciler.model.records import dataclass
from reconciler.model.types import OTHER_ENVIRONMENT, CheckType, Key, OpenDrift, Value
from reconciler.planning.audit import AuditEntry

_PAGE = 1000
_ODD_TABLE = frozenset({"schema_missing", "tables_elsewhere", "table_unfit", "column_type"})


@dataclass(frozen=True, slots=True)
class CheckLog:
    """One row of status_check_logs."""

    id: str
    at: datetime
    check_type: str
    success: bool
    status_received: str | None
    error_message: str | None
    response_time_ms: int | None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which status checks to read. `since` is aware. `before`: only older ones, for the next page. `oldest_first` is
    for following: the limit cuts off the newest, and the next reading goes on from there."""

    since: datetime | None = None
    check_type: CheckType | None = None
    failed: bool = False
    limit: int = 50
    before: CheckLog | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which audit entries to read. `since` is aware; `run` is the beginning of a run's id; `after` is a seq."""

    since: datetime | None = None
    kind: str | None = None
    run: str | None = None
    limit: int = 50
    after: int | None = None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run that recorded anything, even if it changed nothing: how it ended, how much drift it found, how much
    of that is left (`open_drift`), and the former resources. `error` is the code of what stopped it."""

    run_id: str
    at: datetime
    command: str
    actor: str
    git_commit: str | None
    outcome: str
    error: str | None
    changes: int
    drift: int
    open_drift: tuple[OpenDrift, ...] = ()
    former: tuple[Former, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsent:
    """How many usage reports Connect did not accept, when the oldest was counted, and Connect's last error."""

    count: int
    since: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class StatusView:
    """What the database knows about an instance. If Connect has never `answered`, the status is unknown, whatever the
    columns' defaults say. `environment`: what it was last applied as, or if that is unknown, what the manifest has
    (`declared`). Not `configured`: there is no row of instance_config, and no more is known than the last run."""

    instance: str
    status: str | None
    billing_status: str | None
    enabled_features: Mapping[str, Value]
    is_locked: bool | None
    check_interval_minutes: int | None
    connect_api_url: str | None
    last_status_check: datetime | None
    answered: bool
    last_check: CheckLog | None
    last_run: LastRun | None
    environment: str
    declared: str
    unsent: Unsent | None = None
    configured: bool = True


@dataclass(frozen=True, slots=True)
class BreakingRow:
    """A row that has no environment, or whose `reason` (a column) refers to a row outside its own environment."""

    table: str
    id: str
    reason: str


async def read_version(conn: Connection, scope: Scope) -> int:
    """Returns the newest migration that the database has, even one that this fivrec does not know."""
    (row,) = await read_rows_once(conn, query("guard", "newest"), {}, scope=scope)
    return row["version"] or 0


async def read_owner(conn: Connection, scope: Scope) -> str | None:
    """Returns the instance that instance_config names. If its row is gone, or the table is not as it should be, that of
    the records."""
    seen, own = {"row": query("readings", "owner", scope.schema)}, {"recorded": query("readings", "recorded")}
    params = {"instance": scope.instance}
    try:
        rows = await read_if_made(conn, seen, own, params, scope=scope)
    except DatabaseError as exc:
        if exc.code not in _ODD_TABLE:
            raise
        rows = await read_if_made(conn, {}, own, params, scope=scope)
    return next((row["owner"] for row in (*rows.get("row", ()), *rows["recorded"])), None)


async def read_status(conn: Connection, scope: Scope) -> StatusView | None:
    """Returns None if the instance was never configured. Raises DatabaseError `schema_missing` before a first apply."""
    seen = {name: query("readings", name, scope.schema) for name in ("status", "last_check")}
    own = {name: query("readings", name) for name in ("last_run", "environment", "unsent")}
    rows = await read_if_made(conn, seen, own, {"instance": scope.instance}, scope=scope)
    if not rows["status"]:
        return None
    row = rows["status"][0]
    answered = row["answered"]
    return StatusView(
        instance=scope.instance,
        status=text_value(row["status"]) if answered else None,
        billing_status=text_value(row["billing_status"]) if answered else None,
        enabled_features=parse_features(row["enabled_features"]) if answered else {},
        is_locked=yes_no_value(row["is_locked"]),
        check_interval_minutes=plain_value(
            row["check_interval_minutes"], "instance_config", "check_interval_minutes", row["instance_id"]
        ),
        connect_api_url=text_value(row["connect_api_url"]) or "",
        last_status_check=time_value(
            row["last_status_check"], "instance_config", "last_status_check", row["instance_id"]
        ),
        answered=answered,
        last_check=next((_check(item) for item in rows["last_check"]), None),
        last_run=next((_run(item) for item in rows["last_run"]), None),
        environment=next((item["environment"] for item in rows["environment"]), scope.environment),
        declared=scope.environment,
        unsent=next((Unsent(**item) for item in rows["unsent"]), None),
    )


async def read_unconfigured(conn: Connection, scope: Scope) -> StatusView | None:
    """Returns what is known before an instance is configured, as after `setup`; None if no run was recorded."""
    own = {"run": query("readings", "run_before"), "environment": query("readings", "environment")}
    rows = await read_if_made(conn, {}, own, {"instance": scope.instance}, scope=scope)
    if not rows["run"]:
        return None
    return StatusView(
        instance=scope.instance,
        status=None,
        billing_status=None,
        enabled_features={},
        is_locked=None,
        check_interval_minutes=None,
        connect_api_url=None,
        last_status_check=None,
        answered=False,
        last_check=None,
        last_run=_run(rows["run"][0]),
        environment=next((item["environment"] for item in rows["environment"]), scope.environment),
        declared=scope.environment,
        configured=False,
    )


async def read_checks(conn: Connection, scope: Scope, wanted: LogFilter) -> tuple[CheckLog, ...]:
    """Returns the checks, newest first unless `wanted` says otherwise."""
    before = wanted.before
    params: dict[str, Any] = {
        "instance": scope.instance,
        "since": _naive(wanted.since),
        "check_type": wanted.check_type,
        "failed": wanted.failed,
        "limit": wanted.limit,
        "before_at": _naive(before.at) if before else None,
        "before_id": before.id if before else None,
    }
    name = "checks_oldest_first" if wanted.oldest_first else "checks"
    rows = await read_rows_once(conn, query("readings", name, scope.schema), params, scope=scope)
    return tuple(_check(row) for row in rows)


async def read_history(conn: Connection, scope: Scope, wanted: HistoryFilter) -> tuple[AuditEntry, ...]:
    """Returns the instance's audit entries, newest first; if `wanted` has `after`, oldest first."""
    params = {"instance": scope.instance, **flat(wanted)}
    text = query("readings", "history" if wanted.after is None else "history_after")
    return tuple(entry_from_row(row) for row in await read_rows_once(conn, text, params, scope=scope))


async def read_chain(conn: Connection, scope: Scope, *, page: int = _PAGE) -> AsyncIterator[AuditEntry]:
    """Yields every row of the audit log, oldest first, in bounded memory, even rows whose numbers fivrec never gave."""
    after: int | None = None
    while True:
        params = {"after": after, "limit": page}
        rows = await read_rows_once(conn, query("readings", "chain"), params, scope=scope)
        for row in rows:
            yield entry_from_row(row)
        if len(rows) < page:
            return
        after = rows[-1]["seq"]


async def read_signing(conn: Connection, scope: Scope) -> tuple[datetime, datetime] | None:
    """Returns since when the audit log has a column for signatures, and the time now; None if it has none."""
    rows = await read_rows_once(conn, query("readings", "signing"), {}, scope=scope)
    return next(((row["since"], row["until"]) for row in rows), None)


async def read_breaking_rows(conn: Connection, scope: Scope, *, limit: int = 1000) -> tuple[BreakingRow, ...]:
    """Returns the rows of both environments that keep a constraint of isolation from being validated. Usually none."""
    if not await read_rows_once(conn, query("isolation", "unvalidated"), {}, scope=scope):
        return ()  # the server has checked every row: no scan is needed
    text = query("isolation", "breaking_rows", scope.schema)
    found: set[tuple[str, str, str]] = set()
    for environment in OTHER_ENVIRONMENT:  # row-level security shows the rows of one at a time
        rows = await read_rows_once(conn, text, {"limit": limit}, scope=replace(scope, environment=environment))
        found |= {(row["table_name"], row["id"], row["reason"]) for row in rows}
    return tuple(BreakingRow(*row) for row in sorted(found, key=str)[:limit])  # the app's ids may be NULL


async def read_foreseen_rows(
    conn: Connection, scope: Scope, *, limit: int
) -> tuple[tuple[BreakingRow, ...], tuple[str, ...]]:
    """Returns the rows that a first apply will find to break a constraint of isolation, and the tables that are too big
    to be searched before it."""
    found = await read_rows_once(conn, query("purge", "foreseen", scope.schema), {"limit": limit}, scope=scope)
    probes: dict[str, LiteralString] = {
        str(place): row["probe"].replace("%", "%%") for place, row in enumerate(found) if row["probe"]
    }
    broken = await read_once(conn, probes, {}, scope=scope) if probes else {}
    rows = {
        BreakingRow(row["name"], one["id"], row["reason"])
        for place, row in enumerate(found)
        for one in broken.get(str(place), ())
    }
    return tuple(sorted(rows, key=str)[:limit]), tuple(row["name"] for row in found if not row["probe"])


def _check(row: Mapping[str, Any]) -> CheckLog:
    at = time_value(row["created_at"], "status_check_logs", "created_at", row["id"])
    assert at is not None  # noqa: S101 (a check without a time is not read)
    return CheckLog(
        id=str(row["id"]),
        at=at,
        check_type=text_value(row["check_type"]) or "",
        success=yes_no_value(row["success"]),
        status_received=text_value(row["status_received"]),
        error_message=text_value(row["error_message"]),
        response_time_ms=whole_value(row["response_time"]),
    )


def _run(row: Mapping[str, Any]) -> LastRun:
    former = (
        Former(Key(item["kind"], item["name"]), item["run_id"], datetime.fromisoformat(item["at"]))
        for item in row["former"]
    )
    lists = {"open_drift": open_drift_from(row["open_drift"]), "former": tuple(former)}
    return LastRun(**{**row, "at": row["at"].astimezone(UTC), **lists})


def entry_from_row(row: Mapping[str, Any]) -> AuditEntry:
    known = {item.name: row[item.name] for item in fields(AuditEntry) if item.name in row}
    return AuditEntry(**{**known, "at": row["at"].astimezone(UTC)})


def _naive(value: datetime | None) -> datetime | None:
    return value.astimezone(UTC).replace(tzinfo=None) if value else None
