"""Alerts posted to a receiver: Slack-compatible JSON, several alerts in one post. Never waited for, never a flood.

Only https, or http on this machine. The URL is a secret: of a webhook it is the password.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from reconciler.connect.errors import ConnectFault
from reconciler.connect.transport import PinnedTransport
from reconciler.model.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.model.types import Value
from reconciler.planning.schedule import retry_delay
from reconciler.support.asgi_server import is_loopback
from reconciler.support.lean_httpx import httpx
from reconciler.support.log import EventLog

GATHER_S = 1.0
POST_S = 10.0
MOST_LINES = 20
MOST_KEPT = 500
_AGAIN = frozenset({408, 429})


def check_url(url: str) -> Secret:
    """The URL of a receiver. UsageError where alerts would travel in the open."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = parts.port != 0 and parts.netloc.count("@") < 2  # noqa: PLR2004 (a password's own @ is %40)
        usable = usable and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
    except ValueError:  # its words quote what may be a password
        usable, host = False, ""
    if not host or not usable:
        raise UsageError("--notify-url is not an https:// URL", hint="http:// is for this machine alone")
    return Secret(url)


@dataclass(slots=True)
class Notifier:
    """`hear` is a listener of the log; `run` posts what it heard. `done` is told of each post."""

    url: Secret
    transport: PinnedTransport
    log: EventLog
    done: Callable[[bool], None] = lambda _: None
    _waiting: deque[dict[str, Value]] = field(default_factory=deque)
    _dropped: int = 0
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, record: dict[str, Value]) -> None:
        if "alert" not in record:
            return
        if len(self._waiting) >= MOST_KEPT:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(record)
        self._heard.set()

    async def run(self) -> None:
        """For ever. Alerts that come together go together; a receiver that fails is tried again, later and later."""
        failures = 0
        while True:
            await self._heard.wait()
            await asyncio.sleep(GATHER_S if failures == 0 else retry_delay(failures, random.random()))  # noqa: S311
            failures = 0 if await self.post_waiting() else failures + 1

    async def post_waiting(self) -> bool:
        """Post what waits, once. Whether nothing waits any more."""
        batch = tuple(self._waiting)
        told = self._dropped
        if not batch:
            return True
        taken, again = await self._post(batch)
        self.done(taken)
        if taken or not again:
            pushed_out = len(batch)  # by newer ones while they were posted, and yet they were posted
            for record in batch:
                if self._waiting and self._waiting[0] is record:
                    self._waiting.popleft()
                    pushed_out -= 1
            self._dropped -= told + pushed_out
        if not self._waiting:
            self._heard.clear()
        return taken or not again

    async def _post(self, batch: Sequence[dict[str, Value]]) -> tuple[bool, bool]:
        """Whether it was taken, and whether it is worth another try."""
        # A client of its own for each post: no cookie and no connection is left.
        async with httpx.AsyncClient(transport=_Lent(self.transport), timeout=None, trust_env=False) as client:
            try:
                async with asyncio.timeout(POST_S):
                    answer = await client.post(self.url.reveal(), json=document(batch, self._dropped))
            except TimeoutError:
                return self._failed(f"no answer within {POST_S:g} s", again=True)
            except (ConnectFault, httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
                return self._failed(type(exc).__name__, again=True)
        if answer.is_success:
            return True, False
        again = answer.status_code in _AGAIN or answer.is_server_error
        return self._failed(f"it answered {answer.status_code}", again=again)

    def _failed(self, why: str, *, again: bool) -> tuple[bool, bool]:
        then = "they are sent again later" if again else "they are not sent again"
        self.log.warning("notify", f"⚠️ --notify-url did not take alerts ({why}); {then}", error="notify_failed")
        return False, again


class _Lent(httpx.AsyncBaseTransport):
    """A transport that is shared: a client that ends does not close it."""

    def __init__(self, transport: PinnedTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


def document(batch: Sequence[dict[str, Value]], dropped: int = 0) -> dict[str, Value]:
    """`text` for people, as Slack shows it, and each alert for programs."""
    lines = [_line(record) for record in batch[:MOST_LINES]]
    more = len(batch) - len(lines) + dropped
    if more:
        lines.append(f"… and {more} more")
    return {"text": "\n".join(lines), "alerts": [_alert(record) for record in batch]}


def _line(record: dict[str, Value]) -> str:
    return f"{record['instance']}: {record['message']}" if record.get("instance") else str(record["message"])


def _alert(record: dict[str, Value]) -> dict[str, Value]:
    names = ("alert", "instance", "message", "level", "timestamp", "error", "received")
    return {name: record[name] for name in names if record.get(name) is not None}
