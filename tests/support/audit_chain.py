"""The chain of a whole audit log, checked in one go."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.planning.audit import AuditEntry
from reconciler.planning.audit_check import Chain, Finding


def verify(entries: Iterable[AuditEntry], expected_head: str | None = None) -> Finding | None:
    """The first entry, in order of seq, that does not stand as it was written; None if all do. Signatures aside."""
    chain = Chain(expected_head)
    for entry in entries:
        chain.take(entry)
    chain.close()
    return chain.finding
