"""The audit log: entries chained by hash and signed, so that an edited, deleted or forged one shows. Pure.

The hash needs no key: anybody can check that the chain is whole. The signature is of the hash, by the database's audit
key: only who holds an encryption key can make it. Entries from before there was a key have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from reconciler.model.changes import Change
from reconciler.model.records import dataclass
from reconciler.model.types import ErrorInfo, Value, canonical

if TYPE_CHECKING:
    from reconciler.planning.signatures import Signatures, Traces

Head: TypeAlias = tuple[int, str]
"""(seq, hash) of the newest entry; (0, "") before the first."""

EMPTY: Head = (0, "")
PRUNE = "prune"
LOST = "lost"

Sign: TypeAlias = Callable[[str], str]
"""The signature of an entry's hash."""


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
    """Who runs: a person or a pipeline, and the commit that the manifest stands at."""

    name: str
    git_commit: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What one entry is to say, before it is chained."""

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


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found: the entry's seq, and what is wrong with it."""

    seq: int
    message: str


def build_events(changes: Iterable[Change]) -> tuple[Event, ...]:
    """One event a change, sensitive fields masked."""
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
    """The event of a run that was refused or failed."""
    shown = [{"field": "code", "before": None, "after": code}]
    shown.append({"field": "message", "before": None, "after": message})
    return Event("run", outcome, outcome, "", "manifest", shown)


def prune_event(until: Head) -> Event:
    """The event of old entries that were deleted, up to and with `until`: the chain is still whole behind them."""
    seq, digest = until
    shown = [{"field": "seq", "before": None, "after": seq}, {"field": "hash", "before": None, "after": digest}]
    return Event("audit", "retention", PRUNE, "", "manifest", shown)


def lost_event() -> Event:
    """The event of a log that was found empty although runs had written to it."""
    return Event("audit", "log", LOST, "", "manifest", [])


def key_event() -> Event:
    """The event with which a run that changes nothing else begins the signatures."""
    return Event("audit", "key", "create", "", "manifest", [])


def pruned_until(entry: AuditEntry) -> Head | None:
    """What a prune event says was deleted; None for other entries, also for one that is not as fivrec writes it."""
    if (entry.kind, entry.action) != ("audit", PRUNE):
        return None
    match entry.fields:
        case [{"field": "seq", "after": int(seq)}, {"field": "hash", "after": str(digest)}]:
            return seq, digest
        case _:
            return None


def field_names(entry: AuditEntry) -> tuple[str, ...]:
    """The fields that an entry tells of. A row that somebody else wrote may hold anything."""
    items = entry.fields if isinstance(entry.fields, list) else []
    return tuple(str(item.get("field")) for item in items if isinstance(item, dict))


def chain(head: Head, context: Context, events: Sequence[Event], sign: Sign | None = None) -> tuple[AuditEntry, ...]:
    """Append events behind `head`: seq goes on by one, each hash covers the entry and the hash before it."""
    entries: list[AuditEntry] = []
    seq, prev = head
    for number, event in enumerate(events, start=1):
        seq += 1
        unsigned = AuditEntry(
            seq=seq,
            id=f"{context.run_id}/{seq}.{number}",
            run_id=context.run_id,
            at=context.at,
            actor=context.actor.name,
            git_commit=context.actor.git_commit,
            manifest_digest=context.manifest_digest,
            instance=context.instance,
            environment=context.environment,
            kind=event.kind,
            name=event.name,
            action=event.action,
            cause=event.cause,
            source=event.source,
            fields=event.fields,
            prev_hash=prev,
            hash="",
        )
        prev = entry_hash(unsigned)
        entries.append(replace(unsigned, hash=prev, signature=sign(prev) if sign else None))
    return tuple(entries)


