"""Connections to Connect: shared by a run, closed after surplus bytes, opened through a proxy, trusted by current
files."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.connect import trust
from reconciler.connect.client import open_client
from reconciler.connect.pool import ConnectPool, ConnectSettings, open_pool
from reconciler.connect.proxy import Proxy, find_proxy
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, ConnectView
from reconciler.support.network import Endpoint
from tests.support.connect_running import TlsFiles, make_tls
from tests.support.connect_server import STATUS, Behaviour, Misbehaving, answering, body, hanging, misbehaving

INSTANCE = "client-abc-123"
KEY = Secret("k-canary-7f3a9")
STOLEN = {**STATUS, "instanceId": "client-of-others"}
OTHER_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body(STOLEN)), body(STOLEN))
REPORT = {
    "instanceId": INSTANCE,
    "totalUsers": 5,
    "totalConversations": 150,
    "totalClients": 75,
    "totalQueues": 3,
    "activeConversations": 12,
    "environment": "production",
    "lastActivity": None,
    "features": {},
}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., ConnectSettings]:
    def make(**changed: Any) -> ConnectSettings:
        usual: dict[str, Any] = {"ca_file": None, "production": False, "work_dir": tmp_path, "backoff_s": 0.01}
        return ConnectSettings(**{**usual, **changed})

    return make


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    return make_tls(tmp_path)


async def ask(url: str, settings: ConnectSettings, pool: ConnectPool, instance: str = INSTANCE) -> ConnectView:
    async with open_client(ConnectTarget(url, KEY), instance, settings, pool) as client:
        return await client.fetch_view(plans=False)


def plain_with_surplus(surplus: bytes) -> Behaviour:
    async def answer(writer: asyncio.StreamWriter) -> None:
        await answering(body(STATUS))(writer)
        writer.write(surplus)

    return answer


def chunked_with_surplus(surplus: bytes) -> Behaviour:
    async def answer(writer: asyncio.StreamWriter) -> None:
        content = body(STATUS)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content) + surplus)

    return answer


def late_surplus(surplus: bytes, sent: asyncio.Event) -> Behaviour:
    """Sends the surplus after the response was read; the test continues once it is sent."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await answering(body(STATUS))(writer)
        await writer.drain()

        async def later() -> None:
            await asyncio.sleep(0.05)
            writer.write(surplus)
            await writer.drain()
            sent.set()

        writer.transport.later = asyncio.create_task(later())  # type: ignore[attr-defined]  # kept from being collected

    return answer


