"""A socket to listen on, and uvicorn serving an application on it until it is told to stop. Knows no application."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from reconciler.model.errors import FivrecError, MissingSetting, UsageError
from reconciler.model.records import dataclass

_GRACE_S = 1


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
    """HOST:PORT, an IPv6 host in brackets. Refuses plain HTTP for anything but loopback, where no proxy stands before
    it: `what` travels on it, None where that is nobody's secret."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004  the last port
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
    """uvicorn with signals and readiness of our own; `url` is known once it is bound."""

    def __init__(
        self,
        app: Any,
        listen: Listen,
        bound: socket.socket,
        on_ready: Callable[[str], None],
        *,
        on_stop: Callable[[], None] | None = None,
        **config: Any,
    ) -> None:
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.url = f"{listen.scheme}://{host}:{bound.getsockname()[1]}"
        self._bound = bound
        self._on_ready = on_ready
        self._on_stop = on_stop
        settings: dict[str, Any] = {
            "ssl_certfile": listen.cert,
            "ssl_keyfile": listen.key,
            "http": "h11",
            "ws": "none",
            "loop": "asyncio",
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "timeout_graceful_shutdown": _GRACE_S,
            "proxy_headers": bool(listen.proxies),
            "forwarded_allow_ips": list(listen.proxies),
        }
        super().__init__(uvicorn.Config(app, **{**settings, **config}))
        try:
            self.config.load()
        except (OSError, ValueError) as error:
            raise MissingSetting(
                f"the certificate {listen.cert} with its key {listen.key} can't be used: {type(error).__name__}",
                hint="give PEM files that belong together",
                code="emulator_tls",
            ) from error

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_stop is not None:
            self._on_stop()  # streams that would go on for ever end themselves
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: `run_until_signal` has them, and a thread can't."""
        yield

    async def run_until_signal(self) -> int:
        loop = asyncio.get_running_loop()
        received: list[int] = []

        def stop(number: int) -> None:
            self.force_exit = bool(received)  # a second signal does not wait for open requests
            received.append(number)
            self.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        await self.serve([self._bound])
        return received[0] if received else 0


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
    # Accepted sockets inherit it. asyncio sets it only where the socket names its protocol, which this one does not:
    # without it the body waits for the acknowledgement of the headers, which takes 40 ms.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with bound:
        yield bound


def _reason(error: OSError) -> str:
    """The system's words for its number: Python's add the address once more. A name that is not found has none."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return "the host's name can't be resolved"
    return os.strerror(error.errno).lower()


def is_loopback(host: str) -> bool:
    """By its words: a name that leads there is not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
