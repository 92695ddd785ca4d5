"""One instance's database, read and written whole: begin (lock, read), then commit (write) or rollback.

A no-op apply is two round trips: begin is one pipeline, commit another. Decides nothing: what to write is flow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from datetime import UTC
from functools import cache
from typing import Any, LiteralString
from uuid import uuid4

from psycopg.pq import TransactionStatus

from reconciler.database import adoption, queue_references, transaction
from reconciler.database.connection import Connection, Limits, rollback, shut_down, with_deadline
from reconciler.database.errors import SCHEMA_MISSING
from reconciler.database.purge import Removed, delete_development
from reconciler.database.rows import (
    Json,
    RowWrite,
    Scope,
    kinds_with_references,
    kinds_with_rows,
    row_write,
    snapshot_from_rows,
)
from reconciler.database.schema import build_migration_sql, read_missing
from reconciler.database.statements import query, statement
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.records import dataclass
from reconciler.model.types import CheckType, Key, Snapshot, Value
from reconciler.planning.audit import AuditEntry, Head
from reconciler.support.cancellation import finish_despite_cancel
from reconciler.support.crypto.keyring import KeyRing

__all__ = [
    "CheckRow",
    "RowWrite",
    "Scope",
    "UsageRow",
    "Writes",
    "begin",
    "begin_recording",
    "commit",
    "rehearse",
    "rollback",
    "row_write",
]

_RECORDS = ("migrations", "audit_head", "applied")
_DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A status check, as status_check_logs holds it. Its id is made here: by it a lost COMMIT is looked up."""

    check_type: CheckType
    success: bool
    status_received: str | None
    error_message: str | None
    response_time_ms: int | None
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A usage report to send; `id` is its idempotency key."""

    id: str
    payload: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Writes:
    """All that one run writes, in the order it is written: migrations, rows, what was applied, audit, check, usage.

    `purge` names the tables whose development rows go, after the migrations and before everything else; the user whose
    id is `kept` comes along into production.
    `prune_audit` deletes audit entries up to this seq; one of `audit` has to say so.
    """

    run_id: str
    migrate: bool = False
    purge: tuple[str, ...] = ()
    kept: str | None = None
    rows: tuple[RowWrite, ...] = ()
    applied: tuple[tuple[Key, Mapping[str, Value]], ...] = ()
    forgotten: tuple[Key, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    check: CheckRow | None = None
    usage: UsageRow | None = None
    prune_audit: int | None = None


async def begin(
    conn: Connection,
    scope: Scope,
    keys: KeyRing | None,
    *,
    lock: bool,
    limits: Limits = _DEFAULTS,
    deep: bool = False,
    last_check: bool = False,
    last_heard: bool = False,
) -> Snapshot:
    """Begin a transaction, with the instance's lock or read-only, and read. Leaves it open; an error leaves none.

    A schema that is missing or stale is read as far as it goes, and what it lacks is in `missing`, as it is with
    `deep`. `last_check` reads the newest check of a watch too, `last_heard` the status of the newest that
    succeeded. Busy; DatabaseError; MissingSetting where the stored key fits none of `keys`; Refused where the
    administrator can't come along from the other environment.
    """
    try:
        async with with_deadline(conn, limits.total_s):
            try:
                wanted = {"last_check": last_check, "last_heard": last_heard}
                more = tuple(name for name, asked in wanted.items() if asked)
                reads = _reads(more, references=scope.references, test_data=scope.test_data)
                rows = await _open(conn, reads, scope, lock=lock, limits=limits)
                missing = await read_missing(conn) if deep else ()
            except SCHEMA_MISSING:
                await conn.rollback()
                tables = await _open(conn, adoption.looking(), scope, lock=lock, limits=limits)
                rows, missing = await adoption.read(conn, tables["tables"], _params(scope))
            rows |= await queue_references.read_referenced(conn, rows, scope)
            snapshot = snapshot_from_rows(rows, scope, keys, missing)
            await queue_references.refuse_move(conn, snapshot, scope)
    except BaseException:
        await rollback(conn)
        raise
    return snapshot


async def begin_recording(conn: Connection, scope: Scope, *, limits: Limits = _DEFAULTS) -> Head:
    """Begin a transaction with the lock that is to record a failed run only. Gives the audit log's head.

    Reads nothing that the failure may have come from. DatabaseError `schema_missing` where there is no log yet.
    """
    try:
        async with with_deadline(conn, limits.total_s):
            head = {"audit_head": query("state", "audit_head")}
            rows = await _open(conn, head, scope, lock=True, limits=limits)
    except BaseException:
        await rollback(conn)
        raise
    return next(((row["seq"], row["hash"]) for row in rows["audit_head"]), (0, ""))


async def commit(
    conn: Connection,
    writes: Writes,
    scope: Scope,
    *,
    limits: Limits = _DEFAULTS,
    removed: Removed | None = None,
) -> None:
    """Write and commit the open transaction: all or nothing. A run that is stopped here still hears how it ended.

    `removed` hears of each batch that a purge deletes.

    DatabaseError `commit_unknown` where the connection was lost on COMMIT: lost_commit.py tells, over a new one;
    `queue_in_use` where a row came to refer to a queue that was to be removed.
    """
    try:
        async with with_deadline(conn, limits.migrate_s if writes.migrate or writes.purge else limits.total_s):
            _must_be_open(conn)
            if writes.migrate or writes.purge:
                await transaction.prolong(conn, int(limits.migrate_s * 1000))
            if writes.migrate:
                # Many statements in one text go by the simple protocol, which a pipeline has not.
                await conn.execute(build_migration_sql())
            if writes.purge:
                await delete_development(conn, writes.purge, scope.environment, removed, writes.kept)
            await queue_references.hold(conn, writes.rows, scope)
        await finish_despite_cancel(_write(conn, writes, scope, limits), lambda: shut_down(conn))
    except BaseException:
        await rollback(conn)
        raise


async def rehearse(
    conn: Connection, writes: Writes, scope: Scope, keys: KeyRing | None, *, limits: Limits = _DEFAULTS
) -> Snapshot:
    """Write the rows of one run into the open transaction and read what is there then. Never commits, nor migrates."""
    async with with_deadline(conn, limits.migrate_s if writes.purge else limits.total_s):
        _must_be_open(conn)
        if writes.purge:
            await transaction.prolong(conn, int(limits.migrate_s * 1000))
            await delete_development(conn, writes.purge, scope.environment, None, writes.kept)
        async with conn.pipeline():
            for text, params in _statements(writes, scope):
                await conn.execute(text, params)
        reads = _reads(references=scope.references, test_data=scope.test_data)
        rows = await transaction.read_more(conn, reads, _params(scope))
        rows |= await queue_references.read_referenced(conn, rows, scope)
    return snapshot_from_rows(rows, scope, keys)


async def _write(conn: Connection, writes: Writes, scope: Scope, limits: Limits) -> None:
    sent = False
    try:
        async with with_deadline(conn, limits.total_s), conn.pipeline():
            await transaction.renew(conn, limits.transaction_ms)
            for text, params in _statements(writes, scope):
                await conn.execute(text, params)
            sent = True  # from here on the server may have it, whatever is heard
            await conn.execute("COMMIT")
    except FivrecError as exc:
        if sent and conn.closed:
            raise _unknown(exc) from exc
        raise


async def _open(
    conn: Connection, reads: Mapping[str, LiteralString], scope: Scope, *, lock: bool, limits: Limits
) -> dict[str, list[transaction.Row]]:
    params, environment = _params(scope), scope.environment
    if not lock:
        return await transaction.open_reading(conn, reads, params, environment=environment, limits=limits)
    return await transaction.open_locked(
        conn, reads, params, instance=scope.instance, environment=environment, limits=limits
    )


@cache
def _reads(more: tuple[str, ...] = (), *, references: bool, test_data: bool) -> Mapping[str, LiteralString]:
    reads = {name: query("state", name) for name in (*_RECORDS, *more)}
    reads |= {kind: statement(kind, "read") for kind in kinds_with_rows() if test_data or kind != TEST_DATA}
    if references:
        reads |= {f"{kind}_references": statement(kind, "references") for kind in kinds_with_references()}
    return reads


def _params(scope: Scope) -> dict[str, Any]:
    return {**asdict(scope), "tables": list(adoption.NAMES)}


def _must_be_open(conn: Connection) -> None:
    """Without a transaction each statement would stand alone."""
    if conn.pgconn.transaction_status != TransactionStatus.INTRANS:
        raise DatabaseError("the transaction ended before it was written", hint="run again")


def _statements(writes: Writes, scope: Scope) -> list[tuple[LiteralString, dict[str, Any]]]:
    """Everything but migrations, in order."""
    found = [(statement(row.kind, row.statement), _adapted(row)) for row in writes.rows]
    named = {**asdict(scope), "run_id": writes.run_id}
    if writes.forgotten:
        gone = {"kinds": [key.kind for key in writes.forgotten], "names": [key.name for key in writes.forgotten]}
        found.append((query("record", "forgotten"), {**named, **gone}))
    if writes.applied:
        applied = [{"kind": key.kind, "name": key.name, "fields": dict(fields)} for key, fields in writes.applied]
        found.append((query("record", "applied"), {**named, "applied": Json(applied)}))
    if writes.audit:
        found.append((query("record", "audit"), {"entries": Json([_entry(entry) for entry in writes.audit])}))
    if writes.check:
        found.append((query("record", "check"), {**named, **asdict(writes.check)}))
    if writes.prune_audit is not None:
        found.append((query("retention", "prune_audit"), {"seq": writes.prune_audit}))
    if writes.usage:
        payload = Json(dict(writes.usage.payload))
        found.append((query("record", "usage"), {**named, "id": writes.usage.id, "payload": payload}))
    return found


def _adapted(row: RowWrite) -> dict[str, Any]:
    """Lists and objects go into JSON columns, and so does any value of a setting."""
    return {
        name: Json(value) if isinstance(value, (list, dict)) or (row.kind, name) == ("setting", "value") else value
        for name, value in row.params.items()
    }


def _entry(entry: AuditEntry) -> dict[str, Value]:
    return {**asdict(entry), "at": entry.at.astimezone(UTC).isoformat()}


def _unknown(exc: FivrecError) -> DatabaseError:
    return DatabaseError(
        f"the connection was lost while committing, so the outcome is not known yet ({exc.message})",
        code="commit_unknown",
        hint="run again: what was written is found as it is",
    )
