"""Rules for every answer and every request: security headers, a limit for bodies. Knows no route."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.model.errors import FivrecError, Interrupted
from reconciler.web.problems import build_response

MAX_BODY = 64 * 1024

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
DATA_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""JSON is not rendered: the headers for pages are left out."""

HSTS = ("Strict-Transport-Security", "max-age=31536000")


class SecurityHeaders:
    """Sets the headers on every answer, including errors."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self.app = app
        more = [HSTS] if secure else []
        self.of_pages = _raw([*HEADERS.items(), *more])
        self.of_data = _raw([*DATA_HEADERS.items(), *more])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                is_data = any(name == b"content-type" and value.endswith(b"json") for name, value in headers)
                message["headers"] = [*headers, *(self.of_data if is_data else self.of_pages)]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _raw(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


class WholeSegments:
    """Leaves a path with an escaped slash as it was sent: decoded, it would reach other routes than a proxy in front
    saw."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope.get("raw_path") or b""
        if b"%2f" in sent.lower():
            scope = {**scope, "path": sent.decode("ascii", "replace")}
        await self.app(scope, receive, send)


class CutOff:
    """Answers a call that the server's shutdown cuts off. It rolls back, and its client should try again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except asyncio.CancelledError:
            if scope["type"] != "http" or answered:
                raise
            said = "the server is stopping; what was not committed was rolled back"
            error = FivrecError(said, hint="send it again once the server is back", code=Interrupted.code)
            await build_response(error)(scope, receive, send)


class _TooLarge(Exception):
    pass


class BodyLimit:
    """Refuses bodies beyond 64 KiB, by their declared and by their actual length."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > MAX_BODY:
            await _refuse(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:
                raise _TooLarge
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLarge:
            await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = FivrecError("the body is larger than 64 KiB", code="body_too_large")
    response = build_response(error)
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
