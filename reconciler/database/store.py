"""One instance's database, read and written whole: begin (lock, read), then commit (write) or rollback.

A no-op apply takes two round trips: begin is one pipeline, commit another. With changes there is a third, which reads
what was written before it is committed. Decides nothing: the engine says what to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import errors
from psycopg.pq import TransactionStatus

from reconciler.database import queue_references, transaction
from reconciler.database.column_values import text_value
from reconciler.database.connection import (
    Connection,
    or_rolled_back,
    rollback,
    shut_down,
    where,
    with_deadline,
    with_last_words,
)
from reconciler.database.encoding import codec_of
from reconciler.database.errors import SCHEMA_MISSING, of_a_function
from reconciler.database.preconditions import (
    guard_params,
    name_columns,
    newer,
    other_types,
    refuse_elsewhere,
    refuse_foreign,
    refuse_unmade,
)
from reconciler.database.rows import (
    OWN,
    RowWrite,
    Scope,
    kinds_with_references,
    kinds_with_rows,
    open_drift_from,
    renamed_admin,
    row_write,
    several,
    snapshot_from_rows,
)
from reconciler.database.schema import build_migration_sql, build_tables_sql, latest_version, read_missing
from reconciler.database.statements import Statement, query, statement
from reconciler.database.writes import (
    KEPT,
    CheckRow,
    LastRunRow,
    Writes,
    build_statements,
    find_dropped,
    in_encoding,
    named_scope,
    naming_texts,
)
from reconciler.model.errors import DatabaseError, FivrecError, NotConverged
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.types import OpenDrift, SealedKey, Snapshot
from reconciler.planning.audit import EMPTY
from reconciler.support.cancellation import finish_despite_cancel
from reconciler.support.crypto.keyring import KeyRing

if TYPE_CHECKING:
    from reconciler.database.purge import Removed
    from reconciler.planning.audit_check import Tail

__all__ = [
    "CheckRow",
    "LastRunRow",
    "RowWrite",
    "Scope",
    "Writes",
    "begin",
    "begin_recording",
    "can_record_run",
    "commit",
    "conclude",
    "is_told",
    "read_check_memory",
    "read_open_drift",
    "read_other_keys",
    "read_other_types",
    "read_triggers",
    "rollback",
    "row_write",
    "write",
]

_TAIL = ("audit_head", "audit_key", "traces")
_OWNED = {"owned": query("guard", "owned")}
"""Run before fivrec's own functions are called. Takes `guard_params`."""
_WITH_CHOICE = ("config", "queue")


async def begin(
    conn: Connection,
    scope: Scope,
    keys: KeyRing | None,
    *,
    lock: bool,
    deep: bool = False,
    last_check: bool = False,
    last_received: bool = False,
    kinds: frozenset[str] | None = None,
    open_drift: bool = False,
    unmade: bool = False,
    foresee: Callable[[], None] | None = None,
) -> Snapshot:
    """Begin a transaction, with the instance's lock or read-only, and read. Leaves it open, unless there is an error.

    `kinds`: which to read, beside instance_config; None means all. Kinds that are not read can't cause an error.

    A schema that is missing or stale is read as far as possible, and `missing` says what it lacks, as it does with
    `deep`. `last_check` also reads the newest check of a watch, `last_received` the status of the newest check that
    succeeded, `open_drift` what the last run left. `unmade`: this run has looked before, and found no schema. `foresee`
    is called when that is found out; it may raise.

    Raises Busy; DatabaseError; MissingSetting if the stored key fits none of `keys`; Refused if the administrator can't
    move here from the other environment.
    """
    async with or_rolled_back(conn):
        async with name_columns(conn, scope.schema), with_deadline(conn):
            wanted = {
                "last_check": last_check,
                "last_received": last_received,
                "open_drift": open_drift,
                "strong_login": deep,
            }
            more = tuple(name for name, asked in wanted.items() if asked)
            reads = {**(_OWNED if deep else {}), **_reads(scope, more, kinds=kinds)}
            try:
                if unmade:
                    rows, missing = await _adopt(conn, scope, lock=lock)
                else:
                    rows = await _open(conn, reads, scope, lock=lock)
                    rows |= await _choose(conn, rows, scope)
                    missing = await read_missing(conn, scope.schema) if deep else ()
            except SCHEMA_MISSING as exc:
                async with with_last_words(conn):
                    await conn.rollback()
                if foresee is not None and "fivrec.migrations" in (exc.diag.message_primary or ""):
                    foresee()
                rows, missing = await _adopt(conn, scope, lock=lock)
            rows |= await queue_references.read_referenced(conn, rows, scope)
            snapshot = snapshot_from_rows(rows, scope, keys, missing)
            await queue_references.refuse_move(conn, snapshot, scope)
        return _usable(snapshot, conn, lock=lock)


