"""The access log: one event per request, with the route's template. Never logs the path as sent, query or body: they
may contain secrets. A failed login is a warning that ends with the address, for fail2ban."""

from __future__ import annotations

import time
import uuid
from dataclasses import field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.model.records import dataclass
from reconciler.support.log import EventLog, Level

_QUIET = frozenset({"/healthz", "/static/{name}", "/events"})


@dataclass(slots=True)
class Facts:
    """What is known of one request. `id` is also the id of its run, so that audit rows can be found by it."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    route: str | None = None
    instance: str | None = None
    actor: str | None = None
    login_failed: bool = False


def facts_of(request: Request) -> Facts:
    """The details of this request; an unused object if the application runs without AccessLog."""
    found = request.scope.get("fivrec.facts")
    return found if isinstance(found, Facts) else Facts()


def address_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


class AccessLog:
    """Writes the events, and the header X-Request-Id."""

    def __init__(self, app: ASGIApp, *, log: EventLog) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        facts, began, status = Facts(), time.monotonic(), 500
        scope["fivrec.facts"] = facts

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", facts.id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self._write(scope, facts, status, round((time.monotonic() - began) * 1000))

    def _write(self, scope: Scope, facts: Facts, status: int, took_ms: int) -> None:
        client = scope.get("client")
        address = client[0] if client else "unknown"
        route = facts.route or getattr(scope.get("route"), "path", None)  # also with another method
        words = f"{scope['method']} {route or '(no route)'} {status} {took_ms} ms"
        level = Level.DEBUG if route in _QUIET else Level.INFO
        if facts.login_failed:
            level, words = Level.WARNING, f"🔐 {words}: login failed from {address}"
        self.log.event(
            level,
            "request",
            words,
            instance=facts.instance,
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=took_ms,
            actor=facts.actor,
            request_id=facts.id,
            address=address,
            success=status < 400,  # noqa: PLR2004 (the first status of a failure)
        )
