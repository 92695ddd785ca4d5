"""The proxy for a request to Fi.V Connect (HTTPS_PROXY, NO_PROXY), and the tunnel that it opens.

Loopback is never reached through a proxy, and http:// is allowed for loopback only. Credentials are never shown.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

import h11

from reconciler.connect.errors import ConnectFault, proxy_fault
from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.network import USUAL_PORTS, Endpoint, is_loopback, parse_address

VARIABLE = "HTTPS_PROXY"
_HEAD_LIMIT = 16 * 1024
_CHUNK = 4096
_HINT = f"set {VARIABLE} to http://HOST:PORT or https://HOST:PORT, or name Connect's host in NO_PROXY"


@dataclass(frozen=True, slots=True)
class Proxy:
    """`credentials` are the value of Proxy-Authorization."""

    endpoint: Endpoint
    credentials: Secret | None = None

    @property
    def place(self) -> str:
        return f"the proxy {self.endpoint.host}:{self.endpoint.port}"


def find_proxy(endpoint: Endpoint, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for this endpoint; None if it is reached directly. Raises MissingSetting if the variable can't be
    used."""
    url = environ.get(VARIABLE.lower()) or environ.get(VARIABLE) or ""
    if endpoint.scheme != "https" or not url.strip() or _is_local(endpoint.host):
        return None
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_names(word.lower(), endpoint) for word in exempt.replace(",", " ").split()):
        return None
    return _parse(url.strip())


def _parse(url: str) -> Proxy:
    scheme = url.partition("://")[0].lower() if "://" in url else "http"
    if scheme not in USUAL_PORTS:
        named = f"a {scheme} proxy" if scheme.isalnum() and len(scheme) < 10 else "no URL"  # noqa: PLR2004 (a word)
        raise MissingSetting(f"{VARIABLE} names {named}, which fivrec can't use", hint=_HINT, code="connect_proxy")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not host.isascii() or not host.isprintable() or " " in host or port == 0:
        raise MissingSetting(f"{VARIABLE} is not the URL of a proxy", hint=_HINT, code="connect_proxy")
    user = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        user = Secret("Basic " + base64.b64encode(pair).decode())
    return Proxy(Endpoint(scheme, host, port or USUAL_PORTS[scheme]), user)


def _is_local(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = parse_address(host)
    return address is not None and is_loopback(address)


def _names(word: str, endpoint: Endpoint) -> bool:
    """Whether a word of NO_PROXY names the endpoint, as curl reads it: a name with its subdomains, an address, a
    network, or `*`; each may have a port."""
    host = endpoint.host.rstrip(".").lower()
    if word == "*":
        return True
    try:
        return ip_address(host) in ip_network(word.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, port = word.rpartition(":")
    if colon and port.isdigit():
        if int(port) != endpoint.port:
            return False
        word = name
    word = word.strip("[]").removeprefix("*").strip(".")
    return bool(word) and (host == word or host.endswith(f".{word}"))


async def open_tunnel(
    proxy: Proxy, target: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Ask the proxy for a connection to the target. Raises ConnectFault `connect_proxy` if it refuses."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    authority = f"{host}:{target.port}".encode()
    headers = [(b"Host", authority)]
    if proxy.credentials is not None:
        headers.append((b"Proxy-Authorization", proxy.credentials.reveal().encode()))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
    writer.write(http.send(h11.Request(method=b"CONNECT", target=authority, headers=headers)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    answer = await _head(http, proxy, reader)
    if answer.status_code == 407:  # noqa: PLR2004 (RFC 9110, 15.5.8)
        wanted = "refuses the login" if proxy.credentials else "wants a user and a password"
        raise proxy_fault(proxy.place, f"it answered 407: it {wanted} in {VARIABLE}")
    if answer.status_code // 100 != 2:  # noqa: PLR2004 (any success opens the tunnel: RFC 9110, 9.3.6)
        raise proxy_fault(proxy.place, f"it answered {answer.status_code}", passing=answer.status_code >= 500)  # noqa: PLR2004 (the server's own faults)
    if http.trailing_data[0]:
        raise proxy_fault(proxy.place, "it sent more than its answer")


async def _head(http: h11.Connection, proxy: Proxy, reader: asyncio.StreamReader) -> h11.Response:
    try:
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    received = await reader.read(_CHUNK)
                    if not received:
                        raise _closed(proxy)
                    http.receive_data(received)
                case h11.Response() as answer:
                    return answer
                case h11.InformationalResponse():
                    pass
                case _:
                    raise _closed(proxy)
    except h11.RemoteProtocolError:
        # Without `from`: h11 quotes what it received.
        raise proxy_fault(proxy.place, "its answer is not HTTP/1.1") from None


def _closed(proxy: Proxy) -> ConnectFault:
    return proxy_fault(proxy.place, "it closed the connection", passing=True)
