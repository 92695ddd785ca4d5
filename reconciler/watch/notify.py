"""Deliver alerts to receivers: grouped, so that a fault of many instances makes only a few posts, and repeated until
they are accepted.

Each receiver has its own lane, so that one that is down delays no other. Other modules decide which alerts there are
and store them: `settle` is called with those that every receiver is done with.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import field
from typing import Any

from reconciler.model.names import cut, first_of, printable
from reconciler.model.records import dataclass
from reconciler.model.types import Value
from reconciler.planning.schedule import retry_delay
from reconciler.support.log import EventLog, counted
from reconciler.watch.receivers import Receiver

QUIET_S, GATHER_S = 2.0, 10.0
"""Seconds. A post is sent when no alert has come for QUIET_S, and GATHER_S after the first one at the latest."""
SOON, WINDOW_S, HOLD_S = 2, 600.0, 300.0
"""After SOON posts about one cause within WINDOW_S, the next post about it alone waits until HOLD_S after the last
one."""
SPREADING = frozenset({"connect_unreachable", "failing", "recovered", "drift_found", "drift_repaired", "fight"})
"""Alerts that may concern many instances, one after the other as their turns come."""
MOST_LINES, MOST_NAMES, MOST_CHARACTERS = 20, 5, 600
MOST_KEPT = 2000

Record = dict[str, Value]


@dataclass(slots=True, eq=False)
class _Entry:
    record: Record
    since: float
    lanes: int

    @property
    def cause(self) -> tuple[Value, ...]:
        return _cause(self.record)


@dataclass(slots=True)
class Notifier:
    """`hear` is a listener of the log, `take` adds alerts that an earlier run left; `run` posts them. `done` is called
    with each post. `settle` marks an instance's alerts, by their ids, as delivered where they are stored."""

    receivers: Sequence[Receiver]
    log: EventLog
    done: Callable[[bool], None] = lambda _: None
    settle: Callable[[str, Sequence[str]], Awaitable[None]] | None = None
    clock: Callable[[], float] = time.monotonic
    _lanes: list[_Lane] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _settled: dict[str, list[str]] = field(default_factory=dict)
    _to_settle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._lanes = [_Lane(receiver, self) for receiver in self.receivers]

    @property
    def waiting(self) -> int:
        return max((len(lane.entries) for lane in self._lanes), default=0)

    def hear(self, record: Record) -> None:
        if "alert" in record:
            self._add(record)

    def take(self, records: Iterable[Record]) -> None:
        """Add stored alerts; those that are already queued are skipped."""
        for record in records:
            self._add(record)

    def _add(self, record: Record) -> None:
        record = sendable({**record, "alert_id": record.get("alert_id") or str(uuid.uuid4())})
        if record["alert_id"] in self._known:
            return
        self._known.add(record["alert_id"])
        entry = _Entry(record, self.clock(), len(self._lanes))
        for lane in self._lanes:
            lane.add(entry)

    async def run(self) -> None:
        """Run for ever."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())
            group.create_task(self._settle_forever())

    async def flush(self) -> None:
        """At shutdown, after `run` was cancelled: post what waits, once, and mark what was delivered."""
        try:
            await asyncio.gather(*(lane.finish() for lane in self._lanes), return_exceptions=True)
            await self.settle_delivered()
        finally:
            for lane in self._lanes:
                lane.give_up()

    def finished(self, entry: _Entry) -> None:
        """One lane is done with the alert."""
        entry.lanes -= 1
        if entry.lanes:
            return
        instance = entry.record.get("instance")
        if instance is None or self.settle is None:
            self._known.discard(entry.record["alert_id"])
            return
        self._settled.setdefault(str(instance), []).append(entry.record["alert_id"])
        self._to_settle.set()

    def dropped(self, entry: _Entry) -> None:
        """Drop an alert because a lane is full. If it is stored, it will be read again from there."""
        self._known.discard(entry.record["alert_id"])

    async def _settle_forever(self) -> None:
        failures = 0
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            failures = 0 if await self.settle_delivered() else failures + 1
            if self._settled:
                await asyncio.sleep(retry_delay(max(failures, 1), random.random()))  # noqa: S311 (spreads retries)
                self._to_settle.set()

    async def settle_delivered(self) -> bool:
        """Mark what was delivered. Returns whether all of it is marked. Alerts that can't be marked stay known, so that
        they are not posted again."""
        whole = True
        for instance, ids in [(instance, tuple(ids)) for instance, ids in self._settled.items()]:
            if self.settle is None:
                break
            try:
                await self.settle(instance, ids)
            except Exception:  # noqa: BLE001 (the turns say what is wrong with the database)
                whole = False
                continue
            left = self._settled.pop(instance)[len(ids) :]
            if left:
                self._settled[instance] = left
            self._known.difference_update(ids)
        return whole


@dataclass(slots=True)
class _Lane:
    """The alerts that one receiver has not accepted yet, oldest first."""

    receiver: Receiver
    notifier: Notifier
    entries: deque[_Entry] = field(default_factory=deque)
    _dropped: int = 0
    _failures: int = 0
    _next_try: float = 0.0
    _posts: dict[tuple[Value, ...], deque[float]] = field(default_factory=dict)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _posting: asyncio.Task[bool] | None = None

    def add(self, entry: _Entry) -> None:
        if len(self.entries) >= MOST_KEPT:
            self.notifier.dropped(self.entries.popleft())
            self._dropped += 1
        self.entries.append(entry)
        self._heard.set()

    async def run(self) -> None:
        while True:
            await self._await_due()
            try:
                await self.post_waiting()
            except Exception as exc:  # noqa: BLE001 (a fault of one post ends no lane)
                self._back_off(type(exc).__name__)

    async def _await_due(self) -> None:
        while True:
            self._heard.clear()
            left = self.due() - self.notifier.clock() if self.entries else None
            if left is not None and left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._heard.wait()
            except TimeoutError:
                continue

    def due(self) -> float:
        """When the next post is sent: as soon as one cause allows it; everything that waits then goes with it."""
        now = self.notifier.clock()
        held = {entry.cause: until for entry in self.entries if (until := self._held_until(entry.cause, now)) > now}
        free = [entry.since for entry in self.entries if entry.cause not in held]
        due = min(held.values(), default=float("inf"))
        if free:
            due = min(due, min(free) + GATHER_S, max(free) + QUIET_S)
        return max(due, self._next_try)

    def _held_until(self, cause: tuple[Value, ...], now: float) -> float:
        posts = self._posts.get(cause)
        if cause[0] not in SPREADING or not posts:
            return 0.0
        while posts and posts[0] <= now - WINDOW_S:
            posts.popleft()
        return posts[-1] + HOLD_S if len(posts) >= SOON else 0.0

    async def post_waiting(self) -> bool:
        """Post what waits, once. Returns whether everything that waited was accepted. If this is cancelled, a post that
        has begun continues: the receiver may already have it, and would get it twice."""
        self._posting = asyncio.create_task(self._post())
        return await asyncio.shield(self._posting)

    async def finish(self) -> None:
        """Wait for the post that has begun, then post what still waits."""
        if self._posting is not None:
            await asyncio.gather(asyncio.shield(self._posting), return_exceptions=True)
        await self.post_waiting()

    def give_up(self) -> None:
        if self._posting is not None:
            self._posting.cancel()

    async def _post(self) -> bool:
        batch, told = tuple(self.entries), self._dropped
        if not batch:
            return True
        answer = await self.receiver.post(document([entry.record for entry in batch], told))
        self.notifier.done(answer.taken)
        if answer.again:
            self._back_off(answer.why)
            return False
        if not answer.taken:
            self._say(
                answer.why, f"{counted(len(batch) + told, 'alert')} will never reach it: correct its address or rights"
            )
        self._failures, self._next_try = 0, 0.0
        self._remove(batch, told)
        return True

    def _remove(self, batch: Sequence[_Entry], told: int) -> None:
        now = self.notifier.clock()
        pushed_out = len(batch)  # dropped in favour of newer ones while they were posted, and yet delivered
        for entry in batch:
            if self.entries and self.entries[0] is entry:
                self.entries.popleft()
                pushed_out -= 1
            self.notifier.finished(entry)
        self._dropped -= told + pushed_out
        self._posts = {cause: posts for cause, posts in self._posts.items() if posts and posts[-1] > now - WINDOW_S}
        for cause in {entry.cause for entry in batch}:
            self._posts.setdefault(cause, deque()).append(now)

    def _back_off(self, why: str) -> None:
        self._say(why, "they are sent again later")
        self._failures += 1
        wait = retry_delay(self._failures, random.random())  # noqa: S311 (spreads retries)
        self._next_try = self.notifier.clock() + wait

    def _say(self, why: str, then: str) -> None:
        named = self.receiver.option
        said = f"⚠️ a receiver of alerts ({named}) did not take them: {why}; {then}"
        self.notifier.log.warning("notify", said, error="notify_failed", receiver=named, reason=why)


def sendable(value: Any) -> Any:
    """The alert with text in valid UTF-8, as every receiver needs it: a file name may not be."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {sendable(key): sendable(item) for key, item in value.items()}
        case list() | tuple():
            return [sendable(item) for item in value]
    return value


