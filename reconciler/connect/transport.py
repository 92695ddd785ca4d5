"""The connections to Fi.V Connect: HTTP/1.1 over exactly the address that was checked.

httpx's own transport resolves a name itself, so a name server that changes its answer could lead it past the check; it
also costs 50 ms of imports. This one resolves, checks, connects to the checked address with the name kept for TLS and
Host, and keeps connections for the next request, whichever instance sends it. A connection that sent more than was
asked for is closed: h11 would take the rest as the answer to the next request. Deadlines are the caller's.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import SupportsIndex

import h11

from reconciler.connect.echo import KeyWatch
from reconciler.connect.errors import (
    PROXY_HINT,
    ConnectFault,
    invalid_answer,
    network_fault,
    refused_address,
    unreachable,
)
from reconciler.connect.exchange import Request, Response
from reconciler.connect.proxy import Proxy, find_proxy, open_tunnel
from reconciler.connect.trust import Context, Trust, WiderTrust
from reconciler.support.name_lookup import resolve_host
from reconciler.support.network import Endpoint, address_problem, is_loopback, parse_address

_CHUNK = 16 * 1024
_HEADER_LIMIT = 64 * 1024
_NEXT_ADDRESS_S = 3.0
_LIFE_S = 30.0  # a Connect that moved is found at its new address, even while the old one still answers
_SILENT_S = 8.0  # a kept connection may have silently lost its other end; this leaves time for a new one
_IDLE_CONNECTIONS = 32
_TLS_BUFFER = 64 * 1024
_REST_S = 0.025  # unrequested data after an answer should be seen before the next request is sent


# asyncio writes 256 KiB of zeros for each TLS connection; a single read takes no more than _CHUNK.
sslproto.SSLProtocol.max_size = min(sslproto.SSLProtocol.max_size, _TLS_BUFFER)


class PinnedTransport:
    """Shared by all clients of a run. `said` is called once with each proxy that is used. `beside`: a second trust that
    is in use as well."""

    def __init__(
        self,
        ca_file: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        said: Callable[[str], None] = lambda _: None,
        beside: Trust | WiderTrust | None = None,
    ) -> None:
        self._trust = Trust(ca_file, self._forget) if beside is None else WiderTrust(beside, self._forget)
        self._environ = environ
        self._said = said
        self._named: set[str] = set()
        self._idle: dict[Endpoint, list[_Connection]] = {}
        self._noisy: set[Endpoint] = set()

    def for_others(self) -> PinnedTransport:
        """A transport for servers other than Connect: `ca_file` adds to the system's CAs instead of replacing them."""
        return PinnedTransport(environ=self._environ, said=self._said, beside=self._trust)

    async def send(self, request: Request) -> Response:
        """Returns the head of the answer; its `end` gives the connection back. Raises ConnectFault."""
        loop = asyncio.get_running_loop()
        endpoint, line, request.proxy = request.endpoint, request.line, ""
        began = loop.time()
        kept = None
        if request.fresh:
            self._make_room(endpoint)
        else:
            kept = (line and line.take()) or await self._take(endpoint)
        request.rested_s = loop.time() - began
        request.shared = kept is not None
        if kept is not None:
            try:
                async with asyncio.timeout(_SILENT_S):
                    return self._response(kept, await kept.ask(request), line)
            except (_StaleError, TimeoutError):
                pass  # closed, or silent: there was no answer, so a fresh connection may be tried
        request.shared = False
        connection = await self._connect(request)
        try:
            return self._response(connection, await connection.ask(request), line)
        except _StaleError:
            raise unreachable(f"{connection.place} closed the connection before it answered") from None

    def has_kept(self, endpoint: Endpoint | None) -> bool:
        """Whether an idle connection to that server exists."""
        return endpoint is not None and bool(self._idle.get(endpoint))

    def _response(self, connection: _Connection, head: h11.Response, line: Line | None) -> Response:
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in head.headers}:
            connection.close()  # readers differ on where it ends (RFC 9112, 6.3)
            raise invalid_answer("it states its length in two ways")
        end = partial(self._keep, connection, line)
        return Response(head.status_code, list(head.headers), connection.body(), end, connection.trailers, connection)

    def _make_room(self, endpoint: Endpoint) -> None:
        """A new connection replaces a kept one, so that there are never more than asked for."""
        if kept := self._idle.get(endpoint):
            self._drop(kept.pop(0))

    async def _take(self, endpoint: Endpoint) -> _Connection | None:
        """The connection that has been idle longest: unrequested data had time to arrive."""
        if endpoint.scheme == "https":
            self._trust.refresh()
        kept = self._idle.get(endpoint, [])
        while kept:
            connection = kept.pop(0)
            await asyncio.sleep(connection.rest_left())  # at least one round of the loop
            if connection.is_usable():
                return connection
            self._drop(connection)
        return None

    def _keep(self, connection: _Connection, line: Line | None) -> None:
        connection.keep_session()
        if not connection.renew():
            self._drop(connection)
        elif line is not None:
            line.keep(connection, self._put_back)
        else:
            self._put_back(connection)

    def _put_back(self, connection: _Connection) -> None:
        kept = self._idle.setdefault(connection.endpoint, [])
        noisy = connection.endpoint in self._noisy
        if connection.is_usable() and not noisy and len(kept) < _IDLE_CONNECTIONS:
            kept.append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        """Close the connection. A server that sent too much may do so again, too late to be noticed: none of its
        connections are kept."""
        if connection.has_surplus():
            self._noisy.add(connection.endpoint)
        connection.close()

    def _forget(self) -> None:
        """Close idle connections: they were opened with a trust that no longer counts."""
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    async def _connect(self, request: Request) -> _Connection:
        endpoint = request.endpoint
        proxy = find_proxy(endpoint, self._environ)
        if proxy is None:
            context = self._trust.context() if endpoint.scheme == "https" else None
            return _Connection(endpoint, *await self._open(endpoint, context, f"{endpoint.host}:{endpoint.port}"))
        self._name(endpoint, proxy)
        context = self._trust.context()
        outer = context if proxy.endpoint.scheme == "https" else None
        request.proxy = proxy.place
        try:
            reader, writer = await self._open(proxy.endpoint, outer, proxy.place, trusted=True)
        except ConnectFault as fault:
            fault.hint = PROXY_HINT
            raise
        try:
            await open_tunnel(proxy, endpoint, reader, writer)
            request.proxy = ""
            await writer.start_tls(context, server_hostname=endpoint.host)
        except OSError as error:
            writer.transport.abort()
            raise network_fault(error, f"{endpoint.host}:{endpoint.port} behind {proxy.place}") from error
        except BaseException:
            writer.transport.abort()
            raise
        return _Connection(endpoint, reader, writer)

    def _name(self, endpoint: Endpoint, proxy: Proxy) -> None:
        words = f"Fi.V Connect at {endpoint.host} is asked through {proxy.place} (HTTPS_PROXY)"
        if words not in self._named:
            self._named.add(words)
            self._said(words)

    async def _open(
        self, endpoint: Endpoint, context: Context | None, place: str, *, trusted: bool = False
    ) -> tuple[_Reader, asyncio.StreamWriter]:
        """A connection to the first of the endpoint's addresses that accepts one; all of them were checked."""
        fault = unreachable(f"{endpoint.host} has no address")
        addresses = await checked_addresses(endpoint, any_scheme=trusted)
        for position, address in enumerate(addresses, 1):
            limit = None if position == len(addresses) else _NEXT_ADDRESS_S
            try:
                async with asyncio.timeout(limit):
                    return await _open_streams(str(address), endpoint, context)
            except OSError as error:
                fault = network_fault(error, place)
                fault.__cause__ = error
        raise fault

    async def aclose(self) -> None:
        self._forget()
        await asyncio.sleep(0)  # lets the loop close the sockets before it ends itself


