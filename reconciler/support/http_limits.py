"""One HTTP connection with time limits: for a request's head, its body, and an unread answer. Over uvicorn's h11.

uvicorn limits none of these: a client that sends half a head keeps a connection, and with it a file, for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
BODY_S = 30.0
UNREAD_S = 30.0
_LAST_WORDS_S = 1.0
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class LimitedProtocol(H11Protocol):
    """`waiting_since`: since when we have been waiting only for the client; None while a request is answered.

    A connection beyond the server's limit gets an answer only for /healthz (`set_spare`).
    """

    waiting_since: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _part = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # a transport of a socket, as asyncio makes it
        self.app = _with_one_length(self.app)
        self.waiting_since = self.loop.time()
        self._limit("head", HEAD_S)

    def set_spare(self) -> None:
        whole = self.app

        async def narrowed(scope: Any, receive: Any, send: Any) -> None:
            await (whole if scope.get("path") == "/healthz" else only_health)(scope, receive, send)

        self.app = narrowed

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def handle_events(self) -> None:
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.our_state is h11.IDLE:  # uvicorn's own timer waits for the next request's first byte
            self.waiting_since = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit("", 0)
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Set the limit for the part of the request that is still to come, by h11's states."""
        match self.conn.their_state:
            case h11.IDLE:
                begun = self.timeout_keep_alive_task is None
                self._limit(*(("head", HEAD_S) if begun else ("", 0)))
            case h11.SEND_BODY:
                if self._part != "body":
                    self.waiting_since = self.loop.time()
                self._limit("body", BODY_S)
            case _:
                self.waiting_since = None
                self._limit("", 0)

    def _limit(self, part: str, seconds: float) -> None:
        """Set the limit for a part. One that we are already waiting for keeps its limit: a byte now and then does not
        extend it."""
        if part == self._part:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._part = part
        self._timer = self.loop.call_later(seconds, self._time_out) if part else None

    def _time_out(self) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_TIMED_OUT)
        self.transport.close()
        self.loop.call_later(_LAST_WORDS_S, self.transport.abort)  # TLS would wait for the client's goodbye


def _with_one_length(app: Any) -> Any:
    """Refuse a request that states its length in two ways, and end its connection: a proxy in front may see its end
    somewhere else, and take the rest for somebody else's request (RFC 9112, 6.1)."""

    async def checked(scope: Any, receive: Any, send: Any) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        await (refuse_length if {b"content-length", b"transfer-encoding"} <= names else app)(scope, receive, send)

    return checked


async def refuse_length(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI's signature)
    await _end(send, 400)


async def only_health(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI's signature)
    """Answers all other requests on a spare connection."""
    await _end(send, 503, (b"retry-after", b"5"))


async def _end(send: Any, status: int, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-length", b"0"), *more, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
