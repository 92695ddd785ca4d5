"""Alerts to receivers: grouped, none lost without being counted, a receiver's fault named correctly."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.notifying import Receivers
from reconciler.connect.pool import ConnectPool
from reconciler.connect.transport import PinnedTransport
from reconciler.model.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.support.log import EventLog
from reconciler.support.network import Endpoint
from reconciler.support.quiet_log import QuietLog
from reconciler.watch.notify import HOLD_S, MOST_KEPT, SOON, WINDOW_S, Notifier, document
from reconciler.watch.receivers import Answer, AppriseReceiver, Webhook, build_request, check_url
from tests.support.connect_running import TlsFiles, make_tls
from tests.support.listening import closed_port

Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


class ListReceiver:
    """Accepts posts once `let` is set; `answers` are returned first."""

    def __init__(self, *answers: Answer, option: str = "--notify-url") -> None:
        self.option = option
        self.answers = list(answers)
        self.posts: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()

    async def post(self, document: dict[str, Any]) -> Answer:
        self.posts.append(document)
        self.came.set()
        await self.let.wait()
        return self.answers.pop(0) if self.answers else Answer(taken=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def quiet() -> EventLog:
    return EventLog(stream=io.StringIO())


def alert(instance: str | None, name: str = "suspended", **more: Any) -> dict[str, Any]:
    return {"alert": name, "instance": instance, "message": f"{name}!", "level": "warning", **more}


async def test_alerts_dropped_during_a_post_are_counted_in_the_next() -> None:
    receiver = ListReceiver()
    receiver.let.clear()
    notifier = Notifier((receiver,), quiet())
    for number in range(10):
        notifier.hear(alert(f"a{number}", message=f"m{number}"))
    posting = asyncio.create_task(notifier.flush())
    await receiver.came.wait()
    for number in range(MOST_KEPT + 25):  # 10 of the first post's and 25 of these are dropped
        notifier.hear(alert(f"b{number}"))
    receiver.let.set()
    await posting
    await notifier.flush()
    first, second = receiver.posts
    assert (len(first["alerts"]), len(second["alerts"])) == (10, MOST_KEPT)
    assert second["alerts"][0]["instance"] == "b25"
    assert second["text"].endswith("\n… and 25 more")
    await notifier.flush()
    assert (len(receiver.posts), notifier.waiting) == (2, 0)
    notifier.hear(alert("c"))
    await notifier.flush()
    assert receiver.posts[2]["text"] == "c: suspended!"  # reports those 25


async def test_dropped_alerts_come_back_from_where_they_are_stored() -> None:
    receiver = ListReceiver()
    notifier = Notifier((receiver,), quiet())
    for number in range(MOST_KEPT + 1):
        notifier.hear(alert("a", alert_id=str(number)))
    await notifier.flush()
    notifier.take([alert("a", alert_id="0"), alert("a", alert_id="1")])
    assert (notifier.waiting, len(receiver.posts[0]["alerts"])) == (2, MOST_KEPT)


async def test_events_that_are_not_alerts_are_not_posted() -> None:
    notifier = Notifier((ListReceiver(),), quiet())
    notifier.hear({"level": "error", "message": "the check failed"})
    assert notifier.waiting == 0


@pytest.mark.parametrize(("levels", "level"), [(["info"], "info"), (["info", "warning"], "warning")])
def test_a_post_is_good_news_if_all_of_it_is(levels: list[str], level: str) -> None:
    assert document([alert("a", level=one) for one in levels])["level"] == level


def test_alerts_without_an_instance_are_listed_separately() -> None:
    found = document([alert(None, "recovered", message="well again"), alert("a", "recovered", message="well again")])
    assert found["text"] == "well again\na: well again"


def test_what_hits_many_is_one_line_with_a_count_and_first_names() -> None:
    found = document([alert(f"c{number}", "connect_unreachable", error="connect_http_error") for number in range(50)])
    assert found["text"] == "50 instances: connect_unreachable! (c0, c1, c2, c3, c4 and 45 more)"
    (group,) = found["groups"]
    assert (group["alert"], group["count"], len(group["instances"])) == ("connect_unreachable", 50, 50)
    assert [one["instance"] for one in found["alerts"]] == [f"c{number}" for number in range(50)]


def test_alerts_left_by_an_earlier_run_are_sorted_by_time() -> None:
    found = document([alert("new", timestamp="2026-10-01T12:00:01Z"), alert("old", timestamp="2026-10-01T12:00:00Z")])
    assert [one["instance"] for one in found["alerts"]] == ["old", "new"]


def test_drift_is_of_one_cause_whatever_drifted() -> None:
    found = document([alert(name, "drift_repaired", message=f"queue/{name}") for name in ("a", "b")])
    assert (found["text"], len(found["groups"])) == ("a: queue/a\nb: queue/b", 1)


def test_a_line_says_of_no_instance_what_is_true_of_another() -> None:
    few = [alert(f"c{number}", "drift_found", message=f"queue/{number % 2}") for number in range(4)]
    assert document(few)["text"] == "2 instances: queue/0 (c0, c2)\n2 instances: queue/1 (c1, c3)"
    many = document([alert(f"c{number}", "failing", error="guard", message=f"accept {number}") for number in range(50)])
    assert many["text"] == "50 instances, such as c49: accept 49 (c0, c1, c2, c3, c4 and 45 more)"
    assert len(many["groups"]) == 1


def test_a_post_has_for_programs_what_they_need() -> None:
    known = {"timestamp": "2026-10-01T12:00:00Z", "received": {"status": "active"}, "response_time_ms": 41}
    known |= {"run_id": "run-1", "commit": "abc", "alert_id": "1", "error": "connect_timeout"}
    found = document([alert("a", "connect_unreachable", success=False, **known)])
    assert found["alerts"] == [alert("a", "connect_unreachable", **known)]
    assert found["groups"] == [
        {"alert": "connect_unreachable", "count": 1, "instances": ["a"], "error": "connect_timeout"}
    ]


async def test_an_outage_that_spreads_over_an_hour_is_a_few_posts() -> None:
    receiver, clock = ListReceiver(), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    for number in range(200):  # a slot every 18 s
        clock.now += 18
        notifier.hear(alert(f"c{number}", "connect_unreachable", error="connect_timeout"))
        clock.now += 3
        if lane.due() <= clock.now:
            await lane.post_waiting()
    clock.now += HOLD_S
    assert lane.due() <= clock.now
    await lane.post_waiting()
    assert sum(len(post["alerts"]) for post in receiver.posts) == 200
    assert len(receiver.posts) <= SOON + 200 * 21 / HOLD_S + 1


async def test_a_suspension_does_not_wait_for_an_outage() -> None:
    receiver, clock = ListReceiver(), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    for number in range(SOON + 1):
        notifier.hear(alert(f"c{number}", "connect_unreachable"))
        clock.now += 10
        if number < SOON:
            await lane.post_waiting()
    assert lane.due() > clock.now
    notifier.hear(alert("other"))
    clock.now += 2
    assert lane.due() <= clock.now
    await lane.post_waiting()
    assert [one["alert"] for one in receiver.posts[-1]["alerts"]] == ["connect_unreachable", "suspended"]


async def test_suspensions_are_never_held() -> None:
    receiver, clock = ListReceiver(), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    for number in range(SOON + 2):
        notifier.hear(alert(f"c{number}"))
        clock.now += 10
        assert lane.due() <= clock.now
        await lane.post_waiting()


async def test_a_post_of_long_ago_holds_nothing() -> None:
    receiver, clock = ListReceiver(), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    for wait in (0.0, WINDOW_S - 100.0, 101.0):
        clock.now += wait
        notifier.hear(alert("a", "connect_unreachable"))
        clock.now += 2
        assert lane.due() <= clock.now
        await lane.post_waiting()


async def test_a_failing_receiver_is_retried_ever_later_until_it_accepts() -> None:
    away = Answer(taken=False, again=True, why="refused")
    receiver, clock = ListReceiver(away, away, away, Answer(taken=True), away), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    waits = []
    for _ in range(5):
        notifier.hear(alert("a"))
        clock.now += 10
        await lane.post_waiting()
        waits.append(lane.due() - clock.now if lane.entries else 0.0)
    assert [low <= wait <= 2 * low for low, wait in zip((1, 2, 4, 0, 1), waits, strict=True)] == [True] * 5


async def test_a_final_refusal_is_logged_and_not_posted_again() -> None:
    log, receiver = quiet(), ListReceiver(Answer(taken=False, again=False, why="it answered 400"))
    notifier = Notifier((receiver,), log)
    notifier.hear(alert("a"))
    notifier.hear(alert("b"))
    await notifier.flush()
    await notifier.flush()
    assert len(receiver.posts) == 1
    assert (
        "did not take them: it answered 400; 2 alerts will never reach it: correct its address or rights"
        in log.stream.getvalue()
    )  # type: ignore[attr-defined]


async def test_an_instance_of_its_own_recovers_beside_an_outage() -> None:
    """The posts used by an outage's end are not those of another recovery."""
    receiver, clock = ListReceiver(), Clock()
    notifier = Notifier((receiver,), quiet(), clock=clock)
    (lane,) = notifier._lanes
    for number in range(SOON):
        notifier.hear(alert(f"c{number}", "recovered", message="Fi.V Connect answers again"))
        clock.now += 10
        await lane.post_waiting()
    notifier.hear(alert("other", "recovered", message="reconciled again (it was database_unreachable)"))
    clock.now += 2
    assert lane.due() <= clock.now


