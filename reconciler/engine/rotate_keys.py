"""Re-encrypt everything that one instance keeps encrypted with the first key of the ring: one transaction, under its
lock.

Resumable: an instance is under the old key or the new one, never between, and what is done is not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.rows import KEY_COLUMN, KEY_TABLE, RowWrite
from reconciler.database.status_queries import read_version
from reconciler.engine import observe as instance
from reconciler.engine.audit_log import resealed, tail_of, with_audit
from reconciler.engine.commit import UNKNOWN, commit
from reconciler.engine.guards import WRONG_OWNER, configured_as, refuse_other_owner
from reconciler.engine.last_run import failed_row
from reconciler.engine.match_secrets import Prints
from reconciler.engine.reports import build_failed_report, elapsed_ms, failed_outcome
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import NEVER_APPLIED
from reconciler.engine.status_check import record_failure
from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import Busy, FivrecError, Refused
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Key, Resource, Snapshot, Value
from reconciler.planning.audit import build_events
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing, is_envelope, read_key_id
from reconciler.support.log import counted


@dataclass(frozen=True, slots=True)
class _Rotation:
    """What to write for one instance, and what to report."""

    change: Update | None
    envelope: str = ""
    renewed: tuple[tuple[Key, Mapping[str, Value]], ...] = ()
    notes: tuple[str, ...] = ()
    others: tuple[RowWrite, ...] = ()


_NOTHING = _Rotation(None, notes=("never applied: there is nothing to rotate",))


async def rotate(desired: Desired, run: Run) -> InstanceReport:
    """Re-encrypt one instance. Expected errors end in the report; then nothing was written but their record. Secrets
    that an older fivrec applied may be unreadable to this one: their key is still the former one."""
    started, version = time.monotonic(), 0
    try:
        async with instance.database(desired, run) as conn:
            version = await read_version(conn, instance.build_scope(desired))
            try:
                return await _rotate(conn, desired, run, started)
            except FivrecError as exc:
                if not isinstance(exc, Busy) and exc.code not in (WRONG_OWNER, UNKNOWN, *NEVER_APPLIED):
                    row = failed_row(run, failed_outcome(exc), error=exc.code)
                    await record_failure(conn, desired, run, exc, last_run=row)
                raise
    except FivrecError as exc:
        if exc.code in NEVER_APPLIED and not version:
            return _report(desired, started, _NOTHING)
        return build_failed_report(desired, started, exc)


async def _rotate(conn: Connection, desired: Desired, run: Run, started: float) -> InstanceReport:
    scope = instance.build_scope(desired)
    snapshot = await store.begin(conn, scope, None, lock=True)
    # Without a row of instance_config, the database is the one's that its records or its audit key name.
    sealed_for = snapshot.audit_key.instance if snapshot.audit_key else None
    owner = snapshot.owner or configured_as(snapshot, desired.instance) or sealed_for
    refuse_other_owner(owner, desired.instance)
    others = await store.read_other_keys(conn, scope, snapshot.config_id)
    rotation = build_rotation(snapshot, desired, run.keys, others)
    if desired.suspend and rotation.change is not None:
        said = "the manifest says suspend: true: fivrec changes nothing, and the former key is still needed"
        raise Refused(said, hint="take suspend: true out of it, and rotate again", code="suspended_manifest")
    last_run = await _last_run(conn, run, rotation)
    if rotation.change is None:
        await store.commit(conn, store.Writes(run_id=run.id, last_run=last_run), scope)
        return _report(desired, started, rotation)
    row = store.row_write(rotation.change, scope, {KEY_COLUMN: rotation.envelope} if rotation.envelope else None)
    writes = store.Writes(
        run_id=run.id,
        rows=(*((row,) if row is not None and rotation.envelope else ()), *rotation.others),
        applied=rotation.renewed,
        last_run=last_run,
        keys=_rewritten(snapshot, rotation),
    )
    writes = with_audit(writes, desired, run, tail_of(snapshot), build_events((rotation.change,)))
    if writes.audit_key is None and snapshot.audit_key is not None:
        writes = replace(writes, audit_key=resealed(desired, run, snapshot.audit_key))
    await commit(conn, writes, desired, run, snapshot=snapshot)
    return replace(_report(desired, started, rotation), audit_head=writes.audit[-1].hash)


def _rewritten(snapshot: Snapshot, rotation: _Rotation) -> dict[str, str]:
    """The envelopes that have to be stored, by row: the former key is about to be thrown away."""
    found = {str(row.params["row_id"]): str(row.params[KEY_COLUMN]) for row in rotation.others}
    return {str(snapshot.config_id): rotation.envelope, **found} if rotation.envelope else found


async def _last_run(conn: Connection, run: Run, rotation: _Rotation) -> store.LastRunRow | None:
    """The last run's findings on drift stay: a rotation does not look for drift."""
    if not await store.can_record_run(conn):
        return None
    outcome, changes = ("in_sync", 0) if rotation.change is None else ("changed", 1)
    return store.LastRunRow(run.command, run.actor.name, run.actor.git_commit, outcome, changes)


