"""The audit trail: entries chained by hash, so that an edited, deleted, reordered or forked one shows. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime

from reconciler.model.changes import Change
from reconciler.model.records import dataclass
from reconciler.model.types import Value, canonical

Head = tuple[int, str]
"""(seq, hash) of the newest entry; (0, "") before the first."""

EMPTY: Head = (0, "")
PRUNE = "prune"


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


def pruned_until(entry: AuditEntry) -> Head | None:
    """What a prune event says was deleted; None for other entries."""
    if (entry.kind, entry.action) != ("audit", PRUNE):
        return None
    said = {item.get("field"): item.get("after") for item in entry.fields}
    return int(said.get("seq") or 0), str(said.get("hash"))


def chain(head: Head, context: Context, events: Sequence[Event]) -> tuple[AuditEntry, ...]:
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
        entries.append(_with_hash(unsigned, prev))
    return tuple(entries)


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256, in hex, over every column but the hash itself; times in UTC with microseconds."""
    content = {item.name: getattr(entry, item.name) for item in fields(entry) if item.name != "hash"}
    content["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(canonical(content).encode()).hexdigest()


@dataclass(slots=True)
class Chain:
    """A chain taken in entry by entry, in order of seq, so that memory stays bounded.

    `expected_head` is a hash that an apply printed: it must be among the entries, so that a cut tail shows. Entries may
    be gone from the beginning where a later entry says that retention deleted exactly these.
    """

    expected_head: str | None = None
    count: int = 0
    head: Head = EMPTY
    finding: Finding | None = None
    seen_head: bool = False
    begins_after: Head = EMPTY
    pruned: bool = False

    def take(self, entry: AuditEntry) -> None:
        """Check the next entry against what came before it; what is wrong first stays in `finding`."""
        if self.finding is not None:
            return
        if self.count == 0 and entry.seq > 1:
            self.head = self.begins_after = (entry.seq - 1, entry.prev_hash)
        seq, prev = self.head
        if entry.seq != seq + 1:
            what = "is there twice" if entry.seq == seq else f"follows {seq}: entries between are gone"
            self.finding = Finding(entry.seq, f"entry {entry.seq} {what}")
        elif entry.prev_hash != prev:
            self.finding = Finding(entry.seq, f"entry {entry.seq} does not continue entry {seq}: reordered or forked")
        elif entry_hash(entry) != entry.hash:
            self.finding = Finding(entry.seq, f"entry {entry.seq} ({entry.kind}/{entry.name}) was edited")
        else:
            self.head = (entry.seq, entry.hash)
            self.count += 1
            self.pruned = self.pruned or pruned_until(entry) == self.begins_after
            self.seen_head = self.seen_head or entry.hash == self.expected_head

    def close(self) -> None:
        """No more entries: the expected head must have come by, and what is gone must have been pruned."""
        if self.finding is None and self.begins_after != EMPTY and not self.pruned:
            first = self.begins_after[0] + 1
            self.finding = Finding(first, f"entry {first} follows 0: entries between are gone")
        if self.finding is None and self.expected_head is not None and not self.seen_head:
            seq = self.head[0]
            self.finding = Finding(seq + 1, f"entries after {seq} are gone: the expected head is not among them")


def verify(entries: Iterable[AuditEntry], expected_head: str | None = None) -> Finding | None:
    """The first entry, in order of seq, that does not stand as it was written; None where all do."""
    chain = Chain(expected_head)
    for entry in entries:
        chain.take(entry)
    chain.close()
    return chain.finding


def _with_hash(entry: AuditEntry, value: str) -> AuditEntry:
    content = {item.name: getattr(entry, item.name) for item in fields(entry)}
    content["hash"] = value
    return AuditEntry(**content)
