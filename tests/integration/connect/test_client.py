"""The client against servers that answer well, badly, slowly, or not at all. Real sockets, real TLS."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reconciler import __version__
from reconciler.connect import transport
from reconciler.connect.client import embedded_key, open_client
from reconciler.connect.errors import network_fault
from reconciler.connect.pool import ConnectSettings, open_pool
from reconciler.model.errors import ConnectError, MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectPlan, ConnectTarget, ConnectView, ErrorInfo, InstanceStatus
from tests.support.connect_running import ConnectServer, TlsFiles, make_tls
from tests.support.connect_server import (
    STATUS,
    Behaviour,
    answering,
    body,
    dripping,
    hanging,
    misbehaving,
    packed,
    raw,
    then_closing,
)
from tests.support.listening import closed_port

pytest_plugins = ("tests.support.connect_fixture",)

ROOT = Path(__file__).resolve().parents[3]
INSTANCE = "client-abc-123"
KEY = Secret("k-canary-7f3a9")
PAID = InstanceStatus(INSTANCE, "active", "paid", {"ai_agent": False, "chat": True, "chatbot": True})
STARTER = ConnectPlan(
    "plan_starter",
    "Starter",
    2900,
    "monthly",
    ("basic_chat", "email_support"),
    "Basic plan for small businesses",
    max_users=2,
    max_conversations=50,
    storage_limit=500,
    stripe_product_id="prod_starter",
    stripe_price_id="price_starter",
)
REPORT = {
    "instanceId": INSTANCE,
    "totalUsers": 5,
    "totalConversations": 150,
    "totalClients": 75,
    "totalQueues": 3,
    "activeConversations": 12,
    "environment": "production",
    "lastActivity": "2025-08-29T20:50:00Z",
    "features": {"chat": True, "chatbot": True, "ai_agent": False},
}


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., ConnectSettings]:
    def make(**changed: Any) -> ConnectSettings:
        usual: dict[str, Any] = {"ca_file": None, "production": False, "work_dir": tmp_path, "backoff_s": 0.01}
        return ConnectSettings(**{**usual, **changed})

    return make


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def view_of(url: str, settings: ConnectSettings, *, plans: bool = False, key: Secret = KEY) -> ConnectView:
    async with open_client(ConnectTarget(url, key), INSTANCE, settings) as client:
        return await client.fetch_view(plans=plans)


async def problem_with(*behaviours: Behaviour, settings: ConnectSettings) -> tuple[ErrorInfo, int]:
    """Returns the status error that these responses cause, and how many requests were sent."""
    async with misbehaving(*behaviours) as server:
        view = await view_of(server.url, settings)
        assert view.status is None
        assert view.status_error is not None
        return view.status_error, len(server.requests)


async def test_status_and_plans_come_over_tls_with_a_ca_of_ones_own(connect_server: ConnectServer, settings) -> None:
    own = settings(ca_file=connect_server.ca_file, production=True)
    async with open_client(connect_server.target(INSTANCE), INSTANCE, own) as client:
        view = await client.fetch_view(plans=True)
        assert (view.status, view.received) == (PAID, "active")
        assert view.plans is not None
        assert [(plan.id, plan.price, plan.storage_limit) for plan in view.plans] == [
            ("plan_enterprise", 29900, 20000),
            ("plan_professional", 9900, 5000),
            ("plan_starter", 2900, 500),
        ]
        assert view.plans[2] == STARTER
        assert (view.status_error, view.plans_error) == (None, None)
        assert view.response_time_ms is not None
        assert await client.fetch_plans() == view.plans
        (database,) = await client.fetch_databases()
        assert (database.id, database.database, database.port) == (
            "db_client-abc-123_main",
            "fivapp_client-abc-123",
            5432,
        )


async def test_every_request_carries_the_documented_headers(settings) -> None:
    async with misbehaving(answering(body(STATUS)), tls=None) as server:
        await view_of(server.url, settings())
        assert server.requests[0].startswith("GET /api/v1/instances/status HTTP/1.1\r\n")
        headers = ("X-Instance-Key", "Authorization", "Content-Type", "User-Agent", "Host", "Cookie")
        assert [server.header(name) for name in headers] == [
            KEY.reveal(),
            f"Bearer {KEY.reveal()}",
            "application/json",
            f"fivrec/{__version__}",
            f"127.0.0.1:{server.port}",
            None,
        ]


async def test_a_base_path_is_kept_and_an_instance_is_encoded(settings) -> None:
    async with misbehaving(answering(b"[]")) as server:
        target = ConnectTarget(server.url + "/connect/", KEY)
        async with open_client(target, "a.b-c", settings()) as client:
            assert await client.fetch_databases() == ()
        assert server.requests[0].startswith("GET /connect/api/v1/instances/a.b-c/databases HTTP/1.1\r\n")


async def test_status_and_plans_are_asked_side_by_side(settings) -> None:
    both = asyncio.Event()
    waiting: list[asyncio.StreamWriter] = []

    async def answer_when_both_ask(writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        await answering(b"[]")(writer)

    async with misbehaving(answer_when_both_ask) as server:
        await view_of(server.url, settings(), plans=True)
    assert sorted(line.split()[1] for line in server.requests) == ["/api/v1/instances/status", "/api/v1/plans"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (answering(b"{}", 404), "connect_not_configured"),
        (answering(body({**STATUS, "status": "frozen"})), "connect_unknown_status"),
        (answering(body({**STATUS, "instanceId": "client-of-others"})), "connect_wrong_instance"),
    ],
)
async def test_plans_beside_no_status_are_not_known(status: Behaviour, code: str, settings) -> None:
    """A list of plans names no instance: only the status says whose key was used."""

    async def by_path(writer: asyncio.StreamWriter) -> None:
        await (answering(body([PLAN])) if "/plans " in server.requests[-1] else status)(writer)

    async with misbehaving(by_path) as server:
        view = await view_of(server.url, settings(), plans=True)
    assert (view.status, view.plans) == (None, None)
    assert view.status_error is not None
    assert (view.status_error.code, view.plans_error) == (code, view.status_error)


DENIED = "Missing instance key: Fi.V Connect API returned 401"


@pytest.mark.parametrize(
    ("behaviour", "code", "said", "asked"),
    [
        (answering(b"{}", 401), "connect_denied", DENIED, 1),
        (answering(b"{}", 403), "connect_denied", DENIED.replace("401", "403"), 1),
        (
            answering(b"{}", 404),
            "connect_not_configured",
            "Instance not configured: Fi.V Connect API returned 404",
            1,
        ),
        (answering(b"{}", 418), "connect_http_error", "Fi.V Connect API returned 418", 1),
        (answering(b"{}", 429), "connect_http_error", "Fi.V Connect API returned 429", 3),
        (answering(b"{}", 500), "connect_http_error", "Fi.V Connect API returned 500", 3),
        (answering(b"{}", 503), "connect_http_error", "Fi.V Connect API returned 503", 3),
        (answering(b"", 302, {"Location": "/elsewhere"}), "connect_redirect", "returned 302: a redirect", 1),
        (answering(b"<html>"), "connect_invalid_answer", "it is not JSON", 1),
        (answering(b""), "connect_invalid_answer", "it is not JSON", 1),
        (answering(b'{"a": NaN}'), "connect_invalid_answer", "it is not JSON", 1),
        (answering(b'"\\ud800"'), "connect_invalid_answer", "it is not JSON", 1),
        (answering(b"[" * 200_000), "connect_invalid_answer", "it is not JSON", 1),
        (answering(b"1" * 10_000), "connect_invalid_answer", "it is not JSON", 1),
        (answering(body([STATUS])), "connect_invalid_answer", "can't be used", 1),
        (answering(body(STATUS), 206), "connect_invalid_answer", "API returned 206, and only 200", 1),
        (answering(body(STATUS), 202), "connect_invalid_answer", "API returned 202, and only 200", 1),
        (answering(body(STATUS), 203), "connect_invalid_answer", "API returned 203, and only 200", 1),
        (answering(body(STATUS), 201), "connect_invalid_answer", "API returned 201, and only 200", 1),
        (answering(body(STATUS), 200, {"Content-Range": "bytes 0-9/90"}), "connect_invalid_answer", "a part of one", 1),
        (answering(body(STATUS), 200, {"Link": '</x>; rel="next"'}), "connect_invalid_answer", "a next page", 1),
        (answering(body(STATUS), 200, {"X-Echo": f"is {KEY.reveal()}"}), "connect_invalid_answer", "holds the inst", 1),
        (
            answering(body({**STATUS, "x": {"y": [KEY.reveal()]}})),
            "connect_invalid_answer",
            "holds the instance key",
            1,
        ),
        (answering(b'{"status": "active", ' + body(STATUS)[1:]), "connect_invalid_answer", "a key is repeated", 1),
        (
            answering(body(STATUS).replace(b'"chat": true', b'"chat": true, "chat": false')),
            "connect_invalid_answer",
            "a key is repeated",
            1,
        ),
        (answering(body({**STATUS, "status": 1})), "connect_invalid_answer", "status", 1),
        (
            answering(body({**STATUS, "enabledFeatures": {"chat": "yes"}})),
            "connect_invalid_answer",
            "enabledFeatures",
            1,
        ),
        (answering(body({**STATUS, "instanceId": "other"})), "connect_wrong_instance", "another instance than", 1),
        (answering(body({**STATUS, "status": "frozen"})), "connect_unknown_status", "status frozen", 1),
        (answering(body({**STATUS, "billingStatus": "late"})), "connect_unknown_status", "billing status late", 1),
        (answering(b" " * (1024 * 1024 + 1)), "connect_too_large", "larger than 1024 KiB", 1),
        (packed(b" " * 32 * 1024 * 1024), "connect_too_large", "larger than 1024 KiB", 1),
        (answering(b"no gzip", headers={"Content-Encoding": "gzip"}), "connect_invalid_answer", "gzip", 1),
        (answering(b"x", headers={"Content-Encoding": "br"}), "connect_invalid_answer", "compressed", 1),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "connect_invalid_answer", "it is not HTTP/1.1", 1),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "connect_invalid_answer", "it is not HTTP/1.1", 1),
        (raw(b""), "connect_unreachable", "closed the connection before it answered", 3),
        (raw(b"HTTP/1.1 200 OK\r\nContent-"), "connect_unreachable", "closed the connection", 3),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
            "connect_unreachable",
            "closed the connection within its answer",
            3,
        ),
        (
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}"),
            "connect_unreachable",
            "closed the connection within its answer",
            3,
        ),
    ],
)
async def test_each_fault_has_its_code_its_words_and_its_tries(
    behaviour: Behaviour, code: str, said: str, asked: int, settings
) -> None:
    problem, requests = await problem_with(behaviour, settings=settings())
    assert (problem.code, requests) == (code, asked)
    assert said in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    "sent",
    [
        {**STATUS, "status": KEY.reveal()},
        {**STATUS, "status": KEY.reveal()[2:9]},
        {**STATUS, "status": "is " + KEY.reveal()},
        {**STATUS, "billingStatus": KEY.reveal()},
        {**STATUS, "instanceId": KEY.reveal()},
        {**STATUS, KEY.reveal(): KEY.reveal(), "enabledFeatures": {KEY.reveal(): KEY.reveal()}},
        {"error": KEY.reveal()},
        KEY.reveal(),
    ],
)
async def test_an_answer_that_echoes_the_key_is_not_repeated(sent: object, settings) -> None:
    async with misbehaving(answering(body(sent), headers={"X-Echo": KEY.reveal()})) as server:
        view = await view_of(server.url, settings(), plans=True)
    assert view.status is None
    assert "canary" not in repr(view)
    assert view.received in (None, "active")


@pytest.mark.parametrize("line", ["{} 200 OK", "HTTP/1.1 200 OK\r\n{}", "HTTP/1.1 200 OK\r\n{}\0: x"])
async def test_an_echoed_key_in_nonsense_is_in_no_cause(line: str, settings) -> None:
    async with (
        misbehaving(raw(line.format(KEY.reveal()).encode() + b"\r\n\r\n")) as server,
        open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client,
    ):
        with pytest.raises(ConnectError) as caught:
            await client.fetch_plans()
    assert caught.value.code == "connect_invalid_answer"
    assert "canary" not in "".join(traceback.format_exception(caught.value))


async def test_an_unknown_status_is_accepted_if_it_is_a_plain_word(settings) -> None:
    async with misbehaving(answering(body({**STATUS, "status": "in_review"}))) as server:
        assert (await view_of(server.url, settings())).received == "in_review"
    async with misbehaving(answering(body({**STATUS, "status": "<b>no</b>"}))) as server:
        assert (await view_of(server.url, settings())).received is None
    async with misbehaving(answering(body({**STATUS, "billingStatus": "?"}))) as server:
        assert (await view_of(server.url, settings())).received == "active"


async def test_more_keys_in_an_answer_are_tolerated(settings) -> None:
    async with misbehaving(packed(body({**STATUS, "region": "br-south"}))) as server:
        assert (await view_of(server.url, settings())).status == PAID


PLAN = {"id": "p", "name": "P", "price": 1, "billingInterval": "monthly", "features": []}


@pytest.mark.parametrize(
    "sent",
    [
        [PLAN, PLAN],
        [{**PLAN, "price": -1}],
        [{**PLAN, "price": 2**31}],
        [{**PLAN, "price": "29.00"}],
        [{**PLAN, "price": True}],
        [{**PLAN, "name": "with \0"}],
        [{**PLAN, "id": ""}],
        [{key: PLAN[key] for key in PLAN if key != "features"}],
        {"plans": [PLAN]},
    ],
)
async def test_plans_that_no_column_holds_are_an_invalid_answer(sent: object, settings) -> None:
    async with (
        misbehaving(answering(body(sent))) as server,
        open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client,
    ):
        with pytest.raises(ConnectError) as caught:
            await client.fetch_plans()
    assert caught.value.code == "connect_invalid_answer"


async def test_no_plans_is_an_answer_and_omitted_limits_have_defaults(settings) -> None:
    loose = {**PLAN, "maxUsers": None, "maxConversations": -1, "price": 2.0}
    async with (
        misbehaving(answering(b"[]"), answering(body([loose]))) as server,
        open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client,
    ):
        assert await client.fetch_plans() == ()
        (plan,) = await client.fetch_plans()
    assert plan == ConnectPlan("p", "P", 2, "monthly", (), max_users=None, max_conversations=-1, storage_limit=1000)
    assert type(plan.price) is int


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"Content-Range": "items 0-1/3"}),
        (203, {}),
        (202, {}),
        (200, {"Link": "</p>; rel=next"}),
        (200, {"X-Total-Count": "3"}),
    ],
)
async def test_a_part_of_the_plans_is_no_list_of_plans(status: int, headers: dict[str, str], settings) -> None:
    part = answering(body([]), status, headers)
    async with misbehaving(part) as server, open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client:
        view = await client.fetch_view(plans=True)
        with pytest.raises(ConnectError) as caught:
            await client.fetch_databases()
    assert (view.plans, view.plans_error and view.plans_error.code) == (None, "connect_invalid_answer")
    assert caught.value.code == "connect_invalid_answer"


PACKED = gzip.compress(b"[]", mtime=0)
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2{}\r\n[]\r\n0\r\n{}\r\n"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (f"HTTP/1.1 200 OK {KEY.reveal()}\r\nContent-Length: 2\r\n\r\n[]".encode(), "it holds the instance key"),
        (
            f"HTTP/1.1 103 Early\r\nX: {KEY.reveal()}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]".encode(),
            "it holds the instance key",
        ),
        (f"HTTP/1.1 200 OK\r\n{KEY.reveal()}: 1\r\nContent-Length: 2\r\n\r\n[]".encode(), "it holds the instance key"),
        (CHUNKED.format(f";x={KEY.reveal()}", "").encode(), "it holds the instance key"),
        (CHUNKED.format("", f"X: {KEY.reveal()}\r\n").encode(), "it holds the instance key"),
        (CHUNKED.format("", "X-Total-Count: 9\r\n").encode(), "it says that there are 9 (x-total-count), and holds 0"),
        (CHUNKED.format("", "Link: <p>; rel=next\r\n").encode(), "there is a next page"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%sx" % (len(PACKED) + 1, PACKED),
            "something follows its gzip",
        ),
        (
            CHUNKED.format("", "").replace("chunked", "chunked\r\nContent-Length: 2").encode(),
            "it states its length in two ways",
        ),
    ],
)
async def test_what_stands_around_an_answer_counts_too(sent: bytes, said: str, settings) -> None:
    async with (
        misbehaving(raw(sent)) as server,
        open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client,
    ):
        with pytest.raises(ConnectError) as caught:
            await client.fetch_plans()
    assert (caught.value.code, caught.value.message) == (
        "connect_invalid_answer",
        f"Fi.V Connect's answer can't be used: {said}",
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
async def test_any_2xx_is_a_receipt_for_a_usage_report(status: int, settings) -> None:
    content = b"" if status == 204 else body({"echo": KEY.reveal()})
    async with misbehaving(answering(content, status)) as server:
        async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client:
            await client.send_usage(REPORT, "period-1")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ("1", "1 second"),
        ("90", "1 minute 30 seconds"),
        ("3600", "1 hour"),
        ("100000", "1 day 3 hours"),
        ("9999999999999", "more than a year"),
    ],
)
async def test_retry_after_is_written_as_a_person_would(seconds: str, said: str, settings) -> None:
    own = settings(tries=1)
    problem, _ = await problem_with(answering(b"{}", 503, {"Retry-After": seconds}), settings=own)
    assert problem.hint == f"Connect asks to wait {said}: run again after that; `fivrec watch` waits by itself"


async def test_a_failed_try_is_followed_by_one_that_succeeds(settings) -> None:
    async with misbehaving(answering(b"{}", 500), raw(b""), answering(body(STATUS))) as server:
        assert (await view_of(server.url, settings())).status == PAID
        assert len(server.requests) == 3


async def test_a_slow_drip_ends_at_the_total_deadline(settings) -> None:
    started = time.monotonic()
    problem, asked = await problem_with(dripping(b" " * 1000, 0.02), settings=settings(total_s=1.5))
    assert (problem.code, asked) == ("connect_timeout", 1)
    assert 1.5 <= time.monotonic() - started < 15  # all bytes take 20 s


async def test_silence_ends_at_the_total_deadline(settings) -> None:
    problem, asked = await problem_with(hanging, settings=settings(total_s=1.5))
    assert (problem.code, asked) == ("connect_timeout", 1)


async def test_a_try_that_hangs_after_a_500_ends_with_the_500_in_time(settings) -> None:
    started = time.monotonic()
    problem, _ = await problem_with(answering(b"{}", 500), hanging, settings=settings(retry_s=0.4))
    assert problem.message == "Fi.V Connect API returned 500"
    assert time.monotonic() - started < 15  # total_s is 30


async def test_retry_after_is_honoured_within_the_bound(settings) -> None:
    started = time.monotonic()
    async with misbehaving(answering(b"{}", 429, {"Retry-After": "1"}), answering(body(STATUS))) as server:
        assert (await view_of(server.url, settings())).status == PAID
    assert time.monotonic() - started >= 1


async def test_a_date_to_retry_after_counts_by_connects_own_clock(settings) -> None:
    """RFC 9110 10.2.3 allows both forms; Connect's clock may be years from ours."""
    dated = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:01 GMT"}
    started = time.monotonic()
    async with misbehaving(answering(b"{}", 503, dated), answering(body(STATUS))) as server:
        assert (await view_of(server.url, settings())).status == PAID
    assert time.monotonic() - started >= 1
    later = {**dated, "Retry-After": "Wed, 21 Oct 2015 07:30:00 GMT"}
    problem, asked = await problem_with(answering(b"{}", 503, later), settings=settings())
    assert (asked, problem.hint) == (
        1,
        "Connect asks to wait 2 minutes: run again after that; `fivrec watch` waits by itself",
    )


