"""Half-sent request heads against each of fivrec's HTTP servers, with as few files as `ulimit -n 96` leaves."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Thread

import pytest

from reconciler.support.crypto.key_files import generate_key
from tests.support.harness import Fivrec

FEW_FILES = ("sh", "-c", 'ulimit -n 96; exec "$@"', "sh")
SERVERS = {
    "serve": ("serve", "client.yaml", "--listen", "127.0.0.1:0"),
    "watch": ("watch", "client.yaml", "--listen", "127.0.0.1:0"),
    "connect serve": ("connect", "serve", "--listen", "127.0.0.1:0", "--state", "connect.json"),
}


def healthz(port: int) -> tuple[bytes, float]:
    """Returns the status line, after as many attempts as it takes, and the seconds until then."""
    began = time.monotonic()
    while time.monotonic() - began < 30:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                if line := client.recv(4096).partition(b"\r\n")[0]:
                    return line, time.monotonic() - began
        except OSError:
            time.sleep(0.1)
    return b"", time.monotonic() - began


def ready_port(lines: list[str], process: subprocess.Popen[str]) -> int:
    for line in process.stderr or ():
        lines.append(line)
        if " on http://" in line:
            return int(line.rpartition(":")[2])
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("count", [64, 300])
@pytest.mark.parametrize("server", SERVERS)
def test_half_sent_heads_stop_no_server(
    server: str, count: int, fivrec: Fivrec, record_property: Callable[[str, object], None]
) -> None:
    assert fivrec.run("apply", "client.yaml").code == 0
    limited = Fivrec(fivrec.folder, fivrec.env, within=FEW_FILES)
    process = limited.start(*SERVERS[server], FIVREC_JWT_KEY=generate_key())
    lines: list[str] = []
    try:
        port = ready_port(lines, process)
        reader = Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
        reader.start()
        before = len(lines)
        with ExitStack() as stack:
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half:")
            status, took = healthz(port)
            time.sleep(2)  # long enough for a busy loop to fill the log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    reader.join(60)
    logged = sum(len(line) for line in lines[before:])
    record_property(f"{server}, {count}", f"/healthz after {took:.2f} s, {logged} bytes logged")
    assert (status, took < 11, logged < 100_000) == (b"HTTP/1.1 200 OK", True, True)
    assert "Traceback" not in "".join(lines)
