"""What a run appends to the audit log: entries signed with the database's audit key, which the first run creates."""

from __future__ import annotations

from dataclasses import replace

from reconciler.database.audit_key import AuditKey
from reconciler.database.schema import latest_version, version_of
from reconciler.database.store import Writes
from reconciler.engine.match_secrets import UNKNOWN
from reconciler.engine.run import Run
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, SealedKey, Snapshot
from reconciler.planning.audit import Context, Event, chain, key_event, lost_event, owner_event
from reconciler.planning.audit_check import SIGNED_SCHEMA, Signatures, Tail, Traces
from reconciler.support.crypto.key_files import FILE_VARIABLE, VARIABLE
from reconciler.support.crypto.keyring import KeyRing

_NO_KEY = (
    "⚠️ the audit log has entries and no audit key: if only the setup script brought it up to date, that is right, else "
    "the key was taken away, and `fivrec history --verify` says more; signatures begin at entry"
)


def with_audit(writes: Writes, desired: Desired, run: Run, tail: Tail, events: tuple[Event, ...]) -> Writes:
    """Returns the writes with one audit entry per event. Appending nothing needs no key.

    Raises MissingSetting if there is no encryption key to seal the audit key with: an entry that can't be signed is not
    written.
    """
    if not events:
        return writes
    if tail.is_lost:
        tail, events = replace(tail, key=None), (lost_event(), *events)
    if tail.key is not None and not tail.owned and tail.key.instance != desired.instance:
        events = (owner_event(tail.key.instance, desired.instance), *events)
    key, made = _key(desired, run, tail)
    if tail.lacks_key:
        begins = key_event()
        events = (begins, *(event for event in events if event != begins))
        run.log.warning(run.command, f"{_NO_KEY} {tail.head[0] + 1}", instance=desired.instance, error="audit_key")
    context = Context(
        run_id=run.id,
        at=run.now(),
        actor=run.actor,
        manifest_digest=desired.origin.digest,
        instance=desired.instance,
        environment=desired.environment.name,
    )
    entries = chain(tail.head, context, events, key.sign if key else None)
    return replace(writes, audit=entries, audit_key=made)


def for_old_schema(writes: Writes, version: int, desired: Desired, run: Run) -> Writes:
    """Reduce the writes to what a schema of an older fivrec has columns for. A check does not migrate the schema, and
    must still be recorded, together with its lock."""
    last_run = writes.last_run if version >= version_of("life") else None
    writes = replace(writes, applied=(), released=(), last_run=last_run)
    if not writes.audit or version >= version_of("audit_key"):
        return writes
    said = (
        f"⚠️ the check and its lock are recorded, but not in the audit log: its schema is {version}, of an older fivrec"
    )
    run.log.warning(run.command, f'{said}; run "fivrec apply"', instance=desired.instance)
    return replace(writes, audit=(), audit_key=None)


def tail_of(snapshot: Snapshot) -> Tail:
    """The end of the log as the snapshot has it."""
    sealed, owned = _is_sealed(snapshot), snapshot.owner is not None
    keyed = sealed and (snapshot.schema_version or 0) >= SIGNED_SCHEMA
    return Tail(snapshot.audit_head, snapshot.audit_key, bool(snapshot.applied) or sealed, owned, keyed)


def traces_of(snapshot: Snapshot) -> Traces | None:
    """The evidence, available without keys, that runs wrote to the log; None if there is none."""
    sealed = _is_sealed(snapshot)
    signs = snapshot.schema_version is not None and snapshot.schema_version >= latest_version()
    last = max(snapshot.applied.values(), key=lambda applied: applied.at, default=None)
    if last is not None:
        return Traces(f"run {last.run_id[:8]} of {last.at:%Y-%m-%d} wrote to it", keyed=sealed and signs)
    return Traces("the run that encrypted the instance key wrote to it", keyed=signs) if sealed else None


def _is_sealed(snapshot: Snapshot) -> bool:
    """Whether the instance key is stored encrypted, which only a run with keys does."""
    found = [row.fields.get("instance_key") for row in snapshot.state.values() if row.key.kind == "config"]
    return any(type(value) is Secret and value is not UNKNOWN for value in found)


def events_to_begin(run: Run, tail: Tail) -> tuple[Event, ...]:
    """Returns the event that adds a key to a log from before signatures existed. The next apply writes it, even if it
    changes nothing else."""
    begins = tail.key is None and tail.head[0] > 0 and run.keys.keys
    return (key_event(),) if begins else ()


def resealed(desired: Desired, run: Run, key: SealedKey) -> SealedKey:
    """The same key, sealed under the first encryption key."""
    return AuditKey.open(key, run.keys, desired.instance).seal(run.keys, desired.instance)


def signatures_of(stored: SealedKey | None, keys: KeyRing, instance: str) -> Signatures:
    """The keys to verify signatures with. Raises MissingSetting if the key is not available or belongs to another
    instance."""
    _need(keys)
    if stored is None:
        return Signatures(None, lambda _hash, _signature: False)
    return AuditKey.open(stored, keys, instance).signatures()


def _need(keys: KeyRing) -> None:
    if not keys.keys:
        raise MissingSetting("no encryption key is given", hint=f"set {VARIABLE} or {FILE_VARIABLE}")


def _key(desired: Desired, run: Run, tail: Tail) -> tuple[AuditKey | None, SealedKey | None]:
    """Returns the key to sign with, and the sealed form to store if it is new."""
    if tail.key is None:
        if not run.keys.keys and not desired.origin.digest:
            return None, None  # `setup` may run without keys: its entries count as older than signatures
        _need(run.keys)
        key = AuditKey.make(tail.head[0] + 1)
        return key, key.seal(run.keys, desired.instance)
    _need(run.keys)
    # A key of another instance signs too: `history --verify` reports whether it belongs to this database.
    adopted = (run.adopt or not tail.owned) and tail.key.instance != desired.instance
    key = AuditKey.open(tail.key, run.keys, tail.key.instance)
    return key, key.seal(run.keys, desired.instance) if adopted else None