_OF_THE_HASH = frozenset({"hash", "signature"})


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256, in hex, over every column but the hash and its signature; times in UTC with microseconds."""
    content = {item.name: getattr(entry, item.name) for item in fields(entry) if item.name not in _OF_THE_HASH}
    content["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(canonical(content).encode()).hexdigest()


@dataclass(slots=True)
class Chain:
    """A chain taken in entry by entry, in order of seq, so that memory stays bounded.

    `expected_head` is a hash that an apply printed: it must be among the entries, so that a cut tail shows. Entries may
    be gone from the beginning if a later entry says that retention deleted exactly these: `pruned` is that entry.
    Without `signatures` those are not checked, and `unchecked` says why. `signed` is the first entry that has one,
    `unsigned` counts those that have none. `lost` tells that the log was found empty once.
    """

    expected_head: str | None = None
    signatures: Signatures | None = None
    count: int = 0
    head: Head = EMPTY
    finding: Finding | None = None
    seen_head: bool = False
    begins_after: Head = EMPTY
    pruned: AuditEntry | None = None
    signed: AuditEntry | None = None
    unsigned: int = 0
    lost: AuditEntry | None = None
    unchecked: ErrorInfo | None = None

    def take(self, entry: AuditEntry) -> None:
        """Check the next entry against what came before it; what is wrong first stays in `finding`."""
        if self.finding is not None:
            return
        if self.count == 0 and entry.seq > 1:
            self.head = self.begins_after = (entry.seq - 1, entry.prev_hash)
        fault = self._fault(entry)
        if fault is not None:
            self.finding = Finding(entry.seq, f"entry {entry.seq} {fault}")
            return
        self.head = (entry.seq, entry.hash)
        self.count += 1
        if pruned_until(entry) is not None and (self.pruned is None or pruned_until(entry) == self.begins_after):
            self.pruned = entry
        self.seen_head = self.seen_head or entry.hash == self.expected_head
        if (entry.kind, entry.action) == ("audit", LOST):
            self.lost = self.lost or entry
        if entry.signature is None:
            self.unsigned += 1
        elif self.signed is None:
            self.signed = entry

    def _fault(self, entry: AuditEntry) -> str | None:
        seq, prev = self.head
        if entry.seq < 1:
            return f"({entry.kind}/{entry.name}) was not written by fivrec: its numbers begin at 1"
        if entry.seq != seq + 1:
            return "is there twice" if entry.seq == seq else f"follows {seq}: entries between are gone"
        if entry.prev_hash != prev:
            return f"does not continue entry {seq}: reordered or forked"
        if entry_hash(entry) != entry.hash:
            return f"({entry.kind}/{entry.name}) was edited"
        return self.signatures.fault(entry) if self.signatures else None

    def close(self, traces: Traces | None = None) -> None:
        """No more entries: the expected head must have come by, and what is gone must have been pruned."""
        if self.finding is None:
            self.finding = self._gone(traces)

    def _gone(self, traces: Traces | None) -> Finding | None:
        seq, first = self.head[0], self.begins_after[0] + 1
        if self.begins_after != EMPTY and (self.pruned is None or pruned_until(self.pruned) != self.begins_after):
            return Finding(first, f"entry {first} follows 0: entries between are gone")
        if self.lost is not None:
            when, run = f"{self.lost.at:%Y-%m-%d %H:%M}", self.lost.run_id[:8]
            return Finding(self.lost.seq, f"run {run} found the log empty on {when} UTC: entries from before are gone")
        if self.count == 0 and traces is not None:
            return Finding(1, f"the log is empty, and {traces.words}")
        found = self._unsigned(traces) if self.signatures else None
        if found is None and self.expected_head is not None and not self.seen_head:
            found = f"entries after {seq} are gone: the expected head is not among them"
        return Finding(seq + 1, found) if found else None

    def _unsigned(self, traces: Traces | None) -> str | None:
        since = self.signatures.since if self.signatures else None
        if since is not None and self.head[0] < since:
            return f"entries after {self.head[0]} are gone: signed ones begin at {since}"
        if since is None and traces is not None and traces.keyed:
            return "no entry is signed, though a run with keys applied something: the audit key is gone"
        return None


def verify(entries: Iterable[AuditEntry], expected_head: str | None = None) -> Finding | None:
    """The first entry, in order of seq, that does not stand as it was written; None if all do. Signatures aside."""
    chain = Chain(expected_head)
    for entry in entries:
        chain.take(entry)
    chain.close()
    return chain.finding
