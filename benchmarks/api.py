"""`fivrec serve` under 50 concurrent requests, alternating with a bare Starlette application that reads the same row.

    python benchmarks/api.py [--seconds 4] [--rounds 3]

Both run as separate processes on one embedded PostgreSQL; this process makes the load over kept HTTP connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
AT_ONCE = 50
TARGET = 0.5
PATHS = {"/healthz": "/healthz", "status-logs": "/api/instance/status-logs?limit=1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        Path(folder).chmod(0o755)
        with fivrec(Path(folder)) as (url, token), bare(Path(folder)) as limit:
            servers = {"bare": limit, "fivrec": url}
            figures = {title: in_turn(servers, path, token, given) for title, path in PATHS.items()}
    print("| endpoint, 50 at once | bare Starlette, requests/s | p99 | fivrec, requests/s | p99 | ratio | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title in PATHS:
        (low, low99), (own, own99) = figures[title]["bare"], figures[title]["fivrec"]
        reached = "yes" if own / low >= TARGET else "no"
        row = [
            title,
            f"{low:,.0f}",
            f"{low99:.0f} ms",
            f"{own:,.0f}",
            f"{own99:.0f} ms",
            f"{own / low:.2f}",
            f"≥ {TARGET}: {reached}",
        ]
        print(f"| {' | '.join(row)} |")


def in_turn(
    servers: dict[str, str], path: str, token: str, given: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Returns the medians over the rounds per server: requests per second, and the 99th percentile in ms."""
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for number in range(given.rounds + 1):
        for name, base in servers.items():
            found = asyncio.run(loaded(base + path, token, given.seconds if number else 1))
            rounds[name] += [found] if number else []  # the first one warms up
    return {
        name: (statistics.median(rate for rate, _ in found), statistics.median(p99 for _, p99 in found))
        for name, found in rounds.items()
    }


async def loaded(url: str, token: str, seconds: float) -> tuple[float, float]:
    parts = urlsplit(url)
    request = (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (started := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            took.append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return len(took) / (time.perf_counter() - started), statistics.quantiles(took, n=100)[98] * 1000


@contextmanager
def fivrec(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the URL of `fivrec serve` on an instance made for it, and an administrator's token."""
    environment = {**os.environ, "NODE_ENV": "development", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "reconciler"]
    manifest = str(ROOT / "manifests" / "client.yaml")
    subprocess.run([*program, "apply", "-q", manifest], cwd=folder, env=environment, check=True, capture_output=True)
    serve = [*program, "serve", manifest, "--listen", f"127.0.0.1:{free_port()}"]
    with running(serve, folder, environment, "http://") as url:
        password = next((folder / ".fivrec" / "secrets").iterdir()).read_text().strip()
        body = json.dumps({"email": "admin@empresa.com", "password": password}).encode()
        asked = urllib.request.Request(f"{url}/api/auth/login", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            yield url, json.load(answer)["token"]


@contextmanager
def bare(folder: Path) -> Iterator[str]:
    sys.path.insert(0, str(ROOT))
    from reconciler.database.embedded.server import embedded_database_name, embedded_server

    with embedded_server(folder / ".fivrec" / "postgres") as server:
        url = server.url(embedded_database_name("client-abc-123")).reveal()
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "bare" / "api.py"), str(port)],
            env={**os.environ, "DATABASE_URL": url},
        )
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str], mark: str) -> Iterator[str]:
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if mark in line:
                yield line[line.index(mark) :].split()[0]
                break
        else:
            raise SystemExit("fivrec serve did not start")
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the bare application did not start")


if __name__ == "__main__":
    main()