def document(batch: Sequence[Record], dropped: int = 0) -> Record:
    """`text` for people, as Slack shows it; each alert, and each group with its count, for programs."""
    batch = sorted(batch, key=lambda record: str(record.get("timestamp", "")))  # those of an earlier run come last
    groups = _group(batch)
    told = [part for group in groups for part in _split(group)]
    lines = [_line(part) for part in told[:MOST_LINES]]
    more = sum(map(len, told[MOST_LINES:])) + dropped
    if more:
        lines.append(f"… and {more} more")
    return {
        "text": "\n".join(lines),
        "level": "info" if all(record.get("level") == "info" for record in batch) else "warning",
        "groups": [_summary(group) for group in groups],
        "alerts": [_alert(record) for record in batch],
    }


def _group(batch: Sequence[Record]) -> list[list[Record]]:
    """Alerts with one name about one cause, in the order of their first occurrence."""
    groups: dict[tuple[Value, ...], list[Record]] = {}
    for record in batch:
        groups.setdefault(_cause(record), []).append(record)
    return list(groups.values())


def _cause(record: Record) -> tuple[Value, ...]:
    """What alerts of many instances have in common: their name and their cause. All drift counts as one cause."""
    why = record.get("error") or ("" if record["alert"].startswith("drift_") else record["message"])
    return record["alert"], record.get("instance") is None, why