async def _adopt(
    conn: Connection, scope: Scope, *, lock: bool
) -> tuple[dict[str, list[transaction.Row]], tuple[str, ...]]:
    from reconciler.database import adoption

    params = {**_params(scope), "tables": list(adoption.table_names())}
    reads = {**_OWNED, "tables": query("adopt", "tables")}
    tables = (await _open(conn, reads, scope, lock=lock, params=params))["tables"]
    if any(row["named"] for row in tables):
        await refuse_elsewhere(conn, scope.schema)
        tables = (await _open(conn, reads, scope, lock=lock, params=params))["tables"]
    return await adoption.read(conn, tables, scope, params)


def _usable(snapshot: Snapshot, conn: Connection, *, lock: bool) -> Snapshot:
    """Raises DatabaseError if a newer fivrec migrated the database and it is to be written: reading is allowed."""
    version = snapshot.schema_version or 0
    if lock and version > latest_version():
        raise newer(where(conn), version)
    return snapshot


async def begin_recording(conn: Connection, scope: Scope, *, log: bool = True, check: bool = False) -> Tail:
    """Begin a transaction with the lock, only to record something. Returns the end of the audit log.

    Reads nothing that may have caused the failure. Raises DatabaseError `schema_missing` if there is no log to append
    to yet; without `log` it isn't looked for. `check`: a check is among what is recorded.
    """
    async with or_rolled_back(conn), with_deadline(conn):
        reads = {"not_newer": query("guard", "not_newer"), **{name: query("state", name) for name in _TAIL if log}}
        used = "instance_config status_check_logs" if check else ""
        held = f"fivrec {used}".strip()
        rows = await transaction.open_locked(conn, reads, _params(scope), scope=scope, held=held, used=used)
    from reconciler.planning.audit_check import Tail

    head = next(((row["seq"], row["hash"]) for row in rows.get("audit_head", ())), EMPTY)
    key = next((SealedKey(**row) for row in rows.get("audit_key", ()) if row["sealed"] is not None), None)
    return Tail(head, key, traces=bool(rows.get("traces")))


async def read_open_drift(conn: Connection, scope: Scope) -> tuple[OpenDrift, ...]:
    """Returns the drift that the last run left, read in the open transaction."""
    rows = await transaction.read_rows(conn, query("state", "open_drift"), _params(scope))
    return tuple(item for row in rows for item in open_drift_from(row["open_drift"]))


async def can_record_run(conn: Connection) -> bool:
    """Whether the database has the table for runs: an older schema lacks it."""
    (row,) = await transaction.read_rows(conn, query("record", "has_last_run"), {})
    return bool(row["has_last_run"])


async def commit(conn: Connection, writes: Writes, scope: Scope, *, removed: Removed | None = None) -> None:
    """Write and commit the open transaction: all or nothing. A run that is cancelled here still learns how that ended.

    `removed` is called for each batch that a purge deletes.

    Raises DatabaseError `commit_unknown` if the connection was lost on COMMIT (lost_commit.py finds out, over a new
    one), `queue_in_use` if a row has begun to refer to a queue to be removed. Raises NotConverged, after the commit, if
    a record of this run was not stored; all else is committed.
    """
    codec = codec_of(conn)
    statements, counts = build_statements(in_encoding(writes, codec), scope), list[int]()
    async with or_rolled_back(conn):
        async with name_columns(conn, scope.schema):
            await _prepare(conn, writes, scope, removed)
            with naming_texts(writes, codec):
                await finish_despite_cancel(_end(conn, scope, statements, counts), lambda: shut_down(conn))
        await _refuse_dropped(conn, find_dropped(writes, scope, statements, counts), writes, scope)


