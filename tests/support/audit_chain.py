"""Verifies the chain of a whole audit log at once."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.planning.audit import AuditEntry
from reconciler.planning.audit_check import Chain, Finding


def verify(entries: Iterable[AuditEntry], expected_head: str | None = None) -> Finding | None:
    """Returns the first entry, in order of seq, that differs from what was written, or None. Ignores signatures."""
    chain = Chain(expected_head)
    for entry in entries:
        chain.take(entry)
    chain.close()
    return chain.finding