async def test_a_retry_after_date_without_a_date_header_counts_from_now(settings) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    async with misbehaving(answering(b"{}", 429, {"Retry-After": soon})) as server:
        view = await view_of(server.url, settings())
    assert view.retry_after_s is not None
    assert 1790 < view.retry_after_s <= 1800


@pytest.mark.parametrize(
    ("status", "longest"), [(answering(body(STATUS)), 120.0), (answering(b"{}", 503, {"Retry-After": "240"}), 240.0)]
)
async def test_how_long_the_plans_are_to_be_left_alone_is_known_too(
    status: Behaviour, longest: float, settings
) -> None:
    async def by_path(writer: asyncio.StreamWriter) -> None:
        plans = answering(b"{}", 429, {"Retry-After": "120"})
        await (plans if "/plans " in server.requests[-1] else status)(writer)

    async with misbehaving(by_path) as server:
        view = await view_of(server.url, settings(), plans=True)
    assert view.plans_error is not None
    assert (view.plans_error.code, view.retry_after_s) == ("connect_http_error", longest)


async def test_retry_after_beyond_the_bound_is_a_failure_at_once(settings) -> None:
    started = time.monotonic()
    problem, asked = await problem_with(answering(b"{}", 503, {"Retry-After": "60"}), settings=settings())
    assert (problem.code, asked) == ("connect_http_error", 1)
    assert time.monotonic() - started < 30