@pytest.mark.parametrize("surplus", [OTHER_ANSWER, b"\r\n", b"x"])
@pytest.mark.parametrize("shape", [plain_with_surplus, chunked_with_surplus])
async def test_bytes_left_over_end_the_connection(shape: Any, surplus: bytes, settings) -> None:
    async with misbehaving(shape(surplus)) as server, open_pool(settings()) as pool:
        views = [await ask(server.url, settings(), pool) for _ in range(3)]
        assert [view.status_error for view in views] == [None, None, None]
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_bytes_that_come_late_end_the_connection(settings) -> None:
    sent = asyncio.Event()
    noisy, good = late_surplus(OTHER_ANSWER, sent), answering(body(STATUS))
    async with misbehaving(noisy, good) as server, open_pool(settings()) as pool:
        first = await ask(server.url, settings(), pool)
        await sent.wait()
        later = [await ask(server.url, settings(), pool) for _ in range(2)]
        assert [view.status_error for view in (first, *later)] == [None, None, None]
        # After that, no connection to this server is kept: its next surplus may arrive too late to be noticed.
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_the_only_address_of_connect_may_take_all_the_time(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for going on to the next address."""
    monkeypatch.setattr("reconciler.connect.transport._NEXT_ADDRESS_S", 0.0)
    async with misbehaving(answering(body(STATUS))) as server, open_pool(settings()) as pool:
        assert (await ask(server.url, settings(tries=1), pool)).status_error is None


async def test_a_receipt_with_bytes_left_over_ends_the_connection(settings) -> None:
    async with misbehaving(plain_with_surplus(OTHER_ANSWER), answering(body(STATUS))) as server:
        async with open_pool(settings()) as pool:
            async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings(), pool) as client:
                await client.send_usage(REPORT, "period-1")
            assert (await ask(server.url, settings(), pool)).status_error is None
        assert server.connections == 2


async def test_instances_at_once_share_as_many_connections_as_forks(tls: TlsFiles, settings) -> None:
    own = settings(ca_file=str(tls.ca), forks=3)

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        await answering(body(STATUS))(writer)

    async with misbehaving(slowly, tls=tls) as server, open_pool(own) as pool:
        views = await asyncio.gather(*(ask(server.url, own, pool) for _ in range(30)))
        assert [view.status_error for view in views] == [None] * 30
        assert (server.connections, len(server.requests)) == (3, 30)


async def test_the_wait_for_a_place_is_no_response_time(settings) -> None:
    """The last one waits for longer than a request may take, on a busy machine too."""
    own = settings(forks=1, total_s=2)

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await answering(body(STATUS))(writer)

    async with misbehaving(slowly) as server, open_pool(own) as pool:
        views = await asyncio.gather(*(ask(server.url, own, pool) for _ in range(5)))
    assert [view.status_error for view in views] == [None] * 5
    assert max(view.response_time_ms or 0 for view in views) < 2000


async def test_a_request_that_hangs_gives_its_place_away(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.connect import pool as connect_pool

    monkeypatch.setattr(connect_pool, "PATIENCE_S", 0.1)
    own = settings(forks=1, total_s=5)
    came, release = asyncio.Event(), asyncio.Event()

    async def hang(writer: asyncio.StreamWriter) -> None:
        came.set()
        await release.wait()
        await answering(body(STATUS))(writer)

    async with misbehaving(hang, answering(body(STATUS))) as server, open_pool(own) as pool:
        hung = asyncio.create_task(ask(server.url, own, pool))
        await came.wait()
        assert (await ask(server.url, own, pool)).status_error is None
        assert not hung.done()
        release.set()
        assert (await hung).status_error is None


async def test_a_further_connection_resumes_the_tls_session(tls: TlsFiles, settings) -> None:
    own = settings(ca_file=str(tls.ca))
    reused: list[bool] = []

    async def closing(writer: asyncio.StreamWriter) -> None:
        reused.append(writer.get_extra_info("ssl_object").session_reused)
        await answering(body(STATUS), headers={"Connection": "close"})(writer)

    async with misbehaving(closing, tls=tls) as server, open_pool(own) as pool:
        for _ in range(3):
            assert (await ask(server.url, own, pool)).status_error is None
    assert reused == [False, True, True]


@dataclass
class TestProxy:
    """A proxy that opens tunnels to `to`, whatever address is requested."""

    __test__ = False
    port: int = 0
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def proxying(
    to: Misbehaving, answer: bytes = b"HTTP/1.1 200 Tunnel\r\n\r\n", **more: Any
) -> AsyncIterator[TestProxy]:
    seen = TestProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer)
        if not answer.startswith(b"HTTP/1.1 200"):
            writer.close()
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", to.port)
        for source, sink in ((reader, outer), (inner, writer)):
            tasks.add(asyncio.create_task(pump(source, sink)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **more)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("secured", [False, True])
async def test_connect_is_asked_through_https_proxy(
    secured: bool, tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_tls(tmp_path, "connect.example", "127.0.0.1")
    said: list[str] = []
    own = settings(ca_file=str(files.ca), said=said.append)
    more: dict[str, Any] = {}
    if secured:
        more["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        more["ssl"].load_cert_chain(files.cert, files.key)
    async with misbehaving(answering(body(STATUS)), tls=files) as server, proxying(server, **more) as proxy:
        scheme = "https" if secured else "http"
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://me:p%40ss-canary@127.0.0.1:{proxy.port}")
        async with open_pool(own) as pool:
            for _ in range(2):
                view = await ask("https://connect.example/", own, pool)
                assert view.status_error is None
    assert (server.connections, len(server.requests), len(proxy.heads)) == (1, 2, 1)
    assert proxy.heads[0].startswith("CONNECT connect.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcy1jYW5hcnk=" in proxy.heads[0]
    assert KEY.reveal() not in proxy.heads[0]
    assert "Proxy-Authorization" not in server.requests[0]
    assert said == [f"Fi.V Connect at connect.example is asked through the proxy 127.0.0.1:{proxy.port} (HTTPS_PROXY)"]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", "connect_proxy", "it refuses the login in HTTPS_PROXY"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "connect_proxy", "it answered 302"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "connect_proxy", "it answered 503"),
        (b"SSH-2.0-canary\r\n\r\n", "connect_proxy", "its answer is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "connect_proxy", "it sent more than its answer"),
        (b"", "connect_proxy", "it closed the connection"),
    ],
)
async def test_a_proxy_that_refuses_is_named(
    answer: bytes, code: str, said: str, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with misbehaving(answering(body(STATUS))) as server, proxying(server, answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:canary@127.0.0.1:{proxy.port}")
        async with open_pool(settings()) as pool:
            view = await ask("https://connect.example", settings(), pool)
    assert view.status_error is not None
    assert (view.status_error.code, said in view.status_error.message) == (code, True)
    assert f"the proxy 127.0.0.1:{proxy.port}" in view.status_error.message
    assert "canary" not in repr(view.status_error)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_never_answers_is_named(scheme: str, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = settings(total_s=1.5)
    async with misbehaving(hanging) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        async with open_pool(own) as pool:
            view = await ask("https://connect.example", own, pool)
    assert view.status_error is not None
    assert (view.status_error.code, view.status_error.message) == (
        "connect_proxy",
        f"the proxy 127.0.0.1:{proxy.port} does not open a connection to Fi.V Connect: it did not answer within 1.5 s",
    )


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1"])
async def test_the_address_of_a_proxy_is_checked(address: str, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{address}:3128")
    async with open_pool(settings()) as pool:
        view = await ask("https://connect.example", settings(), pool)
    assert view.status_error is not None
    assert (view.status_error.code, "HTTPS_PROXY" in view.status_error.hint) == ("connect_address_refused", True)


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("socks5://127.0.0.1:1080", "HTTPS_PROXY names a socks5 proxy, which fivrec can't use"),
        ("socks5h://u:canary@127.0.0.1", "HTTPS_PROXY names a socks5h proxy, which fivrec can't use"),
        ("http://p /canary", "HTTPS_PROXY is not the URL of a proxy"),
        ("http://[::1", "HTTPS_PROXY is not the URL of a proxy"),
        ("http://u:canary@:80", "HTTPS_PROXY is not the URL of a proxy"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_78(
    variable: str, said: str, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", variable)
    async with open_pool(settings()) as pool:
        with pytest.raises(MissingSetting) as caught:
            await ask("https://connect.example", settings(), pool)
    assert (caught.value.message, caught.value.exit_code, caught.value.code) == (said, 78, "connect_proxy")
    assert "canary" not in caught.value.hint


@pytest.mark.parametrize(
    ("host", "exempt", "through"),
    [
        ("connect.example", "", True),
        ("connect.example", "connect.example", False),
        ("connect.example", "example", False),
        ("connect.example", ".example", False),
        ("connect.example", "*.example", False),
        ("connect.example", "other.example, CONNECT.example", False),
        ("connect.example", "other.example  connect.example third", False),
        ("connect.example", "connect.example:443", False),
        ("connect.example", "connect.example:8443", True),
        ("connect.example", "nect.example", True),
        ("connect.example", "*", False),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "192.168.0.0/16,10.1.2.3", False),
        ("fd12::9", "[fd12::9]:443", False),
        ("localhost", "", False),
        ("connect.localhost", "", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
    ],
)
def test_what_goes_through_the_proxy(host: str, exempt: str, through: bool) -> None:
    found = find_proxy(Endpoint("https", host, 443), {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": exempt})
    assert found == (Proxy(Endpoint("http", "proxy.example", 3128)) if through else None)


def test_http_and_an_empty_variable_mean_no_proxy() -> None:
    https, http = Endpoint("https", "connect.example", 443), Endpoint("http", "connect.example", 80)
    assert find_proxy(http, {"HTTPS_PROXY": "http://p"}) is None
    assert find_proxy(https, {"HTTPS_PROXY": "", "HTTP_PROXY": "http://p"}) is None
    assert find_proxy(https, {"https_proxy": "http://low", "HTTPS_PROXY": "http://UP"}) == Proxy(
        Endpoint("http", "low", 80)
    )


def replace_file(source: Path, target: Path) -> None:
    draft = target.with_name(target.name + ".new")
    draft.write_bytes(source.read_bytes())
    draft.replace(target)


async def test_a_ca_file_that_changes_counts_at_the_next_request(tmp_path: Path, settings) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (make_tls(folder) for folder in folders)
    trusted = tmp_path / "ca.pem"
    replace_file(first.ca, trusted)
    own = settings(ca_file=str(trusted), tries=1)
    async with misbehaving(answering(body(STATUS)), tls=first) as server, open_pool(own) as pool:
        assert (await ask(server.url, own, pool)).status_error is None
        replace_file(second.ca, trusted)  # the first CA is no longer trusted
        view = await ask(server.url, own, pool)
        assert view.status_error is not None
        assert view.status_error.code == "connect_tls"
        trusted.write_text("")
        broken = await ask(server.url, own, pool)
        assert broken.status_error is not None
        assert (broken.status_error.code, "can't be used" in broken.status_error.message) == ("connect_tls", True)
        trusted.unlink()
        os.mkfifo(trusted)
        piped = await ask(server.url, own, pool)
        assert piped.status_error is not None
        assert piped.status_error.message == f"{trusted} is a pipe or a device, which can't be read again"
        replace_file(first.ca, trusted)
        assert (await ask(server.url, own, pool)).status_error is None


def hash_name(ca: Path) -> str:
    """Returns the name under which OpenSSL looks for the CA in a folder."""
    words = ["openssl", "x509", "-hash", "-noout", "-in", str(ca)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() + ".0"


@pytest.mark.parametrize("way", ["taken out", "emptied", "replaced", "its target taken out"])
async def test_a_ca_taken_out_of_a_folder_counts_no_more(way: str, tmp_path: Path, settings, monkeypatch) -> None:
    """In the second folder of SSL_CERT_DIR: writing to a file does not change its folder's times."""
    folders = [tmp_path / name for name in ("one", "two", "in-front", "trusted")]
    for folder in folders:
        folder.mkdir()
    first, second = (make_tls(folder) for folder in folders[:2])
    target = tmp_path / "target.pem"
    replace_file(first.ca, target)
    trusted = folders[3] / hash_name(first.ca)
    if way == "its target taken out":
        trusted.symlink_to(target)
    else:
        replace_file(first.ca, trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", f"{folders[2]}:{folders[3]}")
    monkeypatch.setattr(trust, "FOLDERS_S", 0.0)
    own = settings(tries=1)
    async with misbehaving(answering(body(STATUS)), tls=first) as server, open_pool(own) as pool:
        assert (await ask(server.url, own, pool)).status_error is None
        removing: dict[str, Callable[[], object]] = {
            "taken out": trusted.unlink,
            "emptied": lambda: trusted.write_text(""),
            "replaced": lambda: trusted.write_bytes(second.ca.read_bytes()),
            "its target taken out": target.unlink,
        }
        removing[way]()
        view = await ask(server.url, own, pool)
        assert view.status_error is not None
        assert view.status_error.code == "connect_tls"


THEIRS = {"price": 100, "currency": "BRL", "billingInterval": "monthly", "features": []}


def said(value: Any, status: int = 200) -> bytes:
    content = body(value)
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


@dataclass
class LatePanel:
    """Answers each instance correctly, then sends `surplus` before it reads the next request."""

    surplus: bytes
    url: str = ""
    connections: int = 0
    reports: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                name = head.partition("X-Instance-Key: key-of-")[2].partition("\r\n")[0]
                writer.write(self.answer(head.split(" ")[1], name))
                await writer.drain()
                await asyncio.sleep(0.06)  # longer than a connection is left to rest
                writer.write(self.surplus)
                await writer.drain()

    def answer(self, path: str, name: str) -> bytes:
        if path.endswith("/plans"):
            return said([{**THEIRS, "id": f"plan-of-{name}", "name": "X"}])
        if path.endswith("/databases"):
            return said([])
        if path.endswith("/usage"):
            self.reports += 1
            return said({}, 201)
        return said({**STATUS, "instanceId": name})


@asynccontextmanager
async def late_panel(surplus: bytes) -> AsyncIterator[LatePanel]:
    panel = LatePanel(surplus)
    server = await asyncio.start_server(panel.serve, "127.0.0.1", 0)
    panel.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield panel
    finally:
        server.close()


LATE = {
    "plans": said([{**THEIRS, "id": "plan-of-others", "name": "X"}]),
    "status": said({**STATUS, "instanceId": "others"}),
    "status of one of them": said({**STATUS, "instanceId": "client-3", "status": "suspended"}),
    "nothing": said([]),
    "not configured": said({}, 404),
    "a fault": said({}, 500),
    "receipt": said({}, 201),
    "a letter": b"x",
}


@pytest.mark.parametrize("surplus", LATE)
@pytest.mark.parametrize("forks", [1, 3])
async def test_bytes_that_come_after_the_next_request_are_nobodys(surplus: str, forks: int, settings) -> None:
    own = settings(forks=forks)

    async def ask_both(name: str) -> tuple[Any, Any]:
        async with open_client(ConnectTarget(panel.url, Secret(f"key-of-{name}")), name, own, pool) as client:
            view = await client.fetch_view(plans=True)
        status = view.status and (view.status.instance_id, view.status.status)
        return status, view.plans and [plan.id for plan in view.plans]

    names = [f"client-{number}" for number in range(5)]
    async with late_panel(LATE[surplus]) as panel, open_pool(own) as pool:
        found = await asyncio.gather(*(ask_both(name) for name in names))
    assert found == [((name, "active"), [f"plan-of-{name}"]) for name in names]


@pytest.mark.parametrize("surplus", LATE)
async def test_bytes_that_come_late_are_no_receipt(surplus: str, settings) -> None:
    own = settings(forks=1)
    async with (
        late_panel(LATE[surplus]) as panel,
        open_pool(own) as pool,
        open_client(ConnectTarget(panel.url, Secret(f"key-of-{INSTANCE}")), INSTANCE, own, pool) as client,
    ):
        for number in range(3):
            assert (await client.fetch_view(plans=False)).status_error is None
            await client.send_usage(REPORT, f"period-{number}")
            assert panel.reports == number + 1


async def test_connections_stay_shared_if_no_bytes_are_left_over(settings) -> None:
    own = settings(forks=2)
    async with late_panel(b"") as panel, open_pool(own) as pool:
        for name in ("a", "b", "c"):
            async with open_client(ConnectTarget(panel.url, Secret(f"key-of-{name}")), name, own, pool) as client:
                view = await client.fetch_view(plans=True)
                await client.fetch_plans()
                await client.fetch_databases()
            assert (view.status_error, view.plans_error) == (None, None)
    assert panel.connections == 2


async def test_instances_that_begin_at_once_open_no_connection_too_many(settings) -> None:
    own = settings(forks=2)

    async def ask_both(name: str) -> ConnectView:
        async with open_client(ConnectTarget(panel.url, Secret(f"key-of-{name}")), name, own, pool) as client:
            return await client.fetch_view(plans=True)

    async with late_panel(b"") as panel, open_pool(own) as pool:
        views = await asyncio.gather(*(ask_both(name) for name in "abcdef"))
    assert [(view.status_error, view.plans_error) for view in views] == [(None, None)] * 6
    assert panel.connections == 2