async def test_each_receivers_fault_is_logged() -> None:
    """A repeated error is logged once in 5 minutes; another receiver's, or another fault of the same one, is a new
    error."""
    log = QuietLog(stream=io.StringIO())
    busy, slow, away = (Answer(False, True, f) for f in ("it answered 503", "no answer in 10 s", "refused"))
    one = ListReceiver(busy, busy, away, option="--notify-url, number 1")
    other = ListReceiver(slow, slow, slow, option="--notify-url, number 2")
    notifier = Notifier((one, other), log)
    notifier.hear(alert("a"))
    for _ in range(3):
        await notifier.flush()
    begin = "⚠️ a receiver of alerts (--notify-url, number"
    assert log.stream.getvalue().splitlines() == [
        f"{begin} 1) did not take them: it answered 503; they are sent again later",
        f"{begin} 2) did not take them: no answer in 10 s; they are sent again later",
        f"{begin} 1) did not take them: refused; they are sent again later",
    ]


async def test_each_receiver_is_served_on_its_own_and_then_it_is_marked() -> None:
    broken, well = ListReceiver(Answer(taken=False, again=True, why="it answered 500")), ListReceiver()
    marked: list[tuple[str, tuple[str, ...]]] = []

    async def settle(instance: str, ids: Any) -> None:
        marked.append((instance, tuple(ids)))

    log = quiet()
    notifier = Notifier((broken, well), log, settle=settle)
    notifier.hear(alert("a", alert_id="1"))
    await notifier.flush()
    assert (len(well.posts), marked, notifier.waiting) == (1, [], 1)
    notifier.take([alert("a", alert_id="1")])  # it is on its way already
    await notifier.flush()
    assert (len(broken.posts), len(well.posts), marked) == (2, 1, [("a", ("1",))])
    assert "(--notify-url) did not take them: it answered 500" in log.stream.getvalue()  # type: ignore[attr-defined]


