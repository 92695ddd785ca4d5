"""One instance's database, read and written whole: begin (lock, read), then commit (write) or rollback.

A no-op apply is two round trips: begin is one pipeline, commit another; one with changes is a third, as what was
written is read before it is committed. Decides nothing: what to write is flow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias
from uuid import uuid4

from psycopg.pq import TransactionStatus

from reconciler.database import queue_references, transaction
from reconciler.database.connection import (
    Connection,
    Limits,
    rollback,
    shut_down,
    where,
    with_deadline,
    with_last_words,
)
from reconciler.database.errors import SCHEMA_MISSING, of_a_function
from reconciler.database.preconditions import name_columns, newer, other_types, refuse_elsewhere
from reconciler.database.rows import (
    RECORDS,
    Json,
    RowWrite,
    Scope,
    flat,
    kinds_with_references,
    kinds_with_rows,
    open_drift_from,
    row_write,
    snapshot_from_rows,
)
from reconciler.database.schema import build_migration_sql, latest_version, read_missing
from reconciler.database.statements import query, statement
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.kinds import BY_NAME, PER_ENVIRONMENT
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, CheckType, Key, OpenDrift, Provenance, SealedKey, Snapshot, Value
from reconciler.planning.audit import EMPTY, AuditEntry
from reconciler.support.cancellation import finish_despite_cancel
from reconciler.support.crypto.keyring import KeyRing

if TYPE_CHECKING:
    from reconciler.database.purge import Removed
    from reconciler.planning.audit_check import Tail

__all__ = [
    "AlertRow",
    "CheckRow",
    "LastRunRow",
    "RowWrite",
    "Scope",
    "UsageRow",
    "Writes",
    "begin",
    "begin_recording",
    "can_record_run",
    "commit",
    "conclude",
    "read_open_drift",
    "read_other_keys",
    "read_other_types",
    "read_triggers",
    "rollback",
    "row_write",
    "write",
]

_TAIL = ("audit_head", "audit_key", "traces")
_DEFAULTS = Limits()

Statement: TypeAlias = tuple[LiteralString, dict[str, Any]]


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
class LastRunRow:
    """How a run of an instance ended. `drift` and what follows are None if the run could not look."""

    command: str
    actor: str
    git_commit: str | None
    outcome: str
    changes: int = 0
    error: str | None = None
    drift: int | None = None
    open_drift: tuple[Mapping[str, Value], ...] | None = None
    former: tuple[Mapping[str, Value], ...] | None = None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert to deliver; `payload` is what is posted."""

    id: str
    alert: str
    payload: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Writes:
    """All that one run writes, in the order it is written: migrations, rows, what was applied, audit, check, usage,
    alerts.

    `purge` names the tables whose development rows go, after the migrations and before everything else, with how many;
    the user whose id is `kept` comes along into production.
    `prune_audit` deletes audit entries up to this seq; one of `audit` has to say so. `released` are the records of what
    is no longer declared; one of `applied` without a `provenance` keeps the one that it has.
    """

    run_id: str
    migrate: bool = False
    purge: Mapping[str, int] = field(default_factory=dict)
    kept: str | None = None
    rows: tuple[RowWrite, ...] = ()
    applied: tuple[tuple[Key, Mapping[str, Value]], ...] = ()
    provenance: Mapping[Key, tuple[Provenance, Mapping[str, Value]]] = field(default_factory=dict)
    released: tuple[tuple[Key, Applied], ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    audit_key: SealedKey | None = None
    check: CheckRow | None = None
    usage: UsageRow | None = None
    alerts: tuple[AlertRow, ...] = ()
    prune_audit: int | None = None
    last_run: LastRunRow | None = None


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
    kinds: frozenset[str] | None = None,
    open_drift: bool = False,
) -> Snapshot:
    """Begin a transaction, with the instance's lock or read-only, and read. Leaves it open; an error leaves none.

    `kinds`: those that are read, with instance_config; None is all. What is not read can't stand in the way.

    A schema that is missing or stale is read as far as it goes, and what it lacks is in `missing`, as it is with
    `deep`. `last_check` reads the newest check of a watch too, `last_heard` the status of the newest that
    succeeded, `open_drift` what the last run left. Busy; DatabaseError; MissingSetting if the stored key fits none
    of `keys`; Refused if the administrator can't come along from the other environment.
    """
    try:
        async with name_columns(conn, scope.schema), with_deadline(conn, limits.total_s):
            try:
                wanted = {
                    "last_check": last_check,
                    "last_heard": last_heard,
                    "open_drift": open_drift,
                    "strong_login": deep,
                }
                more = tuple(name for name, asked in wanted.items() if asked)
                reads = _reads(scope, more, kinds=kinds)
                rows = await _open(conn, reads, scope, lock=lock, limits=limits)
                missing = await read_missing(conn, scope.schema) if deep else ()
            except SCHEMA_MISSING:
                async with with_last_words(conn):
                    await conn.rollback()
                await refuse_elsewhere(conn, scope.schema)
                rows, missing = await _adopt(conn, scope, lock=lock, limits=limits)
            rows |= await queue_references.read_referenced(conn, rows, scope)
            snapshot = snapshot_from_rows(rows, scope, keys, missing)
            await queue_references.refuse_move(conn, snapshot, scope)
        return _usable(snapshot, conn, lock=lock)
    except BaseException:
        await rollback(conn)
        raise


