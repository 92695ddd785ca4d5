"""What one run writes into a database, and the statements that write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from datetime import UTC
from typing import Any, LiteralString
from uuid import uuid4

from reconciler.database.alert_outbox import alert_in_encoding, alert_statements
from reconciler.database.encoding import UNKNOWN, fitted
from reconciler.database.rows import Json, RowWrite, Scope, flat
from reconciler.database.statements import Statement, query, statement
from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import BY_NAME, PER_ENVIRONMENT
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, CheckType, Key, Provenance, SealedKey, Value
from reconciler.planning.alerts import Alert
from reconciler.planning.audit import AuditEntry

KEPT = ("is_locked", "instance_key")
"""The columns that `lock_kept` and `keys_kept` (sql/queries/record.sql) check: these fail if a value is not as it must
be."""


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A status check, as status_check_logs stores it. Its id is made here, to look it up after a lost COMMIT.
    `config_id`: the row of instance_config that was read, if one was."""

    check_type: CheckType
    success: bool
    status_received: str | None
    error_message: str | None
    response_time_ms: int | None
    id: str = field(default_factory=lambda: str(uuid4()))
    config_id: str | None = None


@dataclass(frozen=True, slots=True)
class LastRunRow:
    """How a run of an instance ended. `drift` and the fields after it are None if the run could not look for drift."""

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
class Writes:
    """All that one run writes, in this order: migrations, rows, what was applied, audit, check, alerts.

    `purge` maps the tables whose development rows are deleted, after the migrations and before everything else, to
    their row counts; the user whose id is `kept` moves to production. `prune_audit` deletes audit entries up to this
    seq; one of `audit` must say so. `released` are the records of what is no longer declared; one of `applied` without
    a `provenance` keeps the one that it has. If nothing is read again, `lock` (the id and is_locked of a row of
    instance_config) and `keys` (instance_key by id) say what must be there in the end.
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
    alerts: tuple[Alert, ...] = ()
    prune_audit: int | None = None
    last_run: LastRunRow | None = None
    lock: tuple[str, str] | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


def build_statements(writes: Writes, scope: Scope) -> list[Statement]:
    """Returns the statements for everything but migrations and purge, in order."""
    found = [(row.text(statement(row.kind, row.statement, scope.schema)), _adapted(row)) for row in writes.rows]
    named = {**named_scope(scope), "run_id": writes.run_id}
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
        found.append((query("record", "audit_key"), flat(writes.audit_key)))
    if writes.check:
        found.append((_check_statement(writes.check, scope), {**named, **flat(writes.check)}))
    if writes.prune_audit is not None:
        found.append((query("retention", "prune_audit"), {"seq": writes.prune_audit}))
    if writes.last_run:
        lists = {name: _list(getattr(writes.last_run, name)) for name in ("open_drift", "former")}
        beside = writes.last_run.drift is None and writes.last_run.outcome not in ("failed", "refused")
        name = "last_run_beside" if beside else "last_run"
        found.append((query("record", name), {**named, **flat(writes.last_run), **lists}))
    found.extend(alert_statements(writes.alerts, scope))
    return [*found, *_kept_statements(writes, scope)]


def in_encoding(writes: Writes, codec: str | None) -> Writes:
    """Returns the same writes, with fivrec's own texts as the database's encoding can hold them."""
    if codec is None:
        return writes
    alerts = tuple(alert_in_encoding(alert, codec) for alert in writes.alerts)
    last_run = writes.last_run and replace(writes.last_run, actor=fitted(writes.last_run.actor, codec))
    return replace(writes, alerts=alerts, last_run=last_run, check=check_in_encoding(writes.check, codec))


@contextmanager
def naming_texts(writes: Writes, codec: str | None) -> Iterator[None]:
    """Make an error of the database's encoding say what holds the character."""
    try:
        yield
    except DatabaseError as exc:
        if exc.code == "database_encoding" and (found := _find_unstorable(writes, codec)) is not None:
            raise DatabaseError(f"{exc.message}: {found}", code=exc.code, hint=exc.hint) from exc
        raise


