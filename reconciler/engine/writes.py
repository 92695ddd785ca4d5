"""From a plan to what one transaction writes: rows by kind, fivrec.applied, audit entries, the status check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

from reconciler.database.rows import KEY_TABLE
from reconciler.database.store import CheckRow, Writes, row_write
from reconciler.engine.bcrypt import Passwords
from reconciler.engine.match_secrets import UNKNOWN, fingerprint
from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.changes import Change, Create, Deactivate, Remove, Update
from reconciler.model.kinds import BY_NAME
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Key, Resource, Snapshot, Value, same
from reconciler.planning.audit import AuditEntry, Context, Event, Head, build_events, chain
from reconciler.planning.plan import Plan, applied_after
from reconciler.planning.status_check import CheckResult
from reconciler.support.crypto.keyring import KeyRing

Stored = Mapping[tuple[Key, str], str]
"""What is stored for each sensitive field that is written: a hash, or a ciphertext."""


def build_writes(plan: Plan, snapshot: Snapshot, desired: Desired, run: Run, passwords: Passwords) -> Writes:
    """Seal the secrets, then turn every change into its statement. Unanswered."""
    stored = _seal(plan, desired, run.keys, passwords)
    scope = build_scope(desired)
    rows = tuple(
        row for change in plan.changes if (row := row_write(change, scope, _of(change.key, stored))) is not None
    )
    return Writes(
        migrate=any(change.key.kind == "schema" for change in plan.changes),
        purge=tuple(change.key.name for change in plan.changes if change.key.kind == "test_data"),
        kept=next((str(change.observed.row_id) for change in plan.changes if _moves(change)), None),
        rows=rows,
        applied=_applied(plan, snapshot, run.keys, stored),
        forgotten=tuple(
            change.key
            for change in plan.changes
            if isinstance(change, Remove | Deactivate) and change.key in snapshot.applied
        ),
        run_id=run.id,
        audit=audit_entries(desired, run, snapshot.audit_head, build_events(plan.changes)),
    )


def _moves(change: Change) -> TypeGuard[Update]:
    return isinstance(change, Update) and change.observed.moves_from is not None


def audit_entries(desired: Desired, run: Run, head: Head, events: tuple[Event, ...]) -> tuple[AuditEntry, ...]:
    context = Context(
        run_id=run.id,
        at=run.now(),
        actor=run.actor,
        manifest_digest=desired.origin.digest,
        instance=desired.instance,
        environment=desired.environment.name,
    )
    return chain(head, context, events)


def check_row(check: CheckResult) -> CheckRow:
    message = f"{check.error.code}: {check.error.message}" if check.error else None
    return CheckRow(
        check_type=check.check_type,
        success=check.success,
        status_received=check.status_received,
        error_message=message,
        response_time_ms=check.response_time_ms,
    )


def _of(key: Key, stored: Stored) -> dict[str, str]:
    return {field: text for (of, field), text in stored.items() if of == key}


def _seal(plan: Plan, desired: Desired, keys: KeyRing, passwords: Passwords) -> Stored:
    stored: dict[tuple[Key, str], str] = {}
    for change in plan.changes:
        if not isinstance(change, Create | Update):
            continue
        kind = BY_NAME[change.key.kind]
        written = {field.field for field in change.fields if field.sensitive}
        for field in sorted(written):
            secret = change.desired.fields[field]
            if isinstance(secret, Secret):
                stored[change.key, field] = (
                    passwords.hashed(secret, desired.bcrypt_cost)
                    if kind.sensitive[field] == "bcrypt"
                    else keys.encrypt(secret, instance=desired.instance, table=KEY_TABLE, column=field)
                )
    return stored


def _applied(
    plan: Plan, snapshot: Snapshot, keys: KeyRing, stored: Stored
) -> tuple[tuple[Key, Mapping[str, Value]], ...]:
    """What is to be remembered as applied, only where it differs from what is remembered."""
    accepted = {(item.key, item.field) for item in plan.accepted}
    rows = _rows_of_other_keys(plan)
    found: list[tuple[Key, Mapping[str, Value]]] = []
    for key, resource in sorted(applied_after(plan).items()):
        if (key, "*") in accepted:
            continue
        wanted = _wanted(resource, snapshot, stored, {field for of, field in accepted if of == key})
        # A hash that was put back is remembered too: what is not, has to be verified by bcrypt at every run.
        rehashed = any((key, name) in stored for name in wanted)
        for place in (key, *rows.get(key, ())):
            last = snapshot.applied.get(place)
            if last is None or rehashed or not _all_same(last.fields, wanted):
                found.append((place, _remembered(resource, wanted, snapshot, keys, stored)))
    return tuple(found)


def _renamed(resource: Resource) -> Key | None:
    return Key(resource.key.kind, resource.renamed_from) if resource.renamed_from is not None else None


def _rows_of_other_keys(plan: Plan) -> dict[Key, tuple[Key, ...]]:
    """Rows that keep their key under another's declaration, as a plan that is matched by name: what was applied to
    them last is remembered of them as well."""
    found: dict[Key, tuple[Key, ...]] = {}
    for change in plan.changes:
        if isinstance(change, Update) and change.observed.key not in (change.key, _renamed(change.desired)):
            found[change.key] = (change.observed.key,)
    return found


def _wanted(resource: Resource, snapshot: Snapshot, stored: Stored, accepted: set[str]) -> dict[str, Value]:
    """The fields to remember, secrets still as `Secret`. A password that was not written is not remembered anew."""
    last = snapshot.applied.get(resource.key)
    wanted: dict[str, Value] = {}
    for name, value in resource.fields.items():
        left_alone = name in accepted or (name in resource.on_create and (resource.key, name) not in stored)
        if not left_alone:
            wanted[name] = value
        elif last is not None and name in last.fields:
            wanted[name] = last.fields[name]
    return wanted


def _all_same(last: Mapping[str, Value], wanted: Mapping[str, Value]) -> bool:
    return last.keys() == wanted.keys() and all(same(last[name], wanted[name]) for name in wanted)


def _remembered(
    resource: Resource, wanted: Mapping[str, Value], snapshot: Snapshot, keys: KeyRing, stored: Stored
) -> dict[str, Value]:
    """Secrets as fingerprints; of one that was there before, the stored form is digested too."""
    kept: dict[str, Value] = {}
    for name, value in wanted.items():
        if not isinstance(value, Secret):
            kept[name] = value
        elif value is not UNKNOWN:
            written = stored.get((resource.key, name)) or snapshot.hashes.get((resource.key, name))
            kept[name] = fingerprint(keys, resource.key, name, value, written)
    return kept


def find_rekeyed(snapshot: Snapshot, owner: str, instance: str) -> Snapshot:
    """--adopt: the former owner's rows as rows of this instance; the key is to be sealed anew, bound to its new id."""
    state: dict[Key, Resource] = {}
    for key, row in snapshot.state.items():
        if key.name != owner or key.kind not in ("config", "status"):
            state[key] = row
            continue
        fields = {**row.fields, "instance_key": UNKNOWN} if key.kind == "config" else row.fields
        moved = Key(key.kind, instance)
        state[moved] = replace(row, key=moved, fields=fields)
    return replace(snapshot, state=state)
