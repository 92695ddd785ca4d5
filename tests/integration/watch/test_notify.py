"""Alerts to a receiver: none is lost without being counted."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from typing import Any

from reconciler.connect.transport import PinnedTransport
from reconciler.support.log import EventLog
from reconciler.watch.notify import MOST_KEPT, MOST_LINES, Notifier, check_url


class SlowReceiver:
    """Answers a post when it is let; `posts` are the documents."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.let = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        self.posts.append(json.loads(await reader.readexactly(length)))
        self.came.set()
        await self.let.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def test_alerts_dropped_during_a_post_are_counted_in_the_next() -> None:
    receiver = SlowReceiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = PinnedTransport(ssl.create_default_context)
    notifier = Notifier(check_url(f"http://127.0.0.1:{port}/hook"), transport, EventLog(stream=io.StringIO()))
    for number in range(10):
        notifier.hear({"alert": "suspended", "instance": f"a{number}", "message": "x"})
    posting = asyncio.create_task(notifier.post_waiting())
    await receiver.came.wait()
    for number in range(MOST_KEPT + 25):  # 10 of the first post's and 25 of these have to go
        notifier.hear({"alert": "suspended", "instance": f"b{number}", "message": "x"})
    receiver.let.set()
    assert await posting
    assert await notifier.post_waiting()
    first, second = receiver.posts
    assert (len(first["alerts"]), len(second["alerts"])) == (10, MOST_KEPT)
    assert second["alerts"][0]["instance"] == "b25"
    assert second["text"].endswith(f"… and {MOST_KEPT - MOST_LINES + 25} more")
    assert await notifier.post_waiting()
    assert len(receiver.posts) == 2
    server.close()