async def test_alerts_that_cannot_be_marked_are_not_posted_again() -> None:
    receiver, failing = ListReceiver(), [True]

    async def settle(instance: str, ids: Any) -> None:
        if failing.pop():
            raise OSError

    notifier = Notifier((receiver,), quiet(), settle=settle)
    notifier.hear(alert("a", alert_id="1"))
    await notifier.flush()
    notifier.take([alert("a", alert_id="1")])
    failing.append(False)
    await notifier.flush()
    assert len(receiver.posts) == 1


async def test_a_database_that_is_away_keeps_no_other_from_being_marked() -> None:
    marked: list[str] = []

    async def settle(instance: str, ids: Any) -> None:
        if instance == "a":
            raise OSError
        marked.append(instance)

    notifier = Notifier((ListReceiver(),), quiet(), settle=settle)
    for instance in ("a", "b"):
        notifier.hear(alert(instance))
    await notifier.flush()
    assert (marked, await notifier.settle_delivered()) == (["b"], False)


async def test_alerts_delivered_during_marking_are_marked_next() -> None:
    marked: list[tuple[str, ...]] = []

    async def settle(instance: str, ids: Any) -> None:
        marked.append(tuple(ids))
        if len(marked) == 1:
            notifier.hear(alert("a", alert_id="2"))
            await notifier._lanes[0].post_waiting()

    notifier = Notifier((ListReceiver(),), quiet(), settle=settle)
    notifier.hear(alert("a", alert_id="1"))
    await notifier.flush()
    await notifier.flush()
    assert marked == [("1",), ("2",)]
    notifier.take([alert("a", alert_id="1")])  # the database was restored to an earlier time
    assert notifier.waiting == 1


