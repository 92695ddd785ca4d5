"""What `history --follow` shows of a log that continues, goes back, or loses its beginning to retention."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.cli.history_follow import FollowedHistory
from reconciler.database.status_queries import HistoryFilter
from reconciler.support.log import EventLog


@dataclass
class Log:
    """An audit log: (seq, kind, hash), oldest first."""

    entries: list[tuple[int, str, str]] = field(default_factory=list)
    said: io.StringIO = field(default_factory=io.StringIO)

    def add(self, *kinds: str, era: str = "") -> None:
        for kind in kinds:
            seq = self.entries[-1][0] + 1 if self.entries else 1
            self.entries.append((seq, kind, f"{era}{seq}"))

    async def query(self, item: Any, run: Any, wanted: HistoryFilter) -> Sequence[Any]:
        found = [
            SimpleNamespace(seq=seq, kind=kind, hash=digest)
            for seq, kind, digest in self.entries
            if wanted.kind in (None, kind) and (wanted.after is None or seq > wanted.after)
        ]
        return found[::-1][: wanted.limit] if wanted.after is None else found[: wanted.limit]

    async def ask(self, following: FollowedHistory, *, first: bool = False) -> list[str]:
        run: Any = SimpleNamespace(command="history", log=EventLog(self.said, "console"))
        item: Any = SimpleNamespace(instance="a")
        return [entry.hash for entry in await following.ask(item, run, first=first)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr("reconciler.engine.status_and_logs.query_history", made.query)
    return made


async def test_each_entry_is_shown_once(log: Log) -> None:
    following = FollowedHistory(HistoryFilter(limit=2))
    log.add("queue", "queue", "plan")
    assert await log.ask(following, first=True) == ["2", "3"]
    assert await log.ask(following) == []
    log.add("queue")
    assert await log.ask(following) == ["4"]
    assert await log.ask(following) == []


async def test_a_log_that_went_back_shows_no_old_entries_again(log: Log) -> None:
    following = FollowedHistory(HistoryFilter(limit=2))
    log.add(*["queue"] * 60)
    assert await log.ask(following, first=True) == ["59", "60"]
    del log.entries[40:]
    log.add("queue", "queue", era="new ")
    assert await log.ask(following) == ["new 41", "new 42"]
    assert "ends before entry 60" in log.said.getvalue()
    assert await log.ask(following) == []


async def test_a_log_of_a_new_database_begins_as_the_command_did(log: Log) -> None:
    following = FollowedHistory(HistoryFilter(limit=2))
    log.add(*["queue"] * 6)
    assert await log.ask(following, first=True) == ["5", "6"]
    log.entries.clear()
    log.add("queue", "queue", "queue", era="new ")
    assert await log.ask(following) == ["new 2", "new 3"]
    assert await log.ask(following) == []
    assert log.said.getvalue().count("put back to an older state, or made again") == 1


@pytest.mark.parametrize("kind", [None, "queue"])
async def test_what_retention_takes_away_is_no_older_state(log: Log, kind: str | None) -> None:
    following = FollowedHistory(HistoryFilter(kind=kind))
    log.add("queue", "queue")
    assert await log.ask(following, first=True) == ["1", "2"]
    log.add("plan", "plan")
    del log.entries[:2]
    assert await log.ask(following) == ([] if kind else ["3", "4"])
    log.add("queue")
    assert await log.ask(following) == ["5"]
    assert log.said.getvalue() == ""