async def write(
    conn: Connection,
    writes: Writes,
    scope: Scope,
    keys: KeyRing | None,
    *,
    removed: Removed | None = None,
    deep: bool = False,
    kinds: frozenset[str] | None = None,
) -> Snapshot:
    """Write into the open transaction, make deferred constraints immediate, and read again. Leaves the transaction open
    for `conclude`, unless there is an error. Raises what `commit` raises, except errors of COMMIT itself."""
    codec = codec_of(conn)
    statements, counts = build_statements(in_encoding(writes, codec), scope), list[int]()
    async with or_rolled_back(conn):
        async with name_columns(conn, scope.schema, migrated=writes.migrate):
            await _prepare(conn, writes, scope, removed)
            if deep and writes.migrate:
                await refuse_unmade(conn)
        with naming_texts(writes, codec):
            naming = name_columns(conn, scope.schema, migrated=writes.migrate)
            async with naming, with_deadline(conn):
                before = (transaction.renewal(conn), *transaction.WRITE_PATH)
                after = ((query("transaction", "immediate"), {}), *transaction.read_path(scope.schema))
                reads, params = _reads(scope, kinds=kinds), _params(scope)
                with _naming_functions(conn, scope):
                    rows = await transaction.write_and_read(conn, (*before, *statements, *after), reads, params, counts)
                stored = counts[len(before) : len(before) + len(statements)]
                await _refuse_dropped(conn, find_dropped(writes, scope, statements, stored), writes, scope)
                rows |= await _choose(conn, rows, scope)
                rows |= await queue_references.read_referenced(conn, rows, scope)
                missing = await read_missing(conn, scope.schema) if deep and not writes.migrate else ()
        return snapshot_from_rows(rows, scope, keys, missing)


async def conclude(conn: Connection, scope: Scope) -> None:
    """Commit what `write` wrote. Raises what `commit` raises for COMMIT itself."""
    async with or_rolled_back(conn):
        await finish_despite_cancel(_end(conn, scope, (), []), lambda: shut_down(conn))


