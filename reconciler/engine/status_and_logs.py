"""What an instance's database and Connect say about it; changes neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from reconciler.database.connection import Connection
from reconciler.database.schema import latest_version, older_note
from reconciler.database.status_queries import (
    CheckLog,
    HistoryFilter,
    LogFilter,
    StatusView,
    read_chain,
    read_checks,
    read_history,
    read_owner,
    read_signing,
    read_status,
    read_unconfigured,
    read_version,
)
from reconciler.engine.audit_log import signatures_of, traces_of
from reconciler.engine.guards import configured_as, refuse_other_owner, say_newer
from reconciler.engine.observe import build_scope, connect_client, database, read_snapshot
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, MissingSetting, as_error
from reconciler.model.records import dataclass
from reconciler.model.types import ConnectPlan, Desired, ErrorInfo
from reconciler.planning.audit import AuditEntry
from reconciler.planning.audit_check import Chain, Finding
from reconciler.planning.rollout import WELL

if TYPE_CHECKING:
    from reconciler.connect.client import ConnectClient
    from reconciler.connect.responses import ConnectDatabase

T = TypeVar("T")

NEVER_APPLIED = frozenset({"database_missing", "schema_missing"})


@dataclass(frozen=True, slots=True)
class QueryResult(Generic[T]):
    """The result of reading one instance: a value, or the error that prevented it. `said`: the error was already shown.
    `row`: the instance's line in a fleet's CSV file."""

    instance: str
    environment: str
    value: T | None
    error: ErrorInfo | None = None
    exit_code: int = 0
    said: bool = False
    row: str = ""


async def try_reading(desired: Desired, ask: Callable[[], Awaitable[T]]) -> QueryResult[T]:
    """Read all instances. Errors, expected or not, become part of the result: one instance never prevents reading the
    others."""
    name, environment, row = desired.instance, desired.environment.name, desired.origin.row
    try:
        return QueryResult(name, environment, await ask(), row=row)
    except Exception as exc:  # noqa: BLE001 (the others' readings stand, whatever it is)
        error = as_error(exc)
    return QueryResult(name, environment, None, ErrorInfo.of(error), error.exit_code, row=row)


async def query_status(desired: Desired, run: Run) -> StatusView | None:
    """Returns None if nothing was ever run here, and a view that is not `configured` if the instance was never applied;
    a table that has since disappeared is an error."""
    version = 0
    try:
        async with database(desired, run) as conn:
            version = await warn_of_version(conn, desired, run)
            view = await read_status(conn, build_scope(desired))
            if view is None:
                await refuse_another_owner(conn, desired)
                view = await read_unconfigured(conn, build_scope(desired))
            return view
    except DatabaseError as exc:
        if exc.code in NEVER_APPLIED and not version:
            return None
        raise


def needs_somebody(view: StatusView | None) -> bool:
    """Whether somebody has to act: the instance can't be read or was never applied, Connect's answer is bad or missing
    (also if it was not followed: suspend, ignore), the last run did not do its work, drift or former resources remain,
    or the manifest declares another environment than the rows have."""
    if view is None:
        return True
    run, check = view.last_run, view.last_check
    said = view.is_locked or view.status != "active" or view.billing_status != "paid"
    unanswered = check is None or not check.success or check.status_received not in (None, "active")
    undone = run is not None and (run.outcome not in WELL or bool(run.open_drift or run.former))
    return said or unanswered or undone or view.environment != view.declared


def is_unchecked(view: StatusView, now: datetime) -> bool:
    """Whether the status is old: nobody checked for two intervals. That is not a problem of the instance (perhaps only
    a pipeline runs), but a reason to doubt that it has none."""
    if view.last_check is None or not view.check_interval_minutes:
        return False
    return now - view.last_check.at > timedelta(minutes=2 * view.check_interval_minutes)


async def query_checks(desired: Desired, run: Run, wanted: LogFilter) -> tuple[CheckLog, ...]:
    """Status checks, newest first unless `wanted` says otherwise."""
    async with database(desired, run) as conn:
        await warn_of_version(conn, desired, run)
        checks = await read_checks(conn, build_scope(desired), wanted)
        if not checks:
            await refuse_another_owner(conn, desired)
        return checks


async def query_history(desired: Desired, run: Run, wanted: HistoryFilter) -> tuple[AuditEntry, ...]:
    """Audit entries, newest first; the entries `after` a given one, oldest first."""
    async with database(desired, run) as conn:
        await warn_of_version(conn, desired, run)
        await refuse_another_owner(conn, desired)
        return await read_history(conn, build_scope(desired), wanted)


async def refuse_another_owner(conn: Connection, desired: Desired) -> None:
    """Raises Refused if the database belongs to another instance: what it lacks says nothing of this one."""
    refuse_other_owner(await read_owner(conn, build_scope(desired)), desired.instance)


async def warn_of_version(conn: Connection, desired: Desired, run: Run) -> int:
    """Warn once per run and instance if another version of fivrec migrated the schema, and read it anyway. Returns the
    newest migration; 0 if there is none."""
    try:
        version = await read_version(conn, build_scope(desired))
    except DatabaseError as exc:
        if exc.code in NEVER_APPLIED:
            return 0
        raise
    say_newer(version, desired, run)
    if version < latest_version():
        run.warn_once(f"older {desired.instance}", older_note(version), desired.instance)
    return version


async def verify_history(desired: Desired, run: Run, expected_head: str | None) -> Chain:
    """Verify the whole chain, entry by entry, in bounded memory. A failure names the entry.

    A failure is checked a second time: a watch's retention may have deleted the oldest entries between two pages.
    """
    async with database(desired, run) as conn:
        await warn_of_version(conn, desired, run)
        found = await _verified(conn, desired, run, expected_head)
        return found if found.finding is None else await _verified(conn, desired, run, expected_head)


async def _verified(conn: Connection, desired: Desired, run: Run, expected_head: str | None) -> Chain:
    # Of the app's rows only the instance's own is read: the log can be verified whatever is wrong with the others.
    scope = replace(build_scope(desired), admin_email=None, admin_renamed_from=None, references=False)
    snapshot = await read_snapshot(conn, scope, kinds=frozenset())
    refuse_other_owner(snapshot.owner or configured_as(snapshot, desired.instance), desired.instance)
    say_newer(snapshot.schema_version, desired, run)
    traces = traces_of(snapshot)
    chain = Chain(expected_head, signing=await read_signing(conn, scope))
    try:
        chain.signatures = signatures_of(snapshot.audit_key, run.keys, desired.instance)
    except MissingSetting as exc:
        chain.unchecked = ErrorInfo.of(exc)
        if exc.code == "key_mismatch":
            chain.finding = Finding(1, "the audit key was changed, or moved here from another database")
    try:
        async for entry in read_chain(conn, scope):
            chain.take(entry)
            if chain.finding is not None:
                break
    except DatabaseError as exc:
        if exc.code != "schema_missing" or traces is None:
            raise  # nothing was ever applied
    chain.close(traces)
    return chain


async def fetch_plans(desired: Desired, run: Run) -> tuple[ConnectPlan, ...]:
    async with connect_client(desired, run) as client:
        return await require_connect(client).fetch_plans()


async def fetch_databases(desired: Desired, run: Run) -> tuple[ConnectDatabase, ...]:
    async with connect_client(desired, run) as client:
        return await require_connect(client).fetch_databases()


def require_connect(client: ConnectClient | None) -> ConnectClient:
    if client is None:
        raise MissingSetting("the manifest names no Connect", hint="set config.connect_api_url")
    return client