async def _adopt(
    conn: Connection, scope: Scope, *, lock: bool, limits: Limits
) -> tuple[dict[str, list[transaction.Row]], tuple[str, ...]]:
    from reconciler.database import adoption

    params = {**_params(scope), "tables": list(adoption.table_names())}
    opened = transaction.open_locked if lock else transaction.open_reading
    tables = await opened(conn, adoption.looking(), params, scope=scope, limits=limits)
    return await adoption.read(conn, tables["tables"], scope, params)


def _usable(snapshot: Snapshot, conn: Connection, *, lock: bool) -> Snapshot:
    """What a newer fivrec made may be read, not written."""
    version = snapshot.schema_version or 0
    if lock and version > latest_version():
        raise newer(where(conn), version)
    return snapshot


async def begin_recording(conn: Connection, scope: Scope, *, limits: Limits = _DEFAULTS, log: bool = True) -> Tail:
    """Begin a transaction with the lock that is to record something only. Returns the end of the audit log.

    Reads nothing that a failure may have come from. DatabaseError `schema_missing` if there is no log to append to
    yet; without `log` none is looked for.
    """
    try:
        async with with_deadline(conn, limits.total_s):
            reads = {"not_newer": query("guard", "not_newer")}
            reads |= {name: query("state", name) for name in _TAIL if log}
            rows = await _open(conn, reads, scope, lock=True, limits=limits)
    except BaseException:
        await rollback(conn)
        raise
    from reconciler.planning.audit_check import Tail

    head = next(((row["seq"], row["hash"]) for row in rows.get("audit_head", ())), EMPTY)
    key = next((SealedKey(**row) for row in rows.get("audit_key", ())), None)
    return Tail(head, key, traces=bool(rows.get("traces")))


async def read_open_drift(conn: Connection, scope: Scope, *, limits: Limits = _DEFAULTS) -> tuple[OpenDrift, ...]:
    """What the last run left, read in the open transaction."""
    async with with_deadline(conn, limits.total_s):
        rows = await transaction.read_more(conn, {"open_drift": query("state", "open_drift")}, _params(scope))
    return tuple(item for row in rows["open_drift"] for item in open_drift_from(row["open_drift"]))


async def can_record_run(conn: Connection, *, limits: Limits = _DEFAULTS) -> bool:
    """Whether the database has the table for it: an older schema has not."""
    async with with_deadline(conn, limits.total_s):
        cursor = await conn.execute(query("record", "has_last_run"))
        row = await cursor.fetchone()
    return bool(row and row[0])


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
        async with name_columns(conn, scope.schema):
            await _prepare(conn, writes, scope, limits, removed)
            await finish_despite_cancel(_end(conn, scope, _statements(writes, scope), limits), lambda: shut_down(conn))
    except BaseException:
        await rollback(conn)
        raise