async def read_other_keys(conn: Connection, scope: Scope, config_id: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the id and instance_key of each further row of the instance, read in the open transaction."""
    params = {"instance": scope.instance, "config_id": config_id}
    rows = await transaction.read_rows(conn, query("state", "other_keys", scope.schema), params)
    return tuple((row["row_id"], text_value(row["instance_key"]) or "") for row in rows)


async def read_check_memory(
    conn: Connection, scope: Scope, config_id: str, *, billing: bool
) -> tuple[bool, str | None]:
    """Returns whether the newest check succeeded and, with `billing`, the billing status in the newest alert. Reads in
    the open transaction."""
    reads = {"check": query("state", "newest_check", scope.schema)}
    if billing:
        reads["billing"] = query("state", "alerted_billing")
    params = {"instance": scope.instance, "config_id": config_id}
    async with with_deadline(conn):
        rows = await transaction.read_more(conn, reads, params)
    reachable = all(row["reachable"] for row in rows["check"])
    return reachable, next((row["billing_status"] for row in rows.get("billing", ())), None)


async def read_told_by_hand(conn: Connection, scope: Scope) -> bool | None:
    """Returns whether Connect answers by the newest alert that a run by hand stored since the newest check of a watch;
    None if there is none. Reads in the open transaction."""
    rows = await transaction.read_rows(conn, query("state", "told_by_hand", scope.schema), {"instance": scope.instance})
    return rows[0]["reachable"] if rows else None


async def is_told(conn: Connection, scope: Scope, config_id: str, status: str, billing: str) -> bool:
    """Whether the newest alert about this status reported this billing status, and Connect has sent no other status
    since. Reads in the open transaction."""
    params = {"instance": scope.instance, "config_id": config_id, "status": status}
    rows = await transaction.read_rows(conn, query("state", "told_standing", scope.schema), params)
    return any(row["billing_status"] == billing for row in rows)


async def read_triggers(conn: Connection, schema: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Returns the triggers and rules on the tables of these kinds, as `trigger NAME on TABLE`; if there are none, those
    on every table that a run writes to. Reads in the open transaction."""
    tables = {f"{schema}.{BY_NAME[kind].table}" for kind in kinds if BY_NAME[kind].table}
    every = {f"{schema}.{known.table}" for known in BY_NAME.values() if known.table}
    for some in (tables, {*every, f"{schema}.status_check_logs", *_OF_FIVREC}):
        if rows := await transaction.read_rows(conn, _TRIGGERS, {"tables": sorted(some)}):
            break
    return tuple(row["trigger"] for row in rows)


_OF_FIVREC = ("fivrec.audit_log", "fivrec.applied", "fivrec.last_run")
_TRIGGERS = query("transaction", "triggers")


async def _refuse_dropped(conn: Connection, tables: Sequence[str], writes: Writes, scope: Scope) -> None:
    """Raises NotConverged, naming triggers and rules, if rows of these tables are missing. A check is not missing if a
    trigger moved it to a table that inherits from its own, or if it has no instance_config to belong to."""
    checks, config = f"{scope.schema}.status_check_logs", f"{scope.schema}.instance_config"
    if not tables:
        return
    check = writes.check.id if writes.check else None
    named = {"tables": [*tables, config], "check": check, "instance": scope.instance}
    reads = {"triggers": _TRIGGERS, "has_check": query("record", "has_check", scope.schema)}
    if conn.pgconn.transaction_status == TransactionStatus.INTRANS:
        rows = await transaction.read_more(conn, reads, named)
    else:
        rows = await transaction.read_once(conn, reads, named, scope=scope)
    lost = [table for table in tables if table != checks or not rows["has_check"][0]["has_check"]]
    if lost:
        why = ", ".join(row["trigger"] for row in rows["triggers"])
        raise NotConverged(
            f"{where(conn)}: {', '.join(lost)} did not store what was written" + (f" ({why})" if why else ""),
            hint="a trigger or rule that is named drops rows (RETURN NULL, DO INSTEAD NOTHING): change or drop it",
        )


async def _refuse_changed(conn: Connection, exc: errors.InvalidTextRepresentation, scope: Scope) -> None:
    """Raises NotConverged, naming triggers and rules, if the error says that a value did not stay as it was, or as it
    was written."""
    column = next((name for name in KEPT if (exc.diag.message_primary or "").endswith(f'"{name}"')), None)
    if column is None:
        return
    await rollback(conn)
    named = {"tables": [f"{scope.schema}.instance_config", f"{scope.schema}.status_check_logs", *_OF_FIVREC]}
    rows = await transaction.read_rows_once(conn, _TRIGGERS, named, scope=scope)
    why = ", ".join(row["trigger"] for row in rows)
    raise NotConverged(
        f"{where(conn)}: instance_config.{column} did not stay as it has to be"
        + (f" ({why})" if why else "")
        + "; nothing was committed",
        hint="a trigger or rule changes it when another column or table is written: change or drop it",
        written=column != "is_locked",  # another session may have locked or unlocked meanwhile
    )


async def read_other_types(conn: Connection, schema: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Returns the columns of these kinds' tables with another type than documented. Rolls back an open transaction."""
    tables = {BY_NAME[kind].table for kind in kinds}
    return tuple(found for found in await other_types(conn, schema) if found.partition(".")[0] in tables)


@contextmanager
def _naming_functions(conn: Connection, scope: Scope) -> Iterator[None]:
    """Make an error in a function of the app's, which a write runs, name that function."""
    try:
        yield
    except SCHEMA_MISSING as exc:
        if (found := of_a_function(exc, where(conn), scope.schema)) is not None:
            raise found from None
        raise


async def _prepare(conn: Connection, writes: Writes, scope: Scope, removed: Removed | None) -> None:
    """Do what comes before the statements, and takes long or has to look first: migrations, a purge, queue removals."""
    async with with_deadline(conn, conn.limits.migrate_s if writes.migrate or writes.purge else conn.limits.total_s):
        _must_be_open(conn)
        if writes.migrate:
            try:
                with _naming_functions(conn, scope):  # those of event triggers
                    holding = transaction.holding(conn, scope)
                    async with conn.pipeline():
                        await conn.execute(_OWNED["owned"], guard_params(scope.schema, trusted=scope.trusted))
                        for text in build_tables_sql(scope.schema) if holding else ():
                            await conn.execute(text)
                        for text, values in holding:
                            await conn.execute(text, values)
                        await transaction.prolong(conn)
                    # Several statements in one text need the simple protocol, which pipelines don't have.
                    await conn.execute(build_migration_sql(scope.schema, defer=True, made=bool(holding)))
            except errors.DivisionByZero:
                await refuse_foreign(conn, scope.schema)
                raise
        if writes.purge:
            await transaction.hold_again(conn, scope, f"{transaction.HELD} purge")
            await transaction.prolong(conn)
            from reconciler.database.purge import delete_development

            await delete_development(conn, writes.purge, scope, removed, writes.kept)
        await queue_references.hold(conn, writes.rows, scope)


async def _end(conn: Connection, scope: Scope, statements: Sequence[Statement], counts: list[int]) -> None:
    """`counts` gets the row count of each statement."""
    sent, cursors = False, []
    try:
        async with with_deadline(conn):
            try:
                with _naming_functions(conn, scope):
                    async with conn.pipeline():
                        await conn.execute(*transaction.renewal(conn))
                        if statements:
                            await transaction.use_write_path(conn)
                        cursors = [await conn.execute(text, params) for text, params in statements]
                        sent = True  # from here on the server may have got it, whatever answer arrives
                        await conn.execute("COMMIT")
            except errors.InvalidTextRepresentation as exc:
                await _refuse_changed(conn, exc, scope)
                raise
    except FivrecError as exc:
        if sent and conn.closed:
            raise _unknown(exc) from exc
        raise
    counts.extend(cursor.rowcount for cursor in cursors)


async def _open(
    conn: Connection,
    reads: Mapping[str, LiteralString],
    scope: Scope,
    *,
    lock: bool,
    params: Mapping[str, Any] | None = None,
) -> dict[str, list[transaction.Row]]:
    opened = transaction.open_locked if lock else transaction.open_reading
    return await opened(conn, reads, params or _params(scope), scope=scope)


def _reads(
    scope: Scope, more: tuple[str, ...] = (), *, kinds: frozenset[str] | None = None
) -> Mapping[str, LiteralString]:
    schema = scope.schema
    reads = {name: query("state", name, schema) for name in (*OWN, *more)}
    wanted = [kind for kind in kinds_with_rows() if kinds is None or kind == "config" or kind in kinds]
    reads |= {kind: statement(kind, "read", schema) for kind in wanted if scope.test_data or kind != TEST_DATA}
    if scope.references:
        reads |= {f"{kind}_references": statement(kind, "references", schema) for kind in kinds_with_references()}
    return reads


async def _choose(
    conn: Connection, rows: Mapping[str, list[transaction.Row]], scope: Scope
) -> dict[str, list[transaction.Row]]:
    """Choose among rows of kinds in which several rows may be the same resource, and look for the administrator under a
    newer address: at most one more round trip."""
    asked = {
        kind: statement(kind, "chosen", scope.schema) for kind in _WITH_CHOICE if several(kind, rows.get(kind, ()))
    }
    if (renamed := renamed_admin(rows, scope)) is not None:
        asked["admin"] = statement("admin", "read", scope.schema)
    more = {"admin_renamed_from": renamed} if renamed is not None else {}
    return await transaction.read_more(conn, asked, {**_params(scope), **more}) if asked else {}


def _params(scope: Scope) -> dict[str, Any]:
    return {**named_scope(scope), "latest": latest_version(), **guard_params(scope.schema, trusted=scope.trusted)}


def _must_be_open(conn: Connection) -> None:
    """Without a transaction each statement would commit by itself."""
    if conn.pgconn.transaction_status != TransactionStatus.INTRANS:
        raise DatabaseError("the transaction ended before it was written", hint="run again")


def _unknown(exc: FivrecError) -> DatabaseError:
    return DatabaseError(
        f"the connection was lost while committing, so the outcome is not known yet ({exc.message})",
        code="commit_unknown",
        hint="run again: what was written is found as it is",
    )
