"""A PgBouncer in transaction mode in front of a PostgreSQL, for tests that must pass through it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from tests.support.postgres_server import free_port

START_S = 60
# New logins are looked up on the server, so that the tests may create some.
SETTINGS = """\
[databases]
* = host={host} port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
auth_type = scram-sha-256
auth_file = {folder}/users
auth_user = {user}
max_client_conn = 500
default_pool_size = 20
server_idle_timeout = 5
server_login_retry = {retry_s}
logfile = {folder}/log
pidfile = {folder}/pid
"""


def is_asked_for() -> bool:
    return os.environ.get("FIVREC_TEST_PGBOUNCER") == "1"


def program() -> str:
    """Returns the program's path; if it is missing, skips the tests and says so loudly."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("NOT TESTED through PgBouncer: install Debian's package pgbouncer")
    return found


@contextmanager
def through_pgbouncer(url: str, *, retry_s: int = 1, mode: str = "transaction") -> Iterator[str]:
    """Start a PgBouncer that ends with the block. Yields the same server's maintenance database by way of it.
    `retry_s`: how many seconds it remembers that a database was missing; its default is 15."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    folder = Path(tempfile.mkdtemp(prefix="fivrec-pgbouncer-"))
    port = free_port()
    (folder / "users").write_text(f'"{user}" "{password}"\n')
    server = {"host": parts.hostname, "server_port": parts.port or 5432, "user": user}
    settings = {**server, "retry_s": retry_s, "mode": mode}
    (folder / "ini").write_text(SETTINGS.format(folder=folder, port=port, **settings))
    identity = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    if identity:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "nobody", "nogroup")
    server = subprocess.Popen([program(), "-q", folder / "ini"], cwd="/", stderr=subprocess.DEVNULL, **identity)
    try:
        _wait_for(server, port, folder)
        userinfo = parts.netloc.rpartition("@")[0]
        yield urlunsplit(parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}"))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    log = folder / "log"
    raise RuntimeError(f"PgBouncer did not start: {log.read_text() if log.exists() else 'it wrote no log'}")