async def test_what_could_not_be_marked_is_tried_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.watch.notify.retry_delay", lambda *_: 0.01)
    tries, marked = [True, False], asyncio.Event()

    async def settle(instance: str, ids: Any) -> None:
        if tries.pop(0):
            raise OSError
        marked.set()

    clock = Clock()
    notifier = Notifier((ListReceiver(),), quiet(), settle=settle, clock=clock)
    notifier.hear(alert("a"))
    clock.now += 10
    running = asyncio.create_task(notifier.run())
    async with asyncio.timeout(60):
        await marked.wait()
    running.cancel()


async def test_a_post_that_is_under_way_at_the_end_is_not_repeated() -> None:
    """SIGTERM comes while the receiver, which already has the post, has yet to answer."""

    class Slow(ListReceiver):
        async def post(self, document: dict[str, Any]) -> Answer:
            got.set()
            await asyncio.sleep(0.2)
            return await super().post(document)

    got, receiver = asyncio.Event(), Slow()
    notifier = Notifier((receiver,), quiet())
    notifier.hear(alert("a"))
    running = asyncio.create_task(notifier.run())
    await got.wait()
    running.cancel()
    notifier.hear(alert("b"))
    await notifier.flush()
    assert [[item["instance"] for item in document["alerts"]] for document in receiver.posts] == [["a"], ["b"]]
    assert notifier.waiting == 0


async def test_a_post_that_outlasts_the_end_is_given_up() -> None:
    given_up = asyncio.Event()

    class Silent(ListReceiver):
        async def post(self, document: dict[str, Any]) -> Answer:
            end.reschedule(0)
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
            raise AssertionError

    notifier = Notifier((Silent(),), quiet())
    notifier.hear(alert("a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as end:
            await notifier.flush()
    async with asyncio.timeout(60):
        await given_up.wait()
    assert notifier.waiting == 1


async def test_a_fault_that_nobody_foresaw_ends_no_lane() -> None:
    class Faulty(ListReceiver):
        async def post(self, document: dict[str, Any]) -> Answer:
            await super().post(document)
            raise RuntimeError("hook-secret")

    faulty, well, log = Faulty(), ListReceiver(), quiet()
    notifier = Notifier((faulty, well), log, clock=Clock())
    running = asyncio.create_task(notifier.run())
    notifier.hear(alert("a"))
    notifier.clock.now += 10  # type: ignore[attr-defined]
    notifier.hear(alert("b"))
    async with asyncio.timeout(60):
        await faulty.came.wait()
        await well.came.wait()
        while "notify" not in log.stream.getvalue():  # type: ignore[attr-defined]
            await asyncio.sleep(0)
    assert (running.done(), len(faulty.posts), notifier.waiting) == (False, 1, 2)
    running.cancel()
    said = log.stream.getvalue()  # type: ignore[attr-defined]
    assert ("RuntimeError; they are sent again later" in said, "hook-secret" in said) == (True, False)


@asynccontextmanager
async def http_server(respond: Respond) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await respond(writer)
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _read_post(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.split(b":")[1]))


async def posted(port: int) -> Answer:
    url = check_url(f"http://127.0.0.1:{port}/hook-secret")
    return await Webhook(url, PinnedTransport()).post({"text": "x"})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(taken=True)),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Answer(False, False, "it answered 404")),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Answer(False, True, "it answered 503")),
        (
            b"HTTP/1.1 302 Found\r\nLocation: https://x.example/\r\nContent-Length: 0\r\n\r\n",
            Answer(False, False, "it answered 302 (a redirect, which is not followed)"),
        ),
        (b"SMTP ready\r\n\r\n", Answer(False, True, "its answer is not HTTP/1.1")),
    ],
)
async def test_a_receivers_fault_is_named_as_what_it_is(answer: bytes, expected: Answer) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with http_server(respond) as port:
        assert await posted(port) == expected


