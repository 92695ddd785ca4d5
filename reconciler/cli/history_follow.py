"""`fivrec history --follow`: each entry once, even if a database was restored from a backup, or created again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from reconciler.cli.follow import PAGE
from reconciler.model.records import dataclass
from reconciler.model.types import Desired

if TYPE_CHECKING:
    from reconciler.database.status_queries import HistoryFilter
    from reconciler.engine.run import Run
    from reconciler.planning.audit import AuditEntry


@dataclass(slots=True)
class FollowedHistory:
    """`known`: per instance, the number and hash of its newest entries, shown or not. A log that went back gives their
    numbers to other entries."""

    wanted: HistoryFilter
    known: dict[str, dict[int, str]] = field(default_factory=dict)

    async def ask(self, item: Desired, run: Run, *, first: bool) -> Sequence[AuditEntry]:
        known = self.known.setdefault(item.instance, {})
        found = await (self._first(item, run, known) if first else self._newer(item, run, known))
        known |= _hashes(found)
        for seq in sorted(known)[:-PAGE]:
            del known[seq]
        return found

    async def _first(self, item: Desired, run: Run, known: dict[int, str]) -> Sequence[AuditEntry]:
        """The requested entries, oldest first. The rest is only remembered."""
        known |= _hashes(await _query(item, run, replace(self.wanted, since=None, limit=PAGE)))
        return (await _query(item, run, self.wanted))[::-1]

    async def _newer(self, item: Desired, run: Run, known: dict[int, str]) -> Sequence[AuditEntry]:
        if not known:
            return await self._after(item, run, 0, PAGE)
        newest = max(known)
        last, *more = await self._after(item, run, newest - 1, PAGE + 1) or (None,)
        if last is not None and last.hash == known[newest]:
            return more
        return await self._from_the_fork(item, run, known)

    async def _from_the_fork(self, item: Desired, run: Run, known: dict[int, str]) -> Sequence[AuditEntry]:
        """Handle a newest entry that no longer exists: retention removed it, or the log went back. If none of the known
        entries is left, start as the command did."""
        newest, hashes = max(known), set(known.values())
        found = await self._after(item, run, min(known) - 1, PAGE + len(known))
        oldest = await _query(
            item, run, replace(self.wanted, since=None, kind=None, run=None, cause=None, after=0, limit=1)
        )
        if oldest and oldest[0].seq > newest:
            return found
        there = {entry.hash for entry in found}
        for seq in [seq for seq, digest in known.items() if digest not in there]:
            del known[seq]
        said = f"⏪ the audit log ends before entry {newest}, which was there: the database was put back to an older "
        run.log.warning(run.command, said + "state, or made again", instance=item.instance)
        if not known:
            return await self._first(item, run, known)
        return [entry for entry in found if entry.hash not in hashes]

    async def _after(self, item: Desired, run: Run, seq: int, limit: int) -> Sequence[AuditEntry]:
        return await _query(item, run, replace(self.wanted, after=seq, limit=limit))


def _hashes(entries: Sequence[AuditEntry]) -> dict[int, str]:
    return {entry.seq: entry.hash for entry in entries}


async def _query(item: Desired, run: Run, wanted: HistoryFilter) -> Sequence[AuditEntry]:
    from reconciler.engine.status_and_logs import query_history

    return await query_history(item, run, wanted)
