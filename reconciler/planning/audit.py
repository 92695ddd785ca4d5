"""The audit log: entries chained by hash and signed, so that an edited, deleted or forged one shows. Pure.

The hash needs no key: anybody can check that the chain is whole. The database's audit key signs the hash: this takes an
encryption key, which opens the audit key. Entries from before there was an audit key are not signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from reconciler.model.changes import Change
from reconciler.model.records import dataclass
from reconciler.model.types import Value, canonical

Head: TypeAlias = tuple[int, str]
"""(seq, hash) of the newest entry; (0, "") before the first."""

EMPTY: Head = (0, "")
PRUNE = "prune"
LOST = "lost"

Sign: TypeAlias = Callable[[str], str]
"""Signs an entry's hash."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of fivrec.audit_log. `fields` is a list of {field, before, after} or {field, sensitive: true}."""

    seq: int
    id: str
    run_id: str
    at: datetime
    actor: str
    git_commit: str | None
    manifest_digest: str
    instance: str
    environment: str
    kind: str
    name: str
    action: str
    cause: str
    source: str
    fields: Value
    prev_hash: str
    hash: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who runs fivrec, a person or a pipeline, and the commit of the manifest."""

    name: str
    git_commit: str | None = None


NOT_RESOURCES = ("run", "call", "audit")
"""Kinds of entries that are not about a resource: runs that were refused or failed, API calls, the log itself."""


@dataclass(frozen=True, slots=True)
class Event:
    """The content of one entry, before it is chained."""

    kind: str
    name: str
    action: str
    cause: str
    source: str
    fields: Value


@dataclass(frozen=True, slots=True)
class Context:
    """What the entries of one run share."""

    run_id: str
    at: datetime
    actor: Actor
    manifest_digest: str
    instance: str
    environment: str


def build_events(changes: Iterable[Change]) -> tuple[Event, ...]:
    """Returns one event per change, with sensitive fields masked."""
    return tuple(
        Event(
            kind=change.key.kind,
            name=change.key.name,
            action=change.action,
            cause=change.cause,
            source=change.source,
            fields=[field.shown() for field in change.fields],
        )
        for change in changes
    )


def run_event(outcome: str, code: str, message: str) -> Event:
    shown = [{"field": "code", "before": None, "after": code}]
    shown.append({"field": "message", "before": None, "after": message})
    return Event("run", outcome, outcome, "", "manifest", shown)


def prune_event(until: Head) -> Event:
    """Returns the event for deleting old entries up to and including `until`: the chain after them is still whole."""
    seq, digest = until
    shown = [{"field": "seq", "before": None, "after": seq}, {"field": "hash", "before": None, "after": digest}]
    return Event("audit", "retention", PRUNE, "", "manifest", shown)


def lost_event() -> Event:
    """Returns the event for a log that was found empty although runs had written to it."""
    return Event("audit", "log", LOST, "", "manifest", [])


def key_event() -> Event:
    """Returns the event with which a run that changes nothing else starts signing the log."""
    return Event("audit", "key", "create", "", "manifest", [])


def owner_event(former: str, instance: str) -> Event:
    """Returns the event for a database that nobody had configured, but that was recorded under another name."""
    return Event(
        "audit", "owner", "update", "", "manifest", [{"field": "instance", "before": former, "after": instance}]
    )


def pruned_until(entry: AuditEntry) -> Head | None:
    """Returns what a prune event says was deleted; None for other entries, and for one that fivrec wouldn't write."""
    if (entry.kind, entry.action) != ("audit", PRUNE):
        return None
    match entry.fields:
        case [{"field": "seq", "after": int(seq)}, {"field": "hash", "after": str(digest)}]:
            return seq, digest
        case _:
            return None


def listed_fields(entry: AuditEntry) -> tuple[tuple[str, Value], ...]:
    """Returns the fields that an entry lists, each with its value before. A row that somebody else wrote may hold
    anything."""
    items = entry.fields if isinstance(entry.fields, list) else []
    return tuple((str(item.get("field")), item.get("before")) for item in items if isinstance(item, dict))


def chain(head: Head, context: Context, events: Sequence[Event], sign: Sign | None = None) -> tuple[AuditEntry, ...]:
    """Chain events after `head`: seq counts on by one, each hash covers the entry and the hash before it."""
    entries: list[AuditEntry] = []
    seq, prev = head
    shared = {**_shallow(context), "actor": context.actor.name, "git_commit": context.actor.git_commit}
    for number, event in enumerate(events, start=1):
        seq += 1
        name = f"{context.run_id}/{seq}.{number}"
        unsigned = AuditEntry(seq, name, **shared, **_shallow(event), prev_hash=prev, hash="")
        prev = entry_hash(unsigned)
        entries.append(replace(unsigned, hash=prev, signature=sign(prev) if sign else None))
    return tuple(entries)


def _shallow(record: AuditEntry | Context | Event) -> dict[str, Any]:
    """Like `dataclasses.asdict`, which copies every value down to the last one."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


_OF_THE_HASH = frozenset({"hash", "signature"})


def entry_hash(entry: AuditEntry) -> str:
    """Returns the SHA-256, in hex, of every column but the hash and its signature; times in UTC with microseconds."""
    content = {name: value for name, value in _shallow(entry).items() if name not in _OF_THE_HASH}
    content["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(canonical(content).encode()).hexdigest()