async def write(
    conn: Connection,
    writes: Writes,
    scope: Scope,
    keys: KeyRing | None,
    *,
    limits: Limits = _DEFAULTS,
    removed: Removed | None = None,
    deep: bool = False,
    kinds: frozenset[str] | None = None,
) -> Snapshot:
    """Write into the open transaction, make deferred constraints immediate, and read again. Leaves it open for
    `conclude`; an error leaves none. Errors as of `commit`, but for its own."""
    try:
        async with name_columns(conn, scope.schema):
            await _prepare(conn, writes, scope, limits, removed)
        async with name_columns(conn, scope.schema), with_deadline(conn, limits.total_s):
            statements = (
                *transaction.renewal(conn, limits.transaction_ms),
                *transaction.WRITE_PATH,
                *_statements(writes, scope),
                (query("transaction", "immediate"), {}),
                *transaction.READ_PATH,
            )
            try:
                rows = await transaction.write_and_read(conn, statements, _reads(scope, kinds=kinds), _params(scope))
            except SCHEMA_MISSING as exc:
                raise of_a_function(exc, where(conn), scope.schema) from None
            rows |= await queue_references.read_referenced(conn, rows, scope)
            missing = await read_missing(conn, scope.schema) if deep else ()
        return snapshot_from_rows(rows, scope, keys, missing)
    except BaseException:
        await rollback(conn)
        raise


async def conclude(conn: Connection, scope: Scope, *, limits: Limits = _DEFAULTS) -> None:
    """Commit what `write` wrote. Its end as that of `commit`."""
    try:
        await finish_despite_cancel(_end(conn, scope, (), limits), lambda: shut_down(conn))
    except BaseException:
        await rollback(conn)
        raise


async def read_other_keys(
    conn: Connection, scope: Scope, config_id: str | None, *, limits: Limits = _DEFAULTS
) -> tuple[tuple[str, str], ...]:
    """The id and instance_key of each further row of the instance, in the open transaction."""
    params = {"instance": scope.instance, "config_id": config_id}
    async with with_deadline(conn, limits.total_s):
        rows = await transaction.read_more(conn, {"keys": query("state", "other_keys", scope.schema)}, params)
    return tuple((row["row_id"], row["instance_key"]) for row in rows["keys"])


async def read_triggers(
    conn: Connection, schema: str, kinds: Iterable[str], *, limits: Limits = _DEFAULTS
) -> tuple[str, ...]:
    """The triggers and rules on the tables of these kinds, as `trigger NAME on TABLE`, in the open transaction."""
    tables = sorted({BY_NAME[kind].table for kind in kinds} - {""})
    async with with_deadline(conn, limits.total_s):
        rows = await transaction.read_more(
            conn, {"triggers": query("transaction", "triggers")}, {"tables": tables, "schema": schema}
        )
    return tuple(row["trigger"] for row in rows["triggers"])