@asynccontextmanager
async def https_server(tls: TlsFiles) -> AsyncIterator[int]:
    """Accepts every post."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_post(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_connects_own_ca_takes_the_systems_from_no_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--ca-file is for trusting Connect: a public webhook has a publicly trusted certificate, an internal one may have
    one by Connect's CA."""
    made = {}
    for name in ("public", "own", "stranger"):
        (tmp_path / name).mkdir()
        made[name] = make_tls(tmp_path / name)
    monkeypatch.setenv("SSL_CERT_FILE", str(made["public"].ca))
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(made["own"].ca.read_bytes())
    pool = ConnectPool(str(trusted))

    async def is_taken(name: str) -> bool:
        async with https_server(made[name]) as port:
            url = check_url(f"https://localhost:{port}/hook")
            notifier = Receivers((url,)).build_notifier(pool, quiet())
            assert notifier is not None
            return (await notifier.receivers[0].post({"text": "x"})).taken

    assert [await is_taken(name) for name in made] == [True, True, False]
    trusted.write_bytes(made["stranger"].ca.read_bytes())
    assert [await is_taken(name) for name in made] == [True, False, True]
    trusted.unlink()
    assert [await is_taken(name) for name in made] == [True, False, False]
    await pool.aclose()


async def test_each_post_has_a_connection_of_its_own() -> None:
    """HTTP/1.1 numbers nothing: on a kept connection, a post's response may be a late one to the previous post."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        answer = b"204 No Content" if connections == 1 else b"503 Busy"
        await _read_post(reader)
        writer.write(b"HTTP/1.1 " + answer + b"\r\n\r\n")
        if connections == 1:
            await reader.read()  # until it is closed
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hook, transport = check_url(f"http://127.0.0.1:{port}/"), PinnedTransport()
    assert [(await Webhook(hook, transport).post({"text": "x"})).taken for _ in range(2)] == [True, False]
    assert (connections, transport.has_kept(Endpoint("http", "127.0.0.1", port))) == (2, False)
    server.close()


async def test_a_receiver_that_is_not_there_is_named_without_its_path() -> None:
    with closed_port() as port:
        assert await posted(port) == Answer(False, True, f"127.0.0.1:{port} refused the connection")


async def test_no_more_than_64_kib_of_an_answer_are_read() -> None:
    sent = 0

    async def respond(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with http_server(respond) as port:
        assert await posted(port) == Answer(taken=True)
    assert sent < 64 * 1024 * 1024


async def _post_at_once(*alerts: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many alerts still wait after one post to a webhook, and what was posted."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await _read_post(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = check_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    notifier = Notifier((Webhook(url, PinnedTransport()),), quiet())
    for one in alerts:
        notifier.hear(one)
    await notifier.flush()
    server.close()
    (posted,) = [json.loads(head) for head in heads]
    return notifier.waiting, posted


async def test_a_name_that_is_not_utf8_holds_no_alert_back() -> None:
    broken = alert(None, "manifest_broken", message="m/caf\udce9.yaml is broken", received={"status": "\ud800"})
    waiting, posted = await _post_at_once(broken, alert("a"))
    assert (waiting, posted["text"].splitlines()[0]) == (0, "m/caf\\udce9.yaml is broken")


async def test_names_in_a_post_make_no_link_in_markdown() -> None:
    name = "queue/[unlock](https://evil.example) ![x][1]\n[1]: https://evil.example"
    _, posted = await _post_at_once(alert("a", "drift_repaired", message=name))
    assert posted["text"] == (
        "a: queue/[unlock]\u200b(https://evil.example) ![x]\u200b[1]\n  [1]\u200b: https://evil.example"
    )
    assert posted["alerts"][0]["message"] == name


async def test_names_in_a_post_call_nobody_and_look_like_no_other_alert() -> None:
    name = "queue/<!channel> <https://evil.example|unlock> @here a@all.com\x1b\u202e\nb: ✅ recovered & paid"
    _, posted = await _post_at_once(alert("a", "drift_repaired", message=name))
    assert posted["text"] == (
        "a: queue/&lt;!channel&gt; &lt;https://evil.example|unlock&gt; @\u200bhere a@all.com\\x1b\\u202e\n"
        "  b: ✅ recovered &amp; paid"
    )
    assert posted["alerts"][0]["message"] == name


BODIES = {
    "never ends": b"Content-Length: 9\r\n\r\n",
    "is cut off": b"Content-Length: 9\r\n\r\nabc",
    "is broken": b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    "is no gzip": b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("head", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    ("status", "expected"),
    [("200 OK", Answer(taken=True)), ("503 Busy", Answer(False, True, "it answered 503"))],
)
async def test_a_status_counts_whatever_becomes_of_its_body(
    head: bytes, status: str, expected: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.watch.receivers.POST_S", 2.0)  # the status has to come within it
    gone = asyncio.Event()

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n".encode() + head)
        if head == BODIES["never ends"]:
            await gone.wait()

    async with http_server(respond) as port:
        assert await posted(port) == expected
        gone.set()


async def test_an_answer_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.watch.receivers.POST_S", 0.2)
    gone = asyncio.Event()

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200")
        await gone.wait()

    async with http_server(respond) as port:
        assert await posted(port) == Answer(False, True, "no answer within 0.2 s")
        gone.set()


async def test_apprise_sends_what_it_knows_and_hides_its_own_words(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("apprise")
    bodies: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiver = AppriseReceiver(Secret(f"json://user:hunter2@127.0.0.1:{port}/hook"))
    assert await receiver.post(document([alert("client-a")])) == Answer(taken=True)
    mail = AppriseReceiver(Secret(f"json://127.0.0.1:{port}/hook?format=html"))  # mail, for example, is HTML
    assert await mail.post(document([alert("<i>"), alert("b", "overdue")])) == Answer(taken=True)
    server.close()
    first, second = bodies
    assert (first["title"], first["message"], first["type"]) == ("fivrec", "client-a: suspended!", "warning")
    assert (second["message"].startswith("&lt;i&gt;:"), "<br" in second["message"]) == (True, True)
    failed = await receiver.post(document([alert("client-a")]))
    assert failed == Answer(False, True, "Apprise could not send it")
    with pytest.raises(UsageError, match="not a URL that Apprise knows"):
        AppriseReceiver(Secret("no-such-thing://hunter2"))
    assert "hunter2" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/x", "https://a.example.com/x\nhttps://b.example.com/x", "https://a b/x", "https:"]
)
def test_a_webhook_in_the_open_or_of_no_use_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--notify-url is not an https:// URL"):
        check_url(url)


def test_the_password_in_a_hooks_url_is_sent_as_basic_authentication() -> None:
    asked = build_request(check_url("https://user:p%40ss@bücher.example:8443/hook?a=é"), {"text": "x"})
    headers = {name.lower(): value for name, value in asked.headers}
    assert (asked.endpoint, asked.target) == (Endpoint("https", "xn--bcher-kva.example", 8443), b"/hook?a=%C3%A9")
    assert headers[b"authorization"] == b"Basic " + base64.b64encode(b"user:p@ss")
    assert (headers[b"host"], headers[b"content-length"]) == (b"xn--bcher-kva.example:8443", b"12")
    assert asked.body == b'{"text":"x"}'
