"""Serves the emulator on a socket by uvicorn, with or without TLS, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from reconciler.emulator.app import build_app
from reconciler.emulator.store import StateFile
from reconciler.errors import FivrecError, MissingSetting, UsageError

_GRACE_S = 1


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; `cert` and `key` are PEM files, both or none."""

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.cert else "http"


def listen_from_text(text: str, cert: Path | None = None, key: Path | None = None) -> Listen:
    """HOST:PORT, an IPv6 host in brackets. Refuses plain HTTP for anything but loopback: keys travel on it."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004  the last port
        raise UsageError(f'--listen "{text}" is not HOST:PORT', hint="for example 127.0.0.1:8443")
    if (cert is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    if cert is None and host != "localhost" and not _is_loopback(host):
        raise UsageError(
            f"{host} is not loopback, and without TLS instance keys would travel in the open",
            hint="listen on 127.0.0.1, or give --tls-cert and --tls-key",
        )
    return Listen(host, int(port), cert, key)


def serve(file: StateFile, listen: Listen, on_ready: Callable[[str], None]) -> int:
    """Serves until SIGINT or SIGTERM, and returns that signal's number. `on_ready` is given the URL, real port."""
    file.read()  # a broken state is told now, not at the first request
    with bound_socket(listen) as bound:
        server = EmulatorServer(file, listen, bound, on_ready)
        return asyncio.run(server.run_until_signal())


class EmulatorServer(uvicorn.Server):
    """uvicorn with signals and readiness of our own; `url` is known once it is bound."""

    def __init__(self, file: StateFile, listen: Listen, bound: socket.socket, on_ready: Callable[[str], None]) -> None:
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.url = f"{listen.scheme}://{host}:{bound.getsockname()[1]}"
        self._bound = bound
        self._on_ready = on_ready
        super().__init__(
            uvicorn.Config(
                build_app(file),
                ssl_certfile=listen.cert,
                ssl_keyfile=listen.key,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
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
            f"can't listen on {listen.host}:{listen.port}: {error.strerror}",
            hint="choose another --listen; port 0 takes a free one",
            code="listen_failed",
        ) from error
    with bound:
        yield bound


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
