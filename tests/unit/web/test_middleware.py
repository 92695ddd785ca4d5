"""middleware: headers on every answer, and bodies that are too large."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web.middleware import MAX_BODY, BodyLimit, CutOff, SecurityHeaders, WholeSegments

DATA = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
PAGE = {
    **DATA,
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
HSTS = {"strict-transport-security": "max-age=31536000"}


def answer_of(app: ASGIApp, *parts: bytes, **scope: object) -> tuple[int, dict[str, str]]:
    """Calls the application with a body in these parts."""
    sent: list[Message] = []
    left = list(parts or (b"",))

    async def receive() -> Message:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "headers": [], "method": "POST", **scope}, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("response", "own"),
    [(PlainTextResponse("x", 500), PAGE), (JSONResponse({}), DATA), (JSONResponse({}, media_type="a/b+json"), DATA)],
)
def test_every_answer_has_its_security_headers(response: Response, own: dict[str, str], secure: bool) -> None:
    _, headers = answer_of(SecurityHeaders(response, secure=secure))
    found = {name: value for name, value in headers.items() if name not in ("content-type", "content-length")}
    assert found == {**own, **(HSTS if secure else {})}


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await PlainTextResponse("read")(scope, receive, send)


@pytest.mark.parametrize(
    ("parts", "said", "status"),
    [
        ((b"x" * MAX_BODY,), MAX_BODY, 200),
        ((b"",), MAX_BODY + 1, 413),
        ((b"x" * MAX_BODY, b"x"), None, 413),
        ((b"x" * MAX_BODY, b"x"), 1, 413),
    ],
)
def test_a_body_is_limited_by_what_it_says_and_by_what_it_has(
    parts: tuple[bytes, ...], said: int | None, status: int
) -> None:
    headers = [] if said is None else [(b"content-length", b"%d" % said)]
    assert answer_of(BodyLimit(read_all), *parts, headers=headers)[0] == status


@pytest.mark.parametrize(
    ("sent", "seen"),
    [(b"/i/a%2Fapi", "/i/a%2Fapi"), (b"/i/a%2fapi", "/i/a%2fapi"), (b"/i/a%20b", "decoded"), (b"", "decoded")],
)
def test_an_escaped_slash_stays_escaped(sent: bytes, seen: str) -> None:
    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(headers={"x-path": scope["path"]})(scope, receive, send)

    assert answer_of(WholeSegments(show), path="decoded", raw_path=sent)[1]["x-path"] == seen


@pytest.mark.parametrize("answered", [False, True])
def test_a_call_that_is_cut_off_is_answered_once(answered: bool) -> None:
    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await PlainTextResponse("done")(scope, receive, send)
        raise asyncio.CancelledError

    if answered:
        with pytest.raises(asyncio.CancelledError):
            answer_of(CutOff(cut))
    else:
        assert answer_of(CutOff(cut))[0] == 503
