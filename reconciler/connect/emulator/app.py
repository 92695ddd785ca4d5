"""The emulator as an ASGI application: reads the request, calls `responses`, counts usage reports, sends the answer."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from reconciler.connect.emulator.responses import Answer, Request, answer
from reconciler.connect.emulator.state import EmulatorState
from reconciler.connect.emulator.state_file import StateFile
from reconciler.model.errors import FivrecError

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY = 1024 * 1024


def build_app(file: StateFile) -> App:
    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the emulator answers HTTP, not {scope['type']}")
        body = await _read_body(receive)
        if body is None:
            found = Answer(413, b'{"error": "The body is larger than 1 MiB"}')
        else:
            try:
                found = answer(_request(scope, body), file.read())
            except FivrecError as exc:
                found = Answer(503, json.dumps({"error": exc.message}).encode())
        if found.delay_s:
            await asyncio.sleep(found.delay_s)
        if found.report is not None:
            _count(file, *found.report)
        await _send(found, send)

    return app


async def _read_body(receive: Receive) -> bytes | None:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _request(scope: MutableMapping[str, Any], body: bytes) -> Request:
    # UTF-8, as the client sends a key; invalid UTF-8 matches no key.
    headers = {name.decode("latin-1").lower(): value.decode("utf-8", "replace") for name, value in scope["headers"]}
    path = scope.get("raw_path") or scope["path"].encode()
    return Request(scope["method"], path.decode("latin-1").partition("?")[0], headers, body)


def _count(file: StateFile, name: str, idempotency_key: str, report: Mapping[str, Any]) -> None:
    """Without an Idempotency-Key every report counts: nothing says that it is a repeat."""
    key = idempotency_key or secrets.token_urlsafe(16)

    def count(state: EmulatorState) -> EmulatorState:
        instance = state.instances.get(name)
        return state if instance is None else state.with_instance(name, instance.count_report(key, report))

    file.update(count)


async def _send(found: Answer, send: Send) -> None:
    headers = {"Content-Type": found.content_type, "Content-Length": str(len(found.body)), **found.headers}
    await send(
        {
            "type": "http.response.start",
            "status": found.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": found.body})