def _find_unstorable(writes: Writes, codec: str | None) -> str | None:
    """Returns which resource and field hold a character that the database's encoding lacks. A value may be secret."""
    if codec in (None, UNKNOWN):
        return None
    for row in writes.rows:
        for name, value in row.params.items():
            if not _has_place(value, codec):
                key = row.params.get("key", row.params.get("row_id"))
                return f"{row.kind}/{key}" + (f" ({name})" if name in BY_NAME[row.kind].fields else "")
    actors = sorted({entry.actor for entry in writes.audit})  # these are signed, so they were not fitted
    return next((f"the actor, {actor}" for actor in actors if not _has_place(actor, codec)), None)


def _has_place(value: Any, codec: str) -> bool:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def check_in_encoding(check: CheckRow | None, codec: str | None) -> CheckRow | None:
    if check is None or codec is None:
        return check
    texts = {name: fitted(getattr(check, name), codec) for name in ("status_received", "error_message")}
    return replace(check, **texts)


def _check_statement(check: CheckRow, scope: Scope) -> LiteralString:
    text = query("record", "check" if check.config_id is not None else "check_unread", scope.schema)
    if check.error_message is None:
        return text
    text = text.replace("%(error_message)s", query("record", "short_error", scope.schema))
    if check.status_received is None:
        return text
    return text.replace("%(status_received)s", query("record", "odd_status", scope.schema))


def _kept_statements(writes: Writes, scope: Scope) -> list[Statement]:
    found: list[Statement] = []
    if writes.lock:
        config_id, lock = writes.lock
        found.append((query("record", "lock_kept", scope.schema), {"config_id": config_id, "lock": lock}))
    if writes.keys:
        named = {"keys": Json(dict(writes.keys)), "count": len(writes.keys)}
        found.append((query("record", "keys_kept", scope.schema), named))
    return [(query("transaction", "immediate"), {}), *found] if found else []


def find_dropped(
    writes: Writes, scope: Scope, statements: Sequence[Statement], counts: Sequence[int]
) -> tuple[str, ...]:
    """Returns the tables that stored fewer rows than their statement had, among those that are not read and compared
    again. `counts` are the row counts of the statements."""
    least = {
        query("record", "applied"): ("fivrec.applied", len(writes.applied)),
        query("record", "audit"): ("fivrec.audit_log", len(writes.audit)),
        query("record", "audit_key"): ("fivrec.audit_key", 1),
        query("record", "last_run"): ("fivrec.last_run", 1),
        query("record", "last_run_beside"): ("fivrec.last_run", 1),
    }
    if writes.check:
        least[_check_statement(writes.check, scope)] = (f"{scope.schema}.status_check_logs", 1)
    pairs = zip(statements, counts, strict=True)
    return tuple(least[text][0] for (text, _), count in pairs if text in least and count < least[text][1])


def named_scope(scope: Scope) -> dict[str, Any]:
    """Returns the parameters that every statement may use."""
    return {**flat(scope), "per_environment": list(PER_ENVIRONMENT)}


def _named(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "name": key.name}


def _provenance(writes: Writes, key: Key) -> dict[str, Value]:
    if key not in writes.provenance:
        return {}
    provenance, before = writes.provenance[key]
    return {"provenance": provenance, "before": dict(before)}


def _released(kept: Applied) -> dict[str, Value]:
    """Leaves out secrets: the record has their fingerprint, which no reading returns, and keeps it."""
    fields = {name: value for name, value in kept.fields.items() if not isinstance(value, Secret)}
    return {
        "fields": fields,
        "merge": len(fields) < len(kept.fields),
        "provenance": kept.provenance,
        "tenure": kept.tenure,
        "before": dict(kept.before),
    }


def _list(items: tuple[Mapping[str, Value], ...] | None) -> Json | None:
    return None if items is None else Json([dict(item) for item in items])


def _adapted(row: RowWrite) -> dict[str, Any]:
    """Lists and objects go into JSON columns, and so does any value of a JSON field."""
    json_fields = BY_NAME[row.kind].json_fields
    return {
        name: Json(value) if isinstance(value, (list, dict)) or name in json_fields else value
        for name, value in row.params.items()
    }


def _entry(entry: AuditEntry) -> dict[str, Value]:
    return {**flat(entry), "at": entry.at.astimezone(UTC).isoformat()}
