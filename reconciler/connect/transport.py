"""httpx's transport to Fi.V Connect: HTTP/1.1 over the very address that was checked.

httpx's own transport resolves a name itself, so a name server that answers twice could lead it past the check; it also
costs 50 ms of imports. This one resolves, checks, connects to the checked address with the name kept for TLS and Host,
and keeps connections for the next request. No proxies: a proxy would choose the address. Deadlines are the caller's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import h11

from reconciler.connect.errors import invalid_answer, network_fault, refused_address, unreachable
from reconciler.support.lean_httpx import httpx
from reconciler.support.network import Endpoint, address_problem, is_loopback, resolve_host

_CHUNK = 16 * 1024
_HEADER_LIMIT = 64 * 1024
_NEXT_ADDRESS_S = 3.0
_LIFE_S = 30.0  # a Connect that moved is found at its new address, also while the old one still answers
_SILENT_S = 8.0  # a kept connection whose other end is gone without a word; asking anew leaves time for an answer
_IDLE_CONNECTIONS = 32


class PinnedTransport(httpx.AsyncBaseTransport):
    """Shared by all clients of a run. `trust` is called once, at the first https connection."""

    def __init__(self, trust: Callable[[], ssl.SSLContext]) -> None:
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._idle: dict[Endpoint, list[_Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        endpoint = Endpoint(url.scheme, url.raw_host.decode("ascii"), port)
        body = await request.aread()
        kept = self._take(endpoint)
        if kept is not None:
            try:
                async with asyncio.timeout(_SILENT_S):
                    return self._response(kept, await kept.ask(request, body))
            except (_StaleError, TimeoutError):
                pass  # closed, or silent: nothing was answered, so a fresh one may ask
        connection = await self._connect(endpoint)
        try:
            return self._response(connection, await connection.ask(request, body))
        except _StaleError:
            raise unreachable(f"{connection.place} closed the connection before it answered") from None

    def _response(self, connection: _Connection, head: h11.Response) -> httpx.Response:
        return httpx.Response(head.status_code, headers=list(head.headers), stream=_Body(connection, self._keep))

    def _take(self, endpoint: Endpoint) -> _Connection | None:
        kept = self._idle.get(endpoint, [])
        while kept:
            connection = kept.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        kept = self._idle.setdefault(connection.endpoint, [])
        if len(kept) < _IDLE_CONNECTIONS and connection.renew():
            kept.append(connection)
        else:
            connection.close()

    async def _connect(self, endpoint: Endpoint) -> _Connection:
        addresses = await checked_addresses(endpoint)
        context = self._tls() if endpoint.scheme == "https" else None
        fault = unreachable(f"{endpoint.host} has no address")
        for position, address in enumerate(addresses, 1):
            limit = None if position == len(addresses) else _NEXT_ADDRESS_S
            try:
                async with asyncio.timeout(limit):
                    reader, writer = await asyncio.open_connection(
                        str(address),
                        endpoint.port,
                        ssl=context,
                        server_hostname=endpoint.host if context else None,
                    )
            except OSError as error:
                fault = network_fault(error, f"{endpoint.host}:{endpoint.port}")
                fault.__cause__ = error
            else:
                return _Connection(endpoint, reader, writer)
        raise fault

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._trust()
        return self._context

    async def aclose(self) -> None:
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # lets the loop close the sockets before it ends itself


class _StaleError(Exception):
    """The connection ended before a byte of an answer."""


class _Connection:
    """One connection and its HTTP/1.1 state."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.endpoint = endpoint
        self.place = f"{endpoint.host}:{endpoint.port}"
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADER_LIMIT)
        self._born = asyncio.get_running_loop().time()
        self._ended = False

    async def ask(self, request: httpx.Request, body: bytes) -> h11.Response:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        parts = [self._http.send(head)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        try:
            self._writer.write(b"".join(part for part in parts if part))
            while isinstance(event := await self._next_event(), h11.InformationalResponse):
                pass  # 100 Continue and its like
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
                return
            else:
                raise unreachable(f"{self.place} closed the connection within its answer")

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                received = await self._reader.read(_CHUNK)
                if not received and self._http.their_state is h11.SEND_RESPONSE:
                    raise _StaleError
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
        """Ready for another request, where the last answer was read to its end."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return self.is_usable()

    def is_usable(self) -> bool:
        fresh = asyncio.get_running_loop().time() - self._born < _LIFE_S
        return fresh and not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()


class _Body(httpx.AsyncByteStream):
    def __init__(self, connection: _Connection, keep: Callable[[_Connection], None]) -> None:
        self._connection = connection
        self._keep = keep

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._connection.body():
            yield part

    async def aclose(self) -> None:
        self._keep(self._connection)


async def checked_addresses(endpoint: Endpoint) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses of a host. One bad address refuses the host: a mixed answer is what an attack looks like."""
    addresses = await _resolve(endpoint.host, endpoint.port)
    for address in addresses:
        if reason := address_problem(address):
            raise refused_address(endpoint.host, reason)
        if endpoint.scheme == "http" and not is_loopback(address):
            raise refused_address(endpoint.host, "another machine over http://")
    return addresses


async def _resolve(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    try:
        return tuple(ip_address(text) for text in await resolve_host(host, port))
    except OSError as error:
        raise unreachable(f"the name {host} can't be resolved") from error
