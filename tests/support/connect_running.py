"""A Connect for tests: the emulator on a real socket, over TLS with a CA of its own. Fixture: connect_fixture.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trustme

from reconciler.connect.emulator.app import build_app
from reconciler.connect.emulator.drills import Drill, set_drill
from reconciler.connect.emulator.state import Instance
from reconciler.connect.emulator.state_file import StateFile
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget
from reconciler.support.asgi_server import AppServer, Listen, bound_socket


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the CA, and a certificate for localhost, 127.0.0.1 and ::1 with its key."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True)
class ConnectServer:
    """`url` for manifests, `ca_file` for --ca-file; `set` drives it as `fivrec connect set` does."""

    url: str
    ca_file: str
    file: StateFile

    def set(self, instance: str, **drill: Any) -> Instance:
        """Keywords: status, billing, features=(("chat", False),), fail, delay_s, plans=(), reset=True,
        key=Secret(…)."""
        return set_drill(self.file, instance, Drill(**drill))

    def key(self, instance: str) -> Secret:
        """Returns the instance's key; creates the instance if need be."""
        return self.set(instance).key

    def target(self, instance: str) -> ConnectTarget:
        return ConnectTarget(self.url, self.key(instance))

    def instance(self, name: str) -> Instance:
        """Returns the server's record of the instance, such as its count of usage reports."""
        return self.file.read().instances[name]


def make_tls(folder: Path, *names: str) -> TlsFiles:
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(str(files.ca))
    issued.private_key_pem.write_to_path(str(files.key))
    files.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    return files


@contextmanager
def running_connect(folder: Path, *, tls: bool = True) -> Iterator[ConnectServer]:
    """Serve the emulator from its own thread until the block ends."""
    files = make_tls(folder)
    listen = Listen("127.0.0.1", 0)
    if tls:
        listen = replace(listen, cert=files.cert, key=files.key)
    state = StateFile(folder / "connect.json")
    ready = threading.Event()
    with bound_socket(listen) as bound:
        server = AppServer(build_app(state), listen, bound, lambda _: ready.set())
        thread = threading.Thread(target=asyncio.run, args=(server.serve([bound]),), daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield ConnectServer(server.url, str(files.ca), state)
        finally:
            server.should_exit = True
            thread.join(60)
