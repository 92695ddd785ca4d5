"""A request to Fi.V Connect and its answer, as the client and its transports share them. Knows no connection.

Not httpx's: its import and its client took 15 ms of each run, and a request here has no cookie, redirect or environment
to follow. The emulator inside the process is used through httpx, which speaks ASGI.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Protocol

from reconciler.connect.echo import KeyWatch
from reconciler.model.records import dataclass
from reconciler.support.network import USUAL_PORTS, Endpoint


@dataclass(slots=True, eq=False)
class Request:
    """`target`: path and query as in the first line. `line`, `fresh`: which connection may be used (transport.Line).
    The transport sets `shared`: the connection carried other answers before; `rested_s`: how long a kept connection was
    idle; and `proxy`: the one that has not opened its tunnel yet."""

    method: str
    endpoint: Endpoint
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    key_watch: KeyWatch | None = None
    line: Any = None
    fresh: bool = False
    shared: bool = False
    rested_s: float = 0.0
    proxy: str = ""


def host_header(endpoint: Endpoint) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    usual = endpoint.port == USUAL_PORTS[endpoint.scheme]
    return (host if usual else f"{host}:{endpoint.port}").encode("ascii")


class Headers(Mapping[str, str]):
    """By name in any case; the values of a repeated name are joined with a comma."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._found: dict[str, str] = {}
        for name, value in raw:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._found[key] = f"{self._found[key]}, {text}" if key in self._found else text

    def __getitem__(self, name: str) -> str:
        return self._found[name.lower()]

    def __iter__(self) -> Any:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@dataclass(slots=True, eq=False)
class Response:
    """`parts` is the body as it arrives, once. `trailers` has what followed it. `end` is called when it is read, or
    abandoned. `connection`: the one that it came over."""

    status: int
    raw_headers: list[tuple[bytes, bytes]]
    parts: AsyncIterator[bytes]
    end: Callable[[], None] = lambda: None
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    connection: object = None

    @property
    def headers(self) -> Headers:
        return Headers([*self.raw_headers, *self.trailers])


class Transport(Protocol):
    """`has_kept`: whether an idle connection to that server exists."""

    async def send(self, request: Request) -> Response: ...

    def has_kept(self, endpoint: Endpoint | None) -> bool: ...


class InProcess:
    """Sends requests to an ASGI application in this process."""

    def __init__(self, app: Any) -> None:
        from reconciler.support.lean_httpx import httpx

        self._transport = httpx.ASGITransport(app)

    async def send(self, request: Request) -> Response:
        from reconciler.support.lean_httpx import httpx

        url = f"{request.endpoint.scheme}://{request.endpoint.host}{request.target.decode('ascii')}"
        asked = httpx.Request(request.method, url, headers=request.headers, content=request.body)
        found = await self._transport.handle_async_request(asked)
        return Response(found.status_code, found.headers.raw, found.aiter_raw())

    def has_kept(self, endpoint: Endpoint | None) -> bool:  # noqa: ARG002 (it keeps none)
        return False
