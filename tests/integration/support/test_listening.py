"""fivrec's HTTP servers against clients that are slow, many, or send nonsense. Real sockets."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.support import acceptor, asgi_server, http_limits
from reconciler.support.asgi_server import AppServer, Listen, bound_socket
from reconciler.support.log import EventLog
from tests.support.connect_running import TlsFiles, make_tls

Send = Callable[[Any], Awaitable[None]]


class App:
    """/healthz responds; /wait responds when `release` is set; /fail fails; any other path reads the body first."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.waiting = threading.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["path"] == "/fail":
            raise ValueError("canary")
        if scope["path"] == "/wait":
            self.waiting.release()
            while not self.release.is_set():
                await asyncio.sleep(0.01)
        elif scope["path"] != "/healthz":
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def running(app: Any, listen: Listen | None = None) -> Iterator[tuple[int, io.StringIO]]:
    """Yields the port, and the log."""
    ready, log = threading.Event(), io.StringIO()
    with bound_socket(listen or Listen("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        server = AppServer(app, listen or Listen("127.0.0.1", 0), bound, lambda _: ready.set(), log=EventLog(log))
        thread = threading.Thread(target=asyncio.run, args=(server.serve([bound]),), daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield port, log
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def opened(port: int, data: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(data)
    return client


def all_of(client: socket.socket) -> bytes:
    """Returns everything sent until the server closes."""
    found = b""
    try:
        while data := client.recv(4096):
            found += data
    except ConnectionResetError:
        pass
    return found


def response(client: socket.socket) -> bytes:
    """Returns one response of this app."""
    found = b""
    while not found.endswith(b"ok"):
        data = client.recv(4096)
        assert data, f"closed after {found!r}"
        found += data
    return found


def get(port: int, path: str = "/healthz") -> bytes:
    with opened(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()) as client:
        return all_of(client).partition(b"\r\n")[0]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_S", 0.3)
    monkeypatch.setattr(http_limits, "BODY_S", 0.3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost:", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbody"]
)
def test_half_a_request_ends_in_time(sent: bytes) -> None:
    with running(App()) as (port, _), opened(port, sent) as client:
        assert all_of(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"]
)
def test_a_byte_now_and_then_lengthens_nothing(sent: bytes) -> None:
    with running(App()) as (port, _), opened(port, sent) as client:
        client.settimeout(0.05)
        began = time.monotonic()
        while time.monotonic() - began < 20:
            try:
                client.sendall(b"x")
                if not client.recv(100):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 20


def test_a_request_that_takes_long_and_a_next_one_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("HEAD_S", "BODY_S"):
        monkeypatch.setattr(http_limits, limit, 2.0)  # the test itself has to send the next request within it
    app = App()
    whole = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(app) as (port, _), opened(port, whole % b"wait") as client:
        assert app.waiting.acquire(timeout=60)
        threading.Timer(2.5, app.release.set).start()  # longer than the limits
        for _ in range(2):
            assert response(client).startswith(b"HTTP/1.1 200 ")
            client.sendall(whole % b"healthz")


def test_a_proxys_connection_may_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy itself closes idle connections, after 60 to 600 s; what it sends on one that fivrec closed is a 502."""
    assert asgi_server._PROXY_IDLE_S > 600
    monkeypatch.setattr(asgi_server, "_PROXY_IDLE_S", 0.3)
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(App(), Listen("127.0.0.1", 0, proxies=("10.0.0.1",))) as (port, _):
        began = time.monotonic()
        with opened(port, request) as client:
            assert all_of(client).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - began > 0.2
    with running(App()) as (port, _), opened(port, request) as client:
        assert response(client)
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(1)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbody"]
)
def test_a_newcomer_takes_the_place_of_the_slowest(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "connection_limit", lambda: 4)
    with running(App()) as (port, log), ExitStack() as stack:
        slow = [stack.enter_context(opened(port, sent)) for _ in range(40)]
        assert get(port, "/other") == b"HTTP/1.1 200 OK"
        assert all_of(slow[0]) == b""
    assert log.getvalue() == "as many connections are open as the limit allows: the slowest are closed for new ones\n"


def test_a_burst_of_whole_requests_is_answered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "connection_limit", lambda: 4)
    monkeypatch.setattr(acceptor, "PATIENCE_S", 5.0)  # a pause of the machine is no slow client
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with running(App()) as (port, _), ExitStack() as stack:
        burst = [stack.enter_context(opened(port, whole)) for _ in range(100)]
        assert [all_of(client)[-2:] for client in burst] == [b"ok"] * 100


def test_health_has_a_spare_when_all_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "connection_limit", lambda: 3)
    app = App()
    with running(app) as (port, _), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(opened(port, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"))
        for _ in range(3):
            assert app.waiting.acquire(timeout=60)
        assert get(port) == b"HTTP/1.1 200 OK"
        assert get(port, "/other") == b"HTTP/1.1 503 Service Unavailable"
        app.release.set()


def test_nonsense_and_failures_do_not_fill_the_log() -> None:
    with running(App()) as (port, log):
        for _ in range(100):
            with opened(port, b"\x16\x03 nonsense\r\n\r\n") as client:
                assert all_of(client).startswith(b"HTTP/1.1 400 ")
            assert get(port, "/fail") == b"HTTP/1.1 500 Internal Server Error"
    lines = log.getvalue().splitlines()
    assert lines[0] == "⚠️ Invalid HTTP request received."
    assert lines[1].startswith("⚠️ Exception in ASGI application: ValueError at ")
    assert (len(lines), "canary" in log.getvalue(), "Traceback" in log.getvalue()) == (2, False, False)


def served_by(port: int, files: TlsFiles) -> bool:
    """Whether the server's certificate is signed by this CA."""
    context = ssl.create_default_context(cafile=str(files.ca))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_certificate_that_changes_is_served(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (make_tls(folder) for folder in folders)
    listen = Listen("127.0.0.1", 0, tmp_path / "cert.pem", tmp_path / "key.pem")

    def install(files: TlsFiles) -> None:
        for source, name in ((files.key, "key.pem"), (files.cert, "cert.pem")):
            (tmp_path / f"{name}.new").write_bytes(source.read_bytes())
            (tmp_path / f"{name}.new").replace(tmp_path / name)

    install(one)
    with running(App(), listen) as (port, log):
        assert served_by(port, one)
        install(two)
        assert (served_by(port, one), served_by(port, two)) == (False, True)
        (tmp_path / "cert.pem").write_text("broken")
        assert served_by(port, two)
        assert "can't be used" in log.getvalue()
        install(one)
        assert served_by(port, one)


def test_half_a_tls_handshake_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "connection_limit", lambda: 4)
    files = make_tls(tmp_path)
    listen = Listen("127.0.0.1", 0, files.cert, files.key)
    with running(App(), listen) as (port, _), ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(opened(port, b"\x16\x03\x01"))
        assert served_by(port, files)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"transfer-encoding: CHUNKED\r\ncontent-length: 5",
    ],
)
def test_two_lengths_end_the_connection(head: bytes) -> None:
    """Some proxies would take what follows for the rest of this request, this server for another one."""
    with running(App()) as (port, _):
        rest = b"\r\n\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        with opened(port, b"POST / HTTP/1.1\r\nHost: a\r\n" + head + rest) as client:
            answers = all_of(client)
    assert (answers.split(b"\r\n")[0], answers.count(b"HTTP/1.1 ")) == (b"HTTP/1.1 400 Bad Request", 1)


def test_no_client_makes_the_log_advise_an_install() -> None:
    with running(App()) as (port, log):
        ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        with opened(port, ask) as client:
            assert client.recv(100).startswith(b"HTTP/1.1 ")
    assert "pip install" not in log.getvalue()