def _names(group: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(str(record["instance"]) for record in group if record.get("instance")))


def _split(group: list[Record]) -> list[list[Record]]:
    """Alerts with one message each, so that a line says of no instance what is true of another one; the group as it is
    if that would be many lines."""
    by_message: dict[str, list[Record]] = {}
    for record in group:
        by_message.setdefault(str(record["message"]), []).append(record)
    return list(by_message.values()) if len(by_message) <= MOST_NAMES else [group]


def _line(group: Sequence[Record]) -> str:
    """Indents further lines of a message, so that none looks like another alert. If the messages differ, it names the
    instance whose message it shows."""
    message = "\n  ".join(map(printable, str(group[-1]["message"]).split("\n")))
    names, message = _names(group), cut(message, MOST_CHARACTERS)
    if not names:
        return message
    if len(names) == 1:
        return f"{names[0]}: {message}"
    alike = all(record["message"] == group[-1]["message"] for record in group)
    example = "" if alike else f", such as {group[-1]['instance']}"
    return f"{len(names)} instances{example}: {message} ({first_of(names, MOST_NAMES)})"


def _summary(group: Sequence[Record]) -> Record:
    names = _names(group)
    found = {"alert": group[0]["alert"], "count": len(names) or 1, "instances": names, "error": group[0].get("error")}
    return {name: value for name, value in found.items() if value not in (None, [])}


def _alert(record: Record) -> Record:
    names = (
        "alert", "instance", "message", "level", "timestamp", "error", "received", "response_time_ms", "run_id",
        "commit", "alert_id",
    )  # fmt: skip
    return {name: record[name] for name in names if record.get(name) is not None}