async def read_other_types(conn: Connection, schema: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """The columns of these kinds' tables that are of another type than documented. What was open is rolled back."""
    tables = {BY_NAME[kind].table for kind in kinds}
    return tuple(found for found in await other_types(conn, schema) if found.partition(".")[0] in tables)


async def _prepare(conn: Connection, writes: Writes, scope: Scope, limits: Limits, removed: Removed | None) -> None:
    """What comes before the statements, and takes long or has to look first: migrations, a purge, queues to remove."""
    async with with_deadline(conn, limits.migrate_s if writes.migrate or writes.purge else limits.total_s):
        _must_be_open(conn)
        if writes.migrate or writes.purge:
            await transaction.prolong(conn, int(limits.migrate_s * 1000))
        if writes.migrate:
            try:
                # Many statements in one text go by the simple protocol, which a pipeline has not.
                await conn.execute(build_migration_sql(scope.schema, defer=True))
            except SCHEMA_MISSING as exc:  # an event trigger's function
                raise of_a_function(exc, where(conn), scope.schema) from None
        if writes.purge:
            from reconciler.database.purge import delete_development

            await delete_development(conn, writes.purge, scope, removed, writes.kept)
        await queue_references.hold(conn, writes.rows, scope)


async def _end(conn: Connection, scope: Scope, statements: Sequence[Statement], limits: Limits) -> None:
    sent = False
    try:
        async with with_deadline(conn, limits.total_s):
            try:
                async with conn.pipeline():
                    await transaction.renew(conn, limits.transaction_ms)
                    for text, params in (*transaction.WRITE_PATH, *statements) if statements else ():
                        await conn.execute(text, params)
                    sent = True  # from here on the server may have it, whatever answer arrives
                    await conn.execute("COMMIT")
            except SCHEMA_MISSING as exc:
                raise of_a_function(exc, where(conn), scope.schema) from None
    except FivrecError as exc:
        if sent and conn.closed:
            raise _unknown(exc) from exc
        raise


async def _open(
    conn: Connection, reads: Mapping[str, LiteralString], scope: Scope, *, lock: bool, limits: Limits
) -> dict[str, list[transaction.Row]]:
    opened = transaction.open_locked if lock else transaction.open_reading
    return await opened(conn, reads, _params(scope), scope=scope, limits=limits)


def _reads(
    scope: Scope, more: tuple[str, ...] = (), *, kinds: frozenset[str] | None = None
) -> Mapping[str, LiteralString]:
    schema = scope.schema
    reads = {name: query("state", name, schema) for name in (RECORDS, *more)}
    wanted = [kind for kind in kinds_with_rows() if kinds is None or kind == "config" or kind in kinds]
    reads |= {kind: statement(kind, "read", schema) for kind in wanted if scope.test_data or kind != TEST_DATA}
    if scope.references:
        reads |= {f"{kind}_references": statement(kind, "references", schema) for kind in kinds_with_references()}
    return reads


def _params(scope: Scope) -> dict[str, Any]:
    return {**_named_scope(scope), "latest": latest_version()}


def _named_scope(scope: Scope) -> dict[str, Any]:
    return {**flat(scope), "per_environment": list(PER_ENVIRONMENT)}


def _must_be_open(conn: Connection) -> None:
    """Without a transaction each statement would stand alone."""
    if conn.pgconn.transaction_status != TransactionStatus.INTRANS:
        raise DatabaseError("the transaction ended before it was written", hint="run again")


def _statements(writes: Writes, scope: Scope) -> list[Statement]:
    """Everything but migrations, in order."""
    found = [(row.text(statement(row.kind, row.statement, scope.schema)), _adapted(row)) for row in writes.rows]
    named = {**_named_scope(scope), "run_id": writes.run_id}
    if writes.released:
        released = [{**_named(key), **_released(kept)} for key, kept in writes.released]
        found.append((query("record", "released"), {**named, "released": Json(released)}))
    if writes.applied:
        applied = [
            {**_named(key), "fields": dict(fields), **_provenance(writes, key)} for key, fields in writes.applied
        ]
        found.append((query("record", "applied"), {**named, "applied": Json(applied)}))
    if writes.audit:
        found.append((query("record", "audit"), {"entries": Json([_entry(entry) for entry in writes.audit])}))
    if writes.audit_key:
        found.append((query("record", "audit_key"), asdict(writes.audit_key)))
    if writes.check:
        found.append((query("record", "check", scope.schema), {**named, **flat(writes.check)}))
    if writes.prune_audit is not None:
        found.append((query("retention", "prune_audit"), {"seq": writes.prune_audit}))
    if writes.usage:
        payload = Json(dict(writes.usage.payload))
        found.append((query("record", "usage"), {**named, "id": writes.usage.id, "payload": payload}))
    if writes.last_run:
        lists = {name: _list(getattr(writes.last_run, name)) for name in ("open_drift", "former")}
        found.append((query("record", "last_run"), {**named, **flat(writes.last_run), **lists}))
    found.extend(alert_statements(writes.alerts, scope))
    return found


def _named(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "name": key.name}


def _provenance(writes: Writes, key: Key) -> dict[str, Value]:
    if key not in writes.provenance:
        return {}
    provenance, before = writes.provenance[key]
    return {"provenance": provenance, "before": dict(before)}


def _released(kept: Applied) -> dict[str, Value]:
    """A secret is remembered by the fingerprint that the record has, which no reading gives back: that one stays."""
    fields = {name: value for name, value in kept.fields.items() if not isinstance(value, Secret)}
    return {
        "fields": fields,
        "merge": len(fields) < len(kept.fields),
        "provenance": kept.provenance,
        "tenure": kept.tenure,
    }


def _list(items: tuple[Mapping[str, Value], ...] | None) -> Json | None:
    return None if items is None else Json([dict(item) for item in items])


def alert_statements(alerts: Sequence[AlertRow], scope: Scope) -> list[Statement]:
    """Store them, and drop what nobody asks for anymore."""
    if not alerts:
        return []
    rows = [{"id": row.id, "alert": row.alert, "payload": dict(row.payload)} for row in alerts]
    named = {"instance": scope.instance}
    return [
        (query("record", "alerts"), {**named, "alerts": Json(rows)}),
        (query("record", "old_alerts"), named),
    ]


def _adapted(row: RowWrite) -> dict[str, Any]:
    """Lists and objects go into JSON columns, and so does any value of a field that is one."""
    json_fields = BY_NAME[row.kind].json_fields
    return {
        name: Json(value) if isinstance(value, (list, dict)) or name in json_fields else value
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
