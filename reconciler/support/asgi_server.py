"""A socket to listen on, and uvicorn serving an application on it until it has to stop. Knows no application."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn

from reconciler.model.errors import FivrecError, MissingSetting, UsageError
from reconciler.model.records import dataclass
from reconciler.support.acceptor import Acceptor
from reconciler.support.cancellation import on_hangup
from reconciler.support.file_stamps import Reread
from reconciler.support.http_limits import LimitedProtocol
from reconciler.support.log import EventLog
from reconciler.support.network import parse_address
from reconciler.support.server_log import server_log

_SETTINGS: dict[str, Any] = {
    "http": LimitedProtocol,
    "ws": "none",
    "loop": "asyncio",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 1,
}
_PROXY_IDLE_S: Final = 620
"""Seconds; longer than proxies keep an idle connection (nginx and AWS 60 s, Traefik 90, Google 600): if a request
crosses the closing of one, the proxy answers 502. uvicorn's 5 s are enough for other clients, and the longest idle
connection makes room for new ones."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; `cert` and `key` are PEM files, both or none. `proxies`: whose X-Forwarded headers count."""

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None
    proxies: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        return "https" if self.cert else "http"


def listen_from_text(
    text: str,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    proxies: tuple[str, ...] = (),
    what: str | None = "instance keys",
) -> Listen:
    """Parses HOST:PORT, with an IPv6 host in brackets. Refuses plain HTTP on anything but loopback, unless there is a
    proxy in front: it would expose `what` (None if nothing is secret)."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    usable = colon and host and not set(host) & set("[] ") and re.fullmatch(r"[0-9]{1,5}", port)
    if not usable or int(port) > 65535:  # noqa: PLR2004  the last port
        raise UsageError(f'--listen "{text}" is not HOST:PORT', hint="for example 127.0.0.1:8443")
    if (cert is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    if cert is None and what is not None and not proxies and not is_loopback(host):
        raise UsageError(
            f"{host} is not loopback, and without TLS {what} would travel in the open",
            hint="listen on 127.0.0.1, or give --tls-cert and --tls-key",
        )
    return Listen(host, int(port), cert, key, proxies)


class AppServer(uvicorn.Server):
    """uvicorn with our own handling of signals and readiness; `url` is known once the socket is bound."""

    def __init__(
        self,
        app: Any,
        listen: Listen,
        bound: socket.socket,
        on_ready: Callable[[str], None],
        *,
        on_stop: Callable[[], None] | None = None,
        log: EventLog | None = None,
        **config: Any,
    ) -> None:
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.url = f"{listen.scheme}://{host}:{bound.getsockname()[1]}"
        self._bound = bound
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._log = log or EventLog(sys.stderr)
        self._secure: Callable[[], ssl.SSLContext | None] = lambda: None
        if listen.cert is not None and listen.key is not None:
            files = (listen.cert, listen.key)
            said = partial(self._log.warning, "http", error="tls_certificate")
            self._secure = Reread(files, partial(load_certificate, *files), said).value
        proxies: dict[str, Any] = {"proxy_headers": bool(listen.proxies), "forwarded_allow_ips": list(listen.proxies)}
        if listen.proxies:
            proxies["timeout_keep_alive"] = _PROXY_IDLE_S
        super().__init__(uvicorn.Config(app, **{**_SETTINGS, **proxies, **config}))
        self.config.load()

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        with server_log(self._log) as self._quiet:
            await super()._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 (uvicorn's signature)
        """Replaces uvicorn's: our acceptor accepts the connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise FivrecError("the server could not be started", hint="-vv says more", code="listen_failed")
        self.servers = []
        acceptor = Acceptor(self._protocol, self._secure, partial(self._quiet.warning, "http"))
        self._accepting = asyncio.create_task(acceptor.run(self._bound))
        self.started = True
        self._on_ready(self.url)

    def _protocol(self) -> LimitedProtocol:
        return LimitedProtocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop is not None:
            self._on_stop()  # lets endless streams end themselves
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        await super().shutdown(sockets)
        if self.force_exit:  # else the application's lifespan task would be cancelled, which prints a traceback
            await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none: `run_until_signal` handles them, and a thread can't."""
        yield

    async def run_until_signal(self, on_hup: Callable[[], None] = lambda: None) -> int:
        """Serve until SIGINT or SIGTERM, and return its number. SIGHUP only calls `on_hup`."""
        loop = asyncio.get_running_loop()
        received: list[int] = []

        def stop(number: int) -> None:
            self.force_exit = bool(received)  # a second signal does not wait for open requests
            received.append(number)
            self.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        on_hangup(on_hup)
        await self.serve([self._bound])
        return received[0] if received else 0


def load_certificate(cert: Path, key: Path) -> ssl.SSLContext:
    """Raises MissingSetting if the files can't be used, or don't belong together."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key, password="")  # an encrypted key is refused, not asked for
    except (OSError, ValueError) as error:
        reason = "they are no PEM files that belong together"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            reason = os.strerror(error.errno or 0).lower()
        raise MissingSetting(
            f"the certificate {cert} with its key {key} can't be used: {reason}",
            hint="give PEM files that belong together",
            code="emulator_tls",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextmanager
def bound_socket(listen: Listen) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        bound = socket.create_server((listen.host, listen.port), family=family, backlog=256)
    except OSError as error:
        raise FivrecError(
            f"can't listen on {listen.host}:{listen.port}: {_reason(error)}",
            hint="choose another --listen; port 0 takes a free one",
            code="listen_failed",
        ) from error
    # Accepted sockets inherit it. asyncio sets it only if the socket names its protocol, which this one does not.
    # Without it the body waits for the acknowledgement of the headers, which takes 40 ms.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with bound:
        yield bound


def _reason(error: OSError) -> str:
    """Returns the system's words for the errno: Python's words repeat the address. A name that is not found has no
    errno."""
    if not error.errno or error.errno < 0:  # `create_server` makes a plain OSError of the resolver's
        return "the host's name can't be resolved"
    return os.strerror(error.errno).lower()


def is_loopback(host: str) -> bool:
    """Whether the text means loopback: other names that lead there are not looked up."""
    address = parse_address(host)
    return address.is_loopback if address else host == "localhost"