def build_rotation(
    snapshot: Snapshot, desired: Desired, keys: KeyRing, others: Sequence[tuple[str, str]] = ()
) -> _Rotation:
    """Everything that is not under the first key yet; `others` are further rows of the instance, as (id, envelope).
    Raises MissingSetting if a needed key is not in the ring."""
    row = snapshot.state.get(Key("config", desired.instance))
    if row is None:  # never applied, its row was deleted, or only `setup` ran, which makes none
        if snapshot.audit_key is None and not snapshot.applied:
            return _NOTHING
        row = Resource(Key("config", desired.instance), {})
    stored = row.fields.get(KEY_COLUMN)
    text = stored.reveal() if isinstance(stored, Secret) else ""
    secret: Secret | None = None
    envelope = ""
    notes: list[str] = []
    if is_envelope(text):
        secret = keys.decrypt(text, desired.instance, KEY_TABLE, KEY_COLUMN)
        if not keys.is_current(text):
            envelope = keys.encrypt(secret, desired.instance, KEY_TABLE, KEY_COLUMN)
    elif stored is not None:
        notes.append("the instance key is stored in plain text: fivrec apply encrypts it")
    rekeyed = _rekeyed(desired, keys, others)
    known = _known(desired, snapshot, row.key, secret)
    renewed, former = _renewed(snapshot, known, Prints(keys, desired.instance), envelope or text)
    if former:
        notes.append(f"{counted(former, 'fingerprint')} left under a former key until an apply renews them")
    audit = snapshot.audit_key is not None and not keys.is_current(snapshot.audit_key.sealed)
    if not envelope and not renewed and not rekeyed and not audit:
        return _Rotation(None, notes=tuple(notes))
    notes.insert(0, f"{counted(len(renewed), 'fingerprint')} renewed")
    if rekeyed:
        notes.insert(0, f"{counted(len(rekeyed), 'more row')} of instance_config re-encrypted")
    if audit:
        notes.append("the audit key is sealed with the first key; earlier entries stay verifiable")
    fields = [FieldChange(KEY_COLUMN, sensitive=True)] if envelope or rekeyed else []
    fields.append(FieldChange("key_id", read_key_id(text) if envelope else None, keys.first_id))
    change = Update(row.key, tuple(fields), "manifest", "intent", row, row)
    return _Rotation(change, envelope, renewed, tuple(notes), rekeyed)


def _rekeyed(desired: Desired, keys: KeyRing, others: Sequence[tuple[str, str]]) -> tuple[RowWrite, ...]:
    """Further rows of the instance, which the app's table allows: none may stay under a key that is going away."""
    found: list[RowWrite] = []
    for row_id, text in others:
        if is_envelope(text) and not keys.is_current(text):
            secret = keys.decrypt(text, desired.instance, KEY_TABLE, KEY_COLUMN)
            sealed = keys.encrypt(secret, desired.instance, KEY_TABLE, KEY_COLUMN)
            found.append(RowWrite("config", "rekey", {"row_id": row_id, KEY_COLUMN: sealed}))
    return tuple(found)


def _known(
    desired: Desired, snapshot: Snapshot, config: Key, instance_key: Secret | None
) -> dict[tuple[Key, str], Secret]:
    """The secrets that fingerprints may stand for: the stored instance key and settings, and the declared password."""
    found = {(config, KEY_COLUMN): instance_key} if instance_key is not None else {}
    for key, row in snapshot.state.items():
        if key.kind == "setting" and isinstance(row.fields["value"], Secret):
            found[key, "value"] = row.fields["value"]
    for resource in desired.managed["admin"].resources if "admin" in desired.managed else ():
        password = resource.fields.get("password")
        if isinstance(password, Secret):
            found[resource.key, "password"] = password
    return found


def _renewed(
    snapshot: Snapshot, known: Mapping[tuple[Key, str], Secret], prints: Prints, envelope: str
) -> tuple[tuple[tuple[Key, Mapping[str, Value]], ...], int]:
    """Returns what fivrec.applied should hold, and how many fingerprints stay under a former key: bcrypt is not run, so
    fingerprints of secrets that are not available can't be renewed."""
    found: list[tuple[Key, Mapping[str, Value]]] = []
    former = 0
    for key, last in sorted(snapshot.applied.items()):
        fields = dict(last.fields)
        for name, kept in last.fields.items():
            if not isinstance(kept, dict) or not isinstance(kept.get("declared"), str):
                continue
            is_key = (key.kind, name) == ("config", KEY_COLUMN)
            row = snapshot.state.get(key)
            stored = Secret(envelope) if is_key else row.fields.get(name) if row else None
            if _is_current(kept, prints.keys) and (not is_key or prints.is_stored(kept, key, name, stored)):
                continue
            secret = known.get((key, name))
            if secret is not None and prints.is_declared(kept, key, name, secret):
                same = is_key or prints.is_stored(kept, key, name, stored)
                text = stored.reveal() if same and isinstance(stored, Secret) else None
                fields[name] = prints.of(key, name, secret, text)
            elif not _is_current(kept, prints.keys):
                former += 1
        if fields != last.fields:
            found.append((key, fields))
    return tuple(found), former


def _is_current(kept: Mapping[str, Value], keys: KeyRing) -> bool:
    return all(keys.is_current(str(digest)) for digest in kept.values())


def _report(desired: Desired, started: float, rotation: _Rotation) -> InstanceReport:
    changes = () if rotation.change is None else (rotation.change,)
    return InstanceReport(
        instance=desired.instance,
        environment=desired.environment.name,
        outcome="changed" if changes else "in_sync",
        duration_ms=elapsed_ms(started),
        plan=Plan(desired.instance, desired.environment.name, changes),
        resources=1,
        notes=rotation.notes,
        **desired.origin.place,
    )
