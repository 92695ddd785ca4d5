"""What signing the audit log and judging its signatures need to know. Pure; what changes nothing does not import it."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.model.records import dataclass
from reconciler.model.types import SealedKey
from reconciler.planning.audit import EMPTY, AuditEntry, Head


@dataclass(frozen=True, slots=True)
class Tail:
    """What a run that appends has to know of the log. `traces`: something was applied to this database before."""

    head: Head
    key: SealedKey | None = None
    traces: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the log is empty although runs came before: retention leaves the newest entry."""
        return self.head == EMPTY and (self.traces or self.key is not None)


@dataclass(frozen=True, slots=True)
class Signatures:
    """How signatures are judged: entries from `since` on have one, and `fits(hash, signature)` says whether it is
    the audit key's. `since` is None if the database has no audit key."""

    since: int | None
    fits: Callable[[str, str], bool]

    def fault(self, entry: AuditEntry) -> str | None:
        """What is wrong with an entry's signature."""
        if self.since is None or entry.seq < self.since:
            gone = "is signed by a key that this database does not have any more"
            return gone if entry.signature is not None else None
        if entry.signature is None:
            return "is not signed: it was written without the audit key"
        return None if self.fits(entry.hash, entry.signature) else "has a signature that is not the audit key's"


@dataclass(frozen=True, slots=True)
class Traces:
    """What else the database tells of runs that wrote to the log. `keyed`: one of them had keys to sign with."""

    words: str
    keyed: bool = False