async def _open_streams(
    address: str, endpoint: Endpoint, context: Context | None
) -> tuple[_Reader, asyncio.StreamWriter]:
    """Like asyncio.open_connection, with a reader that notices unrequested data."""
    loop = asyncio.get_running_loop()
    reader = _Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    name = endpoint.host if context else None
    transport, _ = await loop.create_connection(
        lambda: protocol, address, endpoint.port, ssl=context, server_hostname=name
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Reader(asyncio.StreamReader):
    """`expecting` is set while a request waits for its answer; `unasked`: bytes came while none did."""

    expecting = True
    unasked = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.unasked = self.unasked or not self.expecting
        super().feed_data(data)


class _StaleError(Exception):
    """The connection ended before the first byte of an answer."""


class _Connection:
    """One connection and its HTTP/1.1 state."""

    def __init__(self, endpoint: Endpoint, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self.endpoint = endpoint
        self.place = f"{endpoint.host}:{endpoint.port}"
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADER_LIMIT)
        self._born = self._idle_since = asyncio.get_running_loop().time()
        self._ended = self._session_kept = False
        self._watch: KeyWatch | None = None
        self.trailers: list[tuple[bytes, bytes]] = []

    async def ask(self, request: Request) -> h11.Response:
        head = h11.Request(method=request.method, target=request.target, headers=request.headers)
        parts = [self._http.send(head)]
        if request.body:
            parts.append(self._http.send(h11.Data(data=request.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._reader.expecting = True
        self._watch = request.key_watch
        self.trailers = []
        try:
            self._writer.write(b"".join(part for part in parts if part))
            while isinstance(event := await self._next_event(), h11.InformationalResponse):
                pass  # 100 Continue and similar
        except BaseException:
            self.close()
            raise
        if isinstance(event, h11.Response):
            return event
        self.close()
        raise _StaleError

    async def body(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers.extend(event.headers)
                return
            else:
                raise unreachable(f"{self.place} closed the connection within its answer")

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                received = await self._reader.read(_CHUNK)
                if not received and self._http.their_state is h11.SEND_RESPONSE:
                    raise _StaleError
                if self._watch is not None:
                    self._watch.feed(received)
                self._ended = not received
                self._http.receive_data(received)
        except h11.RemoteProtocolError:
            # Without `from`: h11 quotes what it received, which may echo the key.
            if self._ended:  # h11 calls an early end a protocol error; it is a lost connection
                raise unreachable(f"{self.place} closed the connection within its answer") from None
            raise invalid_answer("it is not HTTP/1.1") from None
        except ConnectionError as error:
            if self._http.their_state is h11.SEND_RESPONSE:
                raise _StaleError from error
            raise network_fault(error, self.place) from error
        except OSError as error:
            raise network_fault(error, self.place) from error
        return event

    def renew(self) -> bool:
        """Make it ready for another request, if the last answer was read to its end and nothing came after it. Returns
        whether it is."""
        self._reader.expecting = False
        self._idle_since = asyncio.get_running_loop().time()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or self.has_surplus():
            return False
        self._http.start_next_cycle()
        return self.is_usable()

    def rest_left(self) -> float:
        return max(0.0, self._idle_since + _REST_S - asyncio.get_running_loop().time())

    def has_surplus(self) -> bool:
        """Whether bytes came that no request asked for: after an answer, or while no request was open."""
        ended = self._http.their_state in (h11.DONE, h11.IDLE, h11.MUST_CLOSE)
        return self._reader.unasked or (ended and bool(self._http.trailing_data[0]))

    def is_usable(self) -> bool:
        fresh = asyncio.get_running_loop().time() - self._born < _LIFE_S
        return fresh and not self.has_surplus() and not self._reader.at_eof() and not self._writer.is_closing()

    def keep_session(self) -> None:
        """The TLS session for the next connection to this host. TLS 1.3 sends it with the first answer, not with the
        handshake."""
        if self._session_kept:
            return
        secured = self._writer.get_extra_info("ssl_object")
        if secured is not None and isinstance(secured.context, Context):
            self._session_kept = secured.context.keep_session(self.endpoint.host, secured.session)

    def close(self) -> None:
        self._writer.transport.abort()


class Line:
    """Keeps a connection for requests that follow each other, until `release` gives it back."""

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self._put_back: Callable[[_Connection], None] | None = None

    def keep(self, connection: _Connection, put_back: Callable[[_Connection], None]) -> None:
        self._connection, self._put_back = connection, put_back

    def take(self) -> _Connection | None:
        """Returns the connection; None if there is none, or it can't be used again."""
        if self._connection is None or not self._connection.is_usable():
            return None
        connection, self._connection = self._connection, None
        return connection

    def release(self) -> None:
        if self._connection is not None and self._put_back is not None:
            self._put_back(self._connection)
            self._connection = None


async def checked_addresses(endpoint: Endpoint, *, any_scheme: bool = False) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses of a host. One bad address refuses the host: a mixed answer is what an attack looks like.

    `any_scheme`: http:// may lead to another machine; that is allowed for a proxy, through which TLS goes to Connect.
    """
    addresses = await _resolve(endpoint.host, endpoint.port)
    for address in addresses:
        if reason := address_problem(address):
            raise refused_address(endpoint.host, reason)
        if endpoint.scheme == "http" and not any_scheme and not is_loopback(address):
            raise refused_address(endpoint.host, "another machine over http://")
    return addresses


async def _resolve(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    if literal := parse_address(host):
        return (literal,)
    try:
        return tuple(ip_address(text) for text in await resolve_host(host, port))
    except OSError as error:
        raise unreachable(f"the name {host} can't be resolved") from error
