"""Live updates: one periodic look at each watched database, shared by all its watchers, sent as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import field

from starlette.requests import Request
from starlette.responses import StreamingResponse

from reconciler.engine.run import Run
from reconciler.model.errors import FivrecError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.support.acceptor import connection_limit
from reconciler.support.cancellation import end_task
from reconciler.support.places import ask_each
from reconciler.web.operations import read_mark

POLL_S = 1.5
LIFE_S = 300
"""Seconds after which a stream ends; the browser opens the next one, and its session is checked again."""

_AT_ONCE = 4
_PING_S = 15
SESSION_LOOK_S = 5.0
"""Seconds between checks whether a stream's session is still valid: signed out, demoted, new password."""

_UNREADABLE = "unreadable"
_CHANGE = b"event: change\ndata: {}\n\n"


async def _always() -> bool:
    return True


@dataclass(eq=False, slots=True)
class Watcher:
    """A reader who waits for news of these instances, in the session with this id."""

    instances: frozenset[str]
    session: str = ""
    ended: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self.ended = True
        self.news.set()


@dataclass(slots=True)
class Live:
    """Looks only while somebody watches, and only at what is watched. `most`: streams at once; the other half of the
    connections is for pages and calls."""

    run: Run
    instances: Mapping[str, Desired]
    most: int = field(default_factory=lambda: connection_limit() // 2)
    _watchers: dict[Watcher, None] = field(default_factory=dict)
    _marks: dict[str, str] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def look_first(self, instances: frozenset[str]) -> None:
        """Remember the current state, before the stream begins, so that later changes are found."""
        unknown = sorted(instances - self._marks.keys())
        for name, mark in zip(unknown, await ask_each(unknown, self._mark, _AT_ONCE), strict=True):
            self._marks.setdefault(name, mark)  # keep a state that another look found meanwhile

    def stream(
        self, request: Request, instances: frozenset[str], *, session: str, counts: Callable[[], Awaitable[bool]]
    ) -> StreamingResponse:
        """The answer to a browser that requests `events`, for the first time or again."""
        again = "last-event-id" in request.headers
        events = self.events(instances, again=again, session=session, counts=counts)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would buffer 4 KiB
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def events(
        self,
        instances: frozenset[str],
        *,
        again: bool = False,
        session: str = "",
        counts: Callable[[], Awaitable[bool]] = _always,
    ) -> AsyncIterator[bytes]:
        """The stream's text. `change` tells the browser to reload the page; comments keep the connection open.

        `again`: the browser had a stream before. Nobody looked in between, so its page counts as changed. The stream
        ends when `counts` says that the session is over, or when `end` names it; nothing is sent after that.
        """
        watcher = Watcher(instances, session)
        self._watchers[watcher] = None
        self._make_room()
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            yield b"retry: 2000\nid: 1\n\n"  # with an id, the browser's next request has Last-Event-ID
            if again:
                yield _CHANGE
            async for text in self._news(watcher, counts):
                yield text
        finally:
            del self._watchers[watcher]

    async def _news(self, watcher: Watcher, counts: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        until, pinged = clock() + LIFE_S, clock()
        while clock() < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watcher.news.wait(), SESSION_LOOK_S)
            if self._stopping.is_set() or watcher.ended or not await counts():
                return
            if watcher.news.is_set():
                watcher.news.clear()
                yield _CHANGE
            elif clock() - pinged >= _PING_S:
                pinged = clock()
                yield b": still here\n\n"

    def _make_room(self) -> None:
        """If there are too many streams, end the oldest one of the instances that have the most, so that none excludes
        others."""
        going_on = [watcher for watcher in self._watchers if not watcher.ended]
        if len(going_on) > self.most:
            ((crowd, _),) = Counter(watcher.instances for watcher in going_on).most_common(1)
            next(watcher for watcher in going_on if watcher.instances == crowd).end()

    def end(self, session: str) -> None:
        """End the streams of a session that was signed out."""
        for watcher in self._watchers:
            if watcher.session == session:
                watcher.end()

    def stop(self) -> None:
        """End all streams: the server stops."""
        self._stopping.set()
        for watcher in self._watchers:
            watcher.news.set()

    async def aclose(self) -> None:
        if self._task is not None:
            await end_task(self._task)

    async def _look(self) -> None:
        try:
            while self._watchers:
                await self._tell()
                await asyncio.sleep(POLL_S)
        finally:
            self._task = None  # the next reader starts it again
            self._marks.clear()

    async def _tell(self) -> None:
        """Look once at everything that is watched, and notify the watchers."""
        wanted = sorted({name for watcher in self._watchers for name in watcher.instances})
        changed = await ask_each(wanted, self._changed, _AT_ONCE)
        news = {name for name, differs in zip(wanted, changed, strict=True) if differs}
        for watcher in self._watchers:
            if watcher.instances & news:
                watcher.news.set()

    async def _changed(self, name: str) -> bool:
        mark = await self._mark(name)
        known = self._marks.get(name)
        self._marks[name] = mark
        return known is not None and known != mark

    async def _mark(self, name: str) -> str:
        try:
            desired = self.instances.get(name)
            return _UNREADABLE if desired is None else await read_mark(desired, self.run)
        except FivrecError:
            return _UNREADABLE
