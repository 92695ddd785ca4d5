"""Receivers of alerts: a webhook that accepts JSON, or any service that Apprise knows. One post at a time, no retries.

A receiver's URL is a secret: for a webhook it works as the password.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from reconciler import __version__
from reconciler.connect.errors import ConnectFault
from reconciler.connect.exchange import Request, Response
from reconciler.connect.transport import PinnedTransport
from reconciler.model.errors import MissingSetting, UsageError, extra_hint
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Value
from reconciler.support.asgi_server import is_loopback
from reconciler.support.lean_httpx import httpx
from reconciler.support.network import USUAL_PORTS, Endpoint

POST_S = 10.0
MOST_READ = 64 * 1024
_STRUCTURE = late(r"(?<!\w)@(?=(?:all|channel|everyone|group|here)\b)|\](?=[(:\[])", re.IGNORECASE)
"""What notifies everybody, or makes a link in Markdown (`[…](https://…)`), which Mattermost, Teams and others show."""
_AGAIN = frozenset({408, 425, 429})
_UNREACHABLE = "Fi.V Connect can't be reached: "


@dataclass(frozen=True, slots=True)
class Answer:
    """`again`: another try may help. `why` says what went wrong, and contains nothing of the URL but its host."""

    taken: bool
    again: bool = False
    why: str = ""


class Receiver(Protocol):
    """`option` is the option that named it, with its number if there are several, as messages show it."""

    @property
    def option(self) -> str: ...

    async def post(self, document: dict[str, Value]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """Posts JSON with a `text` as Slack shows it. Only https, or http on this machine."""

    url: Secret
    transport: PinnedTransport
    option: str = "--notify-url"

    async def post(self, document: dict[str, Value]) -> Answer:
        try:
            return await self._posted(document)
        except TimeoutError:
            return Answer(taken=False, again=True, why=f"no answer within {POST_S:g} s")
        except ConnectFault as fault:
            return Answer(taken=False, again=True, why=describe_fault(fault))

    async def _posted(self, document: dict[str, Value]) -> Answer:
        """The status decides, whatever happens to the body."""
        deadline = asyncio.get_running_loop().time() + POST_S
        async with asyncio.timeout_at(deadline):
            answer = await self.transport.send(build_request(self.url, document))
        try:
            with suppress(TimeoutError, ConnectFault):
                async with asyncio.timeout_at(deadline):
                    await _read_some(answer)
        finally:
            answer.end()
        status = answer.status
        if status // 100 == 2:  # noqa: PLR2004 (any success)
            return Answer(taken=True)
        where = " (a redirect, which is not followed)" if status // 100 == 3 else ""  # noqa: PLR2004
        return Answer(taken=False, again=status in _AGAIN or status >= 500, why=f"it answered {status}{where}")  # noqa: PLR2004 (the server's own faults)


def build_request(hook: Secret, document: dict[str, Value]) -> Request:
    """The post over a connection of its own: on a kept one, its answer may be a late one to the post before."""
    url = httpx.URL(hook.reveal())
    asked = httpx.Request("POST", url, json=for_slack(document))
    headers = [*asked.headers.raw, (b"User-Agent", f"fivrec/{__version__}".encode()), (b"Connection", b"close")]
    if url.userinfo:
        pair = f"{url.username}:{url.password}".encode()
        headers.append((b"Authorization", b"Basic " + base64.b64encode(pair)))
    endpoint = Endpoint(url.scheme, url.raw_host.decode("ascii"), url.port or USUAL_PORTS[url.scheme])
    return Request("POST", endpoint, url.raw_path, headers, asked.content, fresh=True)


def _inert(text: str) -> str:
    return _STRUCTURE.sub(lambda found: f"{found[0]}\u200b", text)


def for_slack(document: dict[str, Value]) -> dict[str, Value]:
    """Escape names in the `text`, which any role of a database may choose: they must not notify anybody (`<!channel>`,
    `@here`) or become links (`<https://…|…>`)."""
    text = str(document["text"]).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {**document, "text": _inert(text)}


async def _read_some(answer: Response) -> None:
    """Read the body to its end, but no more than MOST_READ of it."""
    read = 0
    async for chunk in answer.parts:
        read += len(chunk)
        if read > MOST_READ:
            return


def describe_fault(fault: ConnectFault) -> str:
    """Why a post did not reach its receiver, worded for a receiver: the transport is shared with Connect's client."""
    match fault.code:
        case "connect_unreachable":
            return fault.message.removeprefix(_UNREACHABLE)
        case "connect_tls":
            return fault.message
        case "connect_address_refused":
            return "its name leads to an address that is never used"
        case "connect_proxy":
            return "the proxy (HTTPS_PROXY) opens no connection to it"
        case _:
            return "its answer is not HTTP/1.1"


class AppriseReceiver:
    """A service that Apprise knows: Slack, Teams, PagerDuty, mail and others (extra `notify`)."""

    def __init__(self, url: Secret, option: str = "--notify") -> None:
        self.option = option
        apprise = _import_apprise()
        self._service = apprise.Apprise()
        if not self._service.add(url.reveal()):
            raise UsageError("--notify is not a URL that Apprise knows", hint="see https://appriseit.com/services/")
        self._types = apprise.NotifyType

    async def post(self, document: dict[str, Value]) -> Answer:
        text = str(document["text"])
        kind = self._types.WARNING if document.get("level") != "info" else self._types.INFO
        said = {"body": _inert(text), "title": "fivrec", "notify_type": kind, "body_format": "text"}
        try:
            async with asyncio.timeout(POST_S):
                taken = await asyncio.to_thread(self._service.notify, **said)
        except TimeoutError:
            return Answer(taken=False, again=True, why=f"not sent within {POST_S:g} s")
        except Exception as exc:  # noqa: BLE001 (a plug-in's fault; its text may hold the URL)
            return Answer(taken=False, again=True, why=f"{type(exc).__name__} in Apprise")
        return Answer(taken=True) if taken else Answer(taken=False, again=True, why="Apprise could not send it")


def _import_apprise() -> Any:
    try:
        import apprise
    except ImportError:
        raise MissingSetting("--notify needs the package apprise", hint=extra_hint("notify")) from None
    quiet = logging.getLogger("apprise")  # its warnings contain URLs, and are not events
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    return apprise


def check_url(url: str) -> Secret:
    """Check the URL of a webhook. Raises UsageError if alerts would be sent unencrypted, or could not be posted at
    all."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = parts.port != 0 and parts.netloc.count("@") < 2  # noqa: PLR2004 (a password's own @ is %40)
        usable = usable and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
        usable = usable and not any(character.isspace() for character in url) and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):  # its messages quote what may be a password
        usable, host = False, ""
    if not host or not usable:
        raise UsageError("--notify-url is not an https:// URL", hint="http:// is for this machine alone")
    return Secret(url)
