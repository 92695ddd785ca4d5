"""`fivrec history --follow`: each entry once, also where a database was put back to a backup, or made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from reconciler.cli.follow import PAGE
from reconciler.model.records import dataclass

if TYPE_CHECKING:
    from reconciler.database.status_queries import HistoryFilter
    from reconciler.engine.run import Run
    from reconciler.model.types import Desired
    from reconciler.planning.audit import AuditEntry


@dataclass(slots=True)
class FollowedHistory:
    """`shown`: by instance, the number and hash of the entries shown last, oldest first. A log that went back gives
    their numbers to other entries."""

    wanted: HistoryFilter
    shown: dict[str, dict[int, str]] = field(default_factory=dict)

    async def ask(self, item: Desired, run: Run, _: AuditEntry | None, *, first: bool) -> Sequence[AuditEntry]:
        shown = self.shown.setdefault(item.instance, {})
        found = await (self._first(item, run) if first else self._newer(item, run, shown))
        shown |= {entry.seq: entry.hash for entry in found}
        for seq in sorted(shown)[:-PAGE]:
            del shown[seq]
        return found

    async def _first(self, item: Desired, run: Run) -> Sequence[AuditEntry]:
        from reconciler.engine.status_and_logs import query_history

        return (await query_history(item, run, self.wanted))[::-1]

    async def _newer(self, item: Desired, run: Run, shown: dict[int, str]) -> Sequence[AuditEntry]:
        if not shown:
            return await self._after(item, run, 0, PAGE)
        newest = max(shown)
        last, *more = await self._after(item, run, newest - 1, PAGE + 1) or (None,)
        if last is not None and last.hash == shown[newest]:
            return more
        return await self._from_the_fork(item, run, shown)

    async def _from_the_fork(self, item: Desired, run: Run, shown: dict[int, str]) -> Sequence[AuditEntry]:
        """The last one is not there any more. Without any of those shown, all is new: also what is left after
        retention took them away."""
        newest, hashes = max(shown), set(shown.values())
        found = await self._after(item, run, min(shown) - 1, PAGE + len(shown))
        there = {entry.hash for entry in found}
        for seq in [seq for seq, known in shown.items() if known not in there]:
            del shown[seq]
        if not shown:
            found = await self._after(item, run, 0, PAGE)
        if not found or found[0].seq <= newest:
            said = (
                f"⏪ the audit log ends before entry {newest}, which was there: the database was put back to an older "
            )
            run.log.warning(run.command, said + "state, or made again", instance=item.instance)
        return [entry for entry in found if entry.hash not in hashes]

    async def _after(self, item: Desired, run: Run, seq: int, limit: int) -> tuple[AuditEntry, ...]:
        from reconciler.engine.status_and_logs import query_history

        return await query_history(item, run, replace(self.wanted, after=seq, limit=limit))
