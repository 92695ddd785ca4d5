"""Verify the audit log: the whole chain, its signatures, and other traces of it in the database. Pure.

A run that changes nothing does not import this.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from reconciler.model.records import dataclass
from reconciler.model.types import ErrorInfo, SealedKey
from reconciler.planning.audit import EMPTY, LOST, AuditEntry, Head, entry_hash, pruned_until

SIGNED_SCHEMA = 9
"""The first schema version with a column for signatures."""
CLOCKS = timedelta(minutes=1)
"""How far the clock of a run may be ahead of the server's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found: the entry's seq, and what is wrong with it."""

    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class Tail:
    """What a run that appends must know about the log. `traces`: something was applied to this database before.
    `owned`: the database names its instance, so another instance's key is not just `setup`'s, which knew no better
    name. `keyed`: a run with keys wrote to the log, and it has a column for signatures."""

    head: Head
    key: SealedKey | None = None
    traces: bool = False
    owned: bool = True
    keyed: bool = False

    @property
    def lacks_key(self) -> bool:
        """Whether the audit key is missing: it was removed, or only the setup script migrated an old log."""
        return self.key is None and self.head != EMPTY and self.keyed

    @property
    def is_lost(self) -> bool:
        """Whether the log is empty although there were runs before: retention keeps the newest entry."""
        return self.head == EMPTY and (self.traces or self.key is not None)


@dataclass(frozen=True, slots=True)
class Signatures:
    """How to verify signatures: entries from `since` on must have one, and `fits(hash, signature)` says whether it is
    the audit key's. `since` is None if the database has no audit key."""

    since: int | None
    fits: Callable[[str, str], bool]

    def fault(self, entry: AuditEntry) -> str | None:
        """Returns what is wrong with an entry's signature, or None."""
        if self.since is None or entry.seq < self.since:
            gone = "is signed by a key that this database does not have any more"
            return gone if entry.signature is not None else None
        if entry.signature is None:
            return "is not signed: it was written without the audit key"
        return None if self.fits(entry.hash, entry.signature) else "has a signature that is not the audit key's"


@dataclass(frozen=True, slots=True)
class Traces:
    """Other traces in the database of runs that wrote to the log. `keyed`: one of them had keys to sign with."""

    words: str
    keyed: bool = False


@dataclass(slots=True)
class Chain:
    """A chain that is checked entry by entry, in order of seq, so that memory stays bounded.

    `expected_head` is a hash that an apply printed: it must be among the entries, so that a cut tail shows. Entries may
    be missing at the beginning if a later entry says that retention deleted exactly these: `pruned` is that entry.
    Without `signatures` none are checked, and `unchecked` says why. `signed` is the first entry that has a signature,
    `unsigned` counts those without. `lost` is an entry saying that the log was found empty. `signing`: since when the
    database has a column for signatures, and the time now; `signs`: entries from here on were written since then.
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
    signing: tuple[datetime, datetime] | None = None
    signs: bool = False

    def take(self, entry: AuditEntry) -> None:
        """Check the next entry against those before it. `finding` keeps the first thing that is wrong."""
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
        return (self.signatures.fault(entry) or self._stripped(entry)) if self.signatures else None

    def _stripped(self, entry: AuditEntry) -> str | None:
        """Returns what is wrong with an unsigned entry that should be signed. Only `setup`, which has no manifest,
        writes entries without keys."""
        if entry.signature is not None:
            return None
        self.signs = self.signs or _begins_signing(entry)
        if self.signing is not None and self.signing[0] + CLOCKS < entry.at <= self.signing[1]:
            self.signs = True  # a time in the future proves nothing: either clock may have been wrong
        if not self.signs or not entry.manifest_digest:
            return None
        return "is not signed, though entries were signed here by then"

    def close(self, traces: Traces | None = None) -> None:
        """Call after the last entry: the expected head must have been seen, and missing entries must be pruned ones."""
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


def _begins_signing(entry: AuditEntry) -> bool:
    """Whether an entry shows that the database has a column for signatures."""
    match entry.kind, entry.name, entry.fields:
        case "audit", "key", _:
            return True
        case "schema", _, [{"field": "version", "after": int(version)}]:
            return version >= SIGNED_SCHEMA
        case _:
            return False