async def test_the_loop_waits_longer_than_its_other_deadlines(settings) -> None:
    loop = settings(total_s=1.5, retry_s=1, retry_after_s=300)
    async with misbehaving(answering(b"{}", 503, {"Retry-After": "2"}), answering(body(STATUS))) as server:
        assert (await view_of(server.url, loop)).status == PAID


async def test_a_refused_connection_is_unreachable_soon(settings) -> None:
    started = time.monotonic()
    with closed_port() as port:
        view = await view_of(f"http://127.0.0.1:{port}", settings(backoff_s=0.3), plans=True)
    assert view.status_error == view.plans_error
    assert view.status_error is not None
    assert view.status_error.code == "connect_unreachable"
    assert f"127.0.0.1:{port} refused the connection" in view.status_error.message
    assert view.response_time_ms is not None
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_does_not_resolve_is_unreachable(
    number: int, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network, a name server may take longer to say so than Connect may to answer."""

    def resolve(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(number, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    view = await view_of("https://connect.invalid", settings())
    assert view.status_error is not None
    assert (view.status_error.code, "connect.invalid can't be resolved" in view.status_error.message) == (
        "connect_unreachable",
        True,
    )


async def test_a_certificate_of_an_unknown_ca_is_refused_untried(tls: TlsFiles, settings) -> None:
    async with misbehaving(answering(body(STATUS)), tls=tls) as server:
        view = await view_of(server.url, settings())
        assert server.requests == []
    assert view.status_error is not None
    assert view.status_error.code == "connect_tls"
    assert "--ca-file" in view.status_error.hint


async def test_a_certificate_for_another_host_is_refused(tmp_path: Path, settings) -> None:
    other = make_tls(tmp_path, "connect.example.org")
    async with misbehaving(answering(body(STATUS)), tls=other) as server:
        view = await view_of(server.url, settings(ca_file=str(other.ca)))
        assert server.requests == []
    assert view.status_error is not None
    assert (view.status_error.code, "--ca-file" in view.status_error.hint) == ("connect_tls", False)
    assert "the host that the certificate names" in view.status_error.hint


async def test_a_certificate_whose_time_is_over_needs_no_other_ca() -> None:
    expired = ssl.SSLCertVerificationError(1, "certificate verify failed")
    expired.verify_code, expired.verify_message = 10, "certificate has expired"
    fault = network_fault(expired, "connect.example.org:443")
    assert "certificate has expired" in fault.message
    assert fault.hint == "compare this machine's clock; if it is right, the server needs a new certificate"


async def test_the_ca_of_the_environment_counts(tls: TlsFiles, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
    async with misbehaving(answering(body(STATUS)), tls=tls) as server:
        assert (await view_of(server.url, settings())).status == PAID


async def test_plain_http_on_the_tls_port_is_reported_as_such(settings) -> None:
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        view = await view_of(f"https://127.0.0.1:{port}", settings())
    assert view.status_error is not None
    assert view.status_error.code == "connect_tls"
    assert f"no TLS connection with 127.0.0.1:{port}" in view.status_error.message


async def test_a_ca_file_may_be_a_pipe(tls: TlsFiles, settings) -> None:
    """As in a shell's `--ca-file <(…)`: it is read once."""
    reading, writing = os.pipe()
    os.write(writing, tls.ca.read_bytes())
    os.close(writing)
    async with misbehaving(answering(body(STATUS)), tls=tls) as server:
        assert (await view_of(server.url, settings(ca_file=f"/dev/fd/{reading}"))).status == PAID
    os.close(reading)


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_an_unusable_ca_file_is_78_before_any_request(content, tmp_path: Path, settings) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    async with misbehaving(answering(body(STATUS))) as server:
        with pytest.raises(MissingSetting, match="the CA file") as caught:
            await view_of(server.url, settings(ca_file=str(path)))
        assert server.connections == 0
    assert caught.value.exit_code == 78


async def test_a_redirect_is_not_followed_with_the_key(settings) -> None:
    async with misbehaving(answering(body(STATUS))) as target:
        elsewhere = answering(b"", 307, {"Location": f"{target.url}/api/v1/instances/status"})
        problem, _ = await problem_with(elsewhere, settings=settings())
        assert (problem.code, target.connections) == ("connect_redirect", 0)


async def test_the_checked_address_is_the_one_connected_to(
    settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name server that gives another address on the second query is not queried twice."""
    asked: list[str] = []

    def rebinding(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    own = make_tls(tmp_path, "connect.example.org")
    async with misbehaving(answering(body(STATUS)), tls=own) as server:
        url = f"https://connect.example.org:{server.port}"
        view = await view_of(url, settings(ca_file=str(own.ca), production=True))
        assert server.header("host") == f"connect.example.org:{server.port}"
    assert (view.status, asked) == (PAID, ["connect.example.org"])


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "224.0.0.1", "0.0.0.0"])
async def test_a_refused_address_behind_a_name_is_never_connected_to(
    address: str, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a good address comes before it."""

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        kinds = ("127.0.0.1", address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in kinds]

    async with misbehaving(answering(body(STATUS))) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        view = await view_of(f"https://connect.example.org:{server.port}", settings())
        assert server.connections == 0
    assert view.status_error is not None
    assert view.status_error.code == "connect_address_refused"


@pytest.mark.parametrize(
    ("url", "production"),
    [
        ("http://connect.example.org", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1:1", True),
        ("https://user:canary@connect.example.org", False),
        ("https://169.254.169.254", False),
        ("ftp://connect.example.org", False),
    ],
)
async def test_urls_are_checked_again_when_they_are_used(url: str, production: bool, settings) -> None:
    view = await view_of(url, settings(production=production))
    assert view.status_error is not None
    assert view.status_error.code == "connect_address_refused"
    assert "canary" not in repr(view)


async def test_proxies_of_the_environment_are_not_used(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with misbehaving(answering(body(STATUS))) as server:
        assert (await view_of(server.url, settings())).status == PAID


async def test_a_pool_keeps_connections_and_passes_no_cookie_on(settings) -> None:
    cookie = answering(body(STATUS), headers={"Set-Cookie": "session=of-one; Path=/"})
    async with misbehaving(cookie) as server, open_pool(settings()) as pool:
        for _ in range(3):
            async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings(), pool) as client:
                assert (await client.fetch_view(plans=False)).status == PAID
        assert (server.connections, len(server.requests)) == (1, 3)
        assert [server.header("cookie", number) for number in range(3)] == [None, None, None]


async def test_a_kept_connection_that_was_closed_is_replaced_quietly(settings) -> None:
    closing = then_closing(answering(body(STATUS)))
    async with misbehaving(closing) as server, open_pool(settings()) as pool:
        for _ in range(3):
            async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings(tries=1), pool) as client:
                assert (await client.fetch_view(plans=False)).status == PAID
        assert (server.connections, len(server.requests)) == (3, 3)


async def test_a_silent_kept_connection_is_replaced(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_SILENT_S", 0.2)
    good = answering(body(STATUS))
    async with misbehaving(good, hanging, good) as server, open_pool(settings()) as pool:
        async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings(tries=1), pool) as client:
            assert (await client.fetch_view(plans=False)).status == PAID
            found = await client.fetch_view(plans=False)
        assert (found.status, found.status_error) == (PAID, None)
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_an_answer_that_was_not_read_to_its_end_is_not_kept(settings) -> None:
    big = answering(b" " * 3_000_000)
    async with misbehaving(big, answering(body(STATUS))) as server, open_pool(settings()) as pool:
        async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings(), pool) as client:
            first = await client.fetch_view(plans=False)
            assert first.status_error is not None
            assert first.status_error.code == "connect_too_large"
            assert (await client.fetch_view(plans=False)).status == PAID
        assert server.connections == 2


@pytest.mark.parametrize("key", ["", " k", "k\n", "a\r\nX-Evil: 1", "a\0b"])
async def test_a_key_that_no_header_can_carry_is_not_sent(key: str, settings) -> None:
    async with misbehaving(answering(body(STATUS))) as server:
        view = await view_of(server.url, settings(), key=Secret(key))
        assert server.connections == 0
    assert view.status_error is not None
    assert view.status_error.code == "connect_denied"


async def test_a_key_with_any_printable_characters_is_sent_as_it_is(connect_server: ConnectServer, settings) -> None:
    key = Secret("a+/=\"' é 鍵")
    connect_server.set(INSTANCE, key=key)
    view = await view_of(connect_server.url, settings(ca_file=connect_server.ca_file), key=key)
    assert view.status == PAID


async def test_a_usage_report_is_counted_once_by_its_key(connect_server: ConnectServer, settings) -> None:
    own = settings(ca_file=connect_server.ca_file)
    async with open_client(connect_server.target(INSTANCE), INSTANCE, own) as client:
        for _ in range(3):
            await client.send_usage(REPORT, "period-1")
        await client.send_usage({**REPORT, "lastActivity": None}, "period-2")
    held = connect_server.instance(INSTANCE)
    assert held.reports_counted == 2
    assert held.reports["period-1"] == REPORT


async def test_a_usage_report_that_is_not_the_seeds_is_never_sent(settings) -> None:
    async with misbehaving(answering(b"{}")) as server:
        async with open_client(ConnectTarget(server.url, KEY), INSTANCE, settings()) as client:
            with pytest.raises(ConnectError) as caught:
                await client.send_usage({**REPORT, "totalUsers": "5"}, "period-1")
        assert (caught.value.code, server.connections) == ("connect_invalid_report", 0)


@pytest.mark.parametrize(
    ("drill", "code"),
    [
        ({"fail": "500"}, "connect_http_error"),
        ({"fail": "html"}, "connect_invalid_answer"),
        ({"fail": "list"}, "connect_invalid_answer"),
        ({"fail": "garbage"}, "connect_invalid_answer"),
        ({"fail": "redirect"}, "connect_redirect"),
        ({"fail": "other-instance"}, "connect_wrong_instance"),
        ({"status": "frozen"}, "connect_unknown_status"),
        ({"billing": "late"}, "connect_unknown_status"),
        ({"delay_s": 5.0}, "connect_timeout"),
    ],
)
async def test_the_emulators_drills_are_seen_as_what_they_are(
    drill: dict[str, Any], code: str, connect_server: ConnectServer, settings
) -> None:
    target = connect_server.target(INSTANCE)
    connect_server.set(INSTANCE, **drill)
    own = settings(ca_file=connect_server.ca_file)
    hurried = replace(own, total_s=2.0) if "delay_s" in drill else own
    view = await view_of(connect_server.url, hurried, plans=True, key=target.instance_key or KEY)
    assert view.status_error is not None
    assert view.status_error.code == code
    connect_server.set(INSTANCE, reset=True)
    again = await view_of(connect_server.url, own, key=target.instance_key or KEY)
    assert again.status == PAID


async def test_embedded_connect_issues_a_key_and_keeps_it(settings, tmp_path: Path) -> None:
    target = ConnectTarget("embedded:", None)
    keys = []
    for _ in range(2):
        async with open_client(target, INSTANCE, settings()) as client:
            view = await client.fetch_view(plans=True)
            keys.append(client.instance_key)
        assert (view.status, len(view.plans or ())) == (PAID, 3)
    assert (keys[0], keys[1], False) == (keys[1], *embedded_key(target, INSTANCE, tmp_path))
    assert (tmp_path / "connect.json").stat().st_mode & 0o777 == 0o600


async def test_a_dry_run_leaves_nothing_with_the_embedded_connect(settings, tmp_path: Path) -> None:
    target = ConnectTarget("embedded:", None)
    key, new = embedded_key(target, INSTANCE, tmp_path, dry=True)
    async with open_client(ConnectTarget("embedded:", key), INSTANCE, settings(dry=True)) as client:
        view = await client.fetch_view(plans=True)
    assert (new, view.status, len(view.plans or ())) == (True, PAID, 3)
    assert list(tmp_path.iterdir()) == []


async def test_embedded_connect_keeps_the_first_key_it_is_given(settings, tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'panel'}"
    assert (await view_of(url, settings(), key=Secret("first"))).status == PAID
    other = await view_of(url, settings(), key=Secret("second"))
    assert other.status_error is not None
    assert other.status_error.code == "connect_denied"
    assert (tmp_path / "panel" / "connect.json").exists()


def test_the_client_imports_no_click_and_no_second_http_stack() -> None:
    script = (
        "import sys, json, reconciler.connect.client as c; "
        "heavy = ('rich', 'pygments', 'click', 'httpcore', 'anyio', 'certifi', 'jsonschema', 'uvicorn');"
        "print(json.dumps([name for name in heavy if name in sys.modules]));"
        "import importlib.util as util; util.find_spec('rich') and __import__('httpx._main')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert json.loads(done.stdout) == []
