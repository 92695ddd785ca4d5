"""/healthz, /readyz and /metrics as a small ASGI application. Knows only three functions of the loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

from reconciler.model.records import dataclass

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Health:
    """The first two return None if all is well, otherwise the reason; `metrics` returns the page and its content
    type."""

    alive: Callable[[], str | None]
    ready: Callable[[], str | None]
    metrics: Callable[[], tuple[bytes, str]]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        if scope["type"] != "http":
            return
        status, body, kind = self._answer(scope["method"], scope["path"])
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, method: str, path: str) -> tuple[int, bytes, str]:
        if method not in ("GET", "HEAD"):
            return 405, b"only GET and HEAD\n", _TEXT
        match path:
            case "/healthz":
                return _verdict(self.alive())
            case "/readyz":
                return _verdict(self.ready())
            case "/metrics":
                page, kind = self.metrics()
                return 200, page, kind
            case _:
                return 404, b"/healthz, /readyz and /metrics are here\n", _TEXT


def _verdict(trouble: str | None) -> tuple[int, bytes, str]:
    return (200, b"ok\n", _TEXT) if trouble is None else (503, f"{trouble}\n".encode(), _TEXT)


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send READY=1, WATCHDOG=1, STOPPING=1 or STATUS=… to systemd. It is not an error if no manager listens."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    name = "\0" + address[1:] if address.startswith("@") else address  # @ stands for Linux's abstract sockets
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(0)
        channel.sendto(state.encode(), name)


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between notifications to systemd's watchdog, half the limit as sd_watchdog_enabled(3) advises; None if it
    does not expect any."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
