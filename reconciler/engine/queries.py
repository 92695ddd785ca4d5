"""What an instance's database and Connect say of it, without changing either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from reconciler.database.status_queries import (
    CheckLog,
    StatusView,
    read_chain,
    read_checks,
    read_history,
    read_status,
)
from reconciler.engine.observe import build_scope, connect_client, database
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError, MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, ConnectPlan, Desired, ErrorInfo
from reconciler.planning.audit import AuditEntry, Chain

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from reconciler.connect.client import ConnectClient
    from reconciler.connect.responses import ConnectDatabase

T = TypeVar("T")

NEVER_APPLIED = frozenset({"database_missing", "schema_missing"})


@dataclass(frozen=True, slots=True)
class QueryResult(Generic[T]):
    """What was read of one instance: a value, or the error that kept it."""

    instance: str
    environment: str
    value: T | None
    error: ErrorInfo | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which status checks are shown. `since` is aware. `after`: only newer ones; `before`: only older ones."""

    since: datetime | None = None
    check_type: CheckType | None = None
    failed: bool = False
    limit: int = 50
    after: CheckLog | None = None
    before: CheckLog | None = None


async def try_reading(desired: Desired, ask: Callable[[], Awaitable[T]]) -> QueryResult[T]:
    """Foreseen errors become part of the reading: one instance never keeps the others from being read."""
    name, environment = desired.instance, desired.environment.name
    try:
        return QueryResult(name, environment, await ask())
    except FivrecError as exc:
        return QueryResult(name, environment, None, ErrorInfo(exc.code, exc.message, exc.hint), exc.exit_code)


async def query_status(desired: Desired, run: Run) -> StatusView | None:
    """None where the instance was never applied."""
    try:
        async with database(desired, run) as conn:
            return await read_status(conn, build_scope(desired), limits=run.limits)
    except DatabaseError as exc:
        if exc.code in NEVER_APPLIED:
            return None
        raise


async def query_checks(desired: Desired, run: Run, wanted: LogFilter) -> tuple[CheckLog, ...]:
    """Status checks, newest first."""
    async with database(desired, run) as conn:
        return await read_checks(
            conn,
            build_scope(desired),
            since=wanted.since,
            check_type=wanted.check_type,
            failed=wanted.failed,
            limit=wanted.limit,
            after=wanted.after,
            before=wanted.before,
            limits=run.limits,
        )


async def query_history(
    desired: Desired, run: Run, *, since: datetime | None, kind: str | None, limit: int, cause: str | None = None
) -> tuple[AuditEntry, ...]:
    """Audit entries, newest first."""
    async with database(desired, run) as conn:
        return await read_history(
            conn, build_scope(desired), since=since, kind=kind, cause=cause, limit=limit, limits=run.limits
        )


async def verify_history(desired: Desired, run: Run, expected_head: str | None) -> Chain:
    """The whole chain, entry by entry, in bounded memory; a failed one says where.

    What is found is looked for once more: a watch's retention may have deleted the oldest entries between two pages.
    """
    async with database(desired, run) as conn:
        chain = await _chain_of(conn, desired, run, expected_head)
        return chain if chain.finding is None else await _chain_of(conn, desired, run, expected_head)


async def _chain_of(conn: AsyncConnection, desired: Desired, run: Run, expected_head: str | None) -> Chain:
    chain = Chain(expected_head)
    async for entry in read_chain(conn, build_scope(desired), limits=run.limits):
        chain.take(entry)
        if chain.finding is not None:
            break
    chain.close()
    return chain


async def fetch_plans(desired: Desired, run: Run) -> tuple[ConnectPlan, ...]:
    async with connect_client(desired, run) as client:
        return await _asked(client).fetch_plans()


async def fetch_databases(desired: Desired, run: Run) -> tuple[ConnectDatabase, ...]:
    async with connect_client(desired, run) as client:
        return await _asked(client).fetch_databases()


def _asked(client: ConnectClient | None) -> ConnectClient:
    if client is None:
        raise MissingSetting("the manifest names no Connect", hint="set config.connect_api_url")
    return client
