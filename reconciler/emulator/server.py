"""Serves the emulator on a socket, with or without TLS, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from reconciler.emulator.app import build_app
from reconciler.emulator.store import StateFile
from reconciler.support.asgi_server import AppServer, Listen, bound_socket, listen_from_text

__all__ = ["EmulatorServer", "Listen", "bound_socket", "listen_from_text", "serve"]


def serve(file: StateFile, listen: Listen, on_ready: Callable[[str], None]) -> int:
    """Serves until SIGINT or SIGTERM, and returns that signal's number. `on_ready` is given the URL, real port."""
    file.read()  # a broken state is told now, not at the first request
    with bound_socket(listen) as bound:
        server = EmulatorServer(file, listen, bound, on_ready)
        return asyncio.run(server.run_until_signal())


class EmulatorServer(AppServer):
    """The emulator with its state in `file`."""

    def __init__(self, file: StateFile, listen: Listen, bound: socket.socket, on_ready: Callable[[str], None]) -> None:
        super().__init__(build_app(file), listen, bound, on_ready)
