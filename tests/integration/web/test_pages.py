"""The status page in this process: sessions, forms, languages, and values that look like markup."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, ErrorInfo, Ignore
from reconciler.planning.report import Outcome
from reconciler.support.crypto.keyring import KeyRing
from reconciler.web import page
from reconciler.web.live import Live
from reconciler.web.overview import Detail, Overview, read_detail, read_overview
from reconciler.web.translations import choose_language, load_translations
from tests.support.serving import EMAIL, INSTANCE, PASSWORD, Served, served

HERE = "http://testserver"
INSIDE = f"/instances/{INSTANCE}"


@pytest.fixture
async def site(database: Secret, keys: KeyRing, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(database, keys, tmp_path) as one:
        yield one


async def sign_in(site: Served, **headers: str) -> int:
    form = {"email": EMAIL, "password": PASSWORD}
    return (await site.client.post("/login", data=form, headers=headers)).status_code


async def test_the_cookie_is_http_only_and_same_site_strict(site: Served) -> None:
    answer = await site.client.post("/login", data={"email": EMAIL, "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/instances/{INSTANCE}")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("fivrec=")
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=900"} <= set(cookie.split("; "))


async def test_behind_https_the_cookie_is_bound_to_the_host(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, secure=True) as site:
        answer = await site.client.post("/login", data={"email": EMAIL, "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith("__Host-fivrec=")
        assert "Secure" in answer.headers["set-cookie"]
        assert "max-age" in answer.headers["strict-transport-security"]


async def test_without_a_session_there_is_only_the_door(site: Served) -> None:
    pages = {"/": "/login", "/?q=a": "/login?next=%2F%3Fq%3Da", INSIDE: f"/login?next={quote(INSIDE, safe='')}"}
    for path, place in pages.items():
        answer = await site.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, place)
    assert (await site.client.get("/events")).status_code == 401
    assert (await site.client.get("/instances/x/../../etc/passwd")).status_code in (303, 404)
    assert (await site.client.get("/static/..%2fpages.py")).status_code == 404


PLACES = {
    INSIDE: INSIDE,
    "/?status=active&q=a b": "/?status=active&q=a%20b",
    "/instances/other": "/",
    "https://evil.example/instances/": "/",
    "//evil.example/": "/",
    "/\\evil.example/": "/",
    "javascript:alert(1)": "/",
    "/?\r\nSet-Cookie: a=b": "/",
    "/?" + "x" * 1000: "/",
    "/logout": "/",
}


async def test_a_login_leads_to_the_page_that_was_asked_for(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Only to a page of this server, and to no instance for which the login was not."""

    def other(desired: Desired) -> tuple[Desired, ...]:
        return (replace(desired, instance="other"),)

    async with served(database, keys, tmp_path, more=other) as site:
        found, kept = {}, []
        for wanted in PLACES:
            site.client.cookies.clear()
            door = (await site.client.get("/login", params={"next": wanted})).text
            kept.append(unescape(door.partition('name="next" value="')[2].partition('"')[0]))
            form = {"email": EMAIL, "password": PASSWORD, "instance": INSTANCE, "next": wanted}
            found[wanted] = (await site.client.post("/login", data=form)).headers["location"]
    assert found == PLACES
    assert kept == [*list(PLACES)[:3], *[""] * 7]


async def test_a_bearer_token_is_no_session_and_a_session_no_bearer(site: Served) -> None:
    site.client.cookies.set("fivrec", site.token)
    assert (await site.client.get("/")).status_code == 303
    site.client.cookies.clear()
    await sign_in(site)
    session = site.client.cookies["fivrec"]
    answer = await site.client.get("/api/instance/config", headers={"Authorization": f"Bearer {session}"})
    assert answer.status_code == 401


async def test_forms_of_other_sites_are_refused(site: Served) -> None:
    assert await sign_in(site, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await sign_in(site, Origin="https://evil.example") == 403
    assert await sign_in(site, Origin="null") == 403
    assert await sign_in(site, Origin=HERE) == 303
    check = f"/instances/{INSTANCE}/check"
    assert (await site.client.post(check, data={})).status_code == 403
    assert (await site.client.post(check, data={"csrf": "0" * 64})).status_code == 403
    assert (await site.client.post("/logout", data={})).status_code == 403
    assert (await site.client.post(check, data={"csrf": await site.csrf()})).status_code == 303


async def test_signing_out_ends_the_session_of_copied_cookies_too(site: Served) -> None:
    await sign_in(site)
    copy = site.client.cookies["fivrec"]
    assert (await site.client.post("/logout", data={"csrf": await site.csrf()})).status_code == 303
    site.client.cookies.set("fivrec", copy)
    assert (await site.client.get("/")).status_code == 303


async def test_a_signed_out_session_stays_out_after_another_login(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    async with served(database, keys, tmp_path, more=lambda one: (replace(one, instance="other"),)) as site:
        tokens = site.service.tokens
        await site.client.post("/login", data={**form, "instance": INSTANCE})
        copy = site.client.cookies["fivrec"]
        assert (await site.client.post("/logout", data={"csrf": await site.csrf()})).status_code == 303
        site.client.cookies.set("fivrec", copy)
        answer = await site.client.post("/login", data={**form, "instance": "other"})
        renewed = tokens.read_session(answer.cookies["fivrec"])
        assert [grant.instance for grant in renewed.grants] == ["other"]
        assert renewed.jti != tokens.read_session(copy).jti
        site.client.cookies = httpx.Cookies({"fivrec": answer.cookies["fivrec"]})
        place = f"/login?instance={INSTANCE}&next={quote(INSIDE, safe='')}"
        assert (await site.client.get(INSIDE)).headers["location"] == place


async def test_signing_out_ends_the_session_of_the_first_login_too(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    async with served(database, keys, tmp_path, more=lambda one: (replace(one, instance="other"),)) as site:
        tokens = site.service.tokens
        await site.client.post("/login", data={**form, "instance": INSTANCE})
        first = site.client.cookies["fivrec"]
        await site.client.post("/login", data={**form, "instance": "other"})
        both = tokens.read_session(site.client.cookies["fivrec"])
        assert [grant.instance for grant in both.grants] == [INSTANCE, "other"]
        assert both.since == tokens.read_session(first).since  # 8 hours at most, from the first login
        await site.client.post("/logout", data={"csrf": await site.csrf()})
        site.client.cookies.set("fivrec", first)
        assert (await site.client.get("/")).headers["location"] == "/login"


async def test_a_form_with_too_many_fields_is_explained(site: Served) -> None:
    answer = await site.client.post("/login", data={f"field{number}": "x" for number in range(21)})
    assert (answer.status_code, "the form has more than 20 fields" in answer.text) == (400, True)


async def test_a_page_that_takes_too_long_says_so(site: Served) -> None:
    await sign_in(site)
    object.__setattr__(site.service.run, "timeout_s", 1e-6)
    answer = await site.client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (504, "text/html; charset=utf-8")
    assert "not done within 1e-06 s" in answer.text


async def test_a_caller_that_leaves_mid_body_is_no_failure(site: Served) -> None:
    """An exception that leaves the application becomes a traceback in the server's log."""
    transport = site.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/api/auth/login", "/login"):
        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "server": ("testserver", 80),
            "headers": [(b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"9")],
            "client": ("10.1.2.3", 4000), "scheme": "http", "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        await transport.app(scope, receive, send)
    assert [message["status"] for message in sent if "status" in message] == [400, 400]


async def test_an_agent_and_a_wrong_password_stay_outside(site: Served) -> None:
    site.account("agent@empresa.com", role="agent")
    agent = await site.client.post("/login", data={"email": "agent@empresa.com", "password": PASSWORD})
    assert (agent.status_code, "Only administrators" in agent.text) == (403, True)
    wrong = await site.client.post("/login", data={"email": EMAIL, "password": "wrong\0"})
    assert (wrong.status_code, "Email or password is wrong" in wrong.text) == (401, True)
    assert "wrong\0" not in wrong.text


async def test_a_demoted_administrator_sees_nothing_any_more(site: Served) -> None:
    await sign_in(site)
    assert (await site.client.get("/")).status_code == 200
    site.sql("UPDATE users SET role = 'agent'")
    assert (await site.client.get("/")).status_code == 303
    assert (await site.client.get("/login")).status_code == 200


async def test_a_locked_instance_shows_its_notice_and_no_more(site: Served) -> None:
    await sign_in(site)
    site.sql("UPDATE instance_config SET is_locked = true, status = 'suspended'")
    answer = await site.client.get(f"/instances/{INSTANCE}")
    assert (answer.status_code, "Audit history" in answer.text) == (423, False)
    assert "access is locked" in answer.text
    assert (await site.client.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("status", "locked", "said"),
    [
        ("suspended", True, "Instance suspended: access is locked"),
        ("suspended", False, "Instance suspended, but access is not locked"),
        ("pending_payment", True, "Access is locked"),
        ("active", True, "Access is locked"),
    ],
)
async def test_a_notice_says_what_is_locked_and_by_whom(site: Served, status: str, locked: bool, said: str) -> None:
    await sign_in(site)
    site.sql("UPDATE instance_config SET is_locked = %s, status = %s", locked, status)
    text = (await site.client.get(f"/instances/{INSTANCE}")).text
    shown = re.findall(r"(?:<h2>|<strong>[^\w<]*)([^<]*access is (?:not )?locked|Access is locked)<", text)
    assert (shown, "goes on working" in text) == ([said], False)


async def test_a_status_that_fivrec_does_not_know_is_unknown_by_its_word(site: Served) -> None:
    await sign_in(site)
    site.sql("UPDATE instance_config SET status = 'title', billing_status = 'weird'")
    text = (await site.client.get(f"/instances/{INSTANCE}")).text
    assert re.findall(r"</svg>Unknown</span> <code>(\w+)</code>", text) == ["title", "weird"]


async def test_what_can_not_be_read_is_not_called_new(site: Served) -> None:
    detail = Detail(Overview(INSTANCE, "production", {}, error=ErrorInfo("timeout", "no answer")))
    text = page.report([detail], "en", site.service.run.now())
    assert ("Not applied yet" in text, "Audit history" in text, text.count("Could not be read")) == (False, False, 3)


@pytest.mark.parametrize("suspend", [False, True])
async def test_the_diff_says_what_apply_refuses_and_suspends(site: Served, suspend: bool) -> None:
    site.sql("UPDATE queues SET description = 'by hand' WHERE name = 'Sales'")
    queues = replace(site.desired.managed["queue"], resources=site.desired.managed["queue"].resources[:1])
    desired = replace(
        site.desired,
        managed={**site.desired.managed, "queue": replace(queues, unmanaged="remove")},
        ignore=(Ignore("queue/Sales/description", "campaign"),),
        suspend=suspend,
    )
    site.sql("INSERT INTO queues (name, environment) SELECT 'q' || n, 'production' FROM generate_series(1, 9) AS n")
    text = page.report([await read_detail(desired, site.service.run)], "en", site.service.run.now())
    assert '<strong>queue/Sales/description</strong> <span class="muted">no end</span> campaign' in text
    assert ("apply refuses this" in text, "nothing is changed" in text) == (True, suspend)


async def test_a_check_of_long_ago_is_marked(site: Served) -> None:
    await sign_in(site)
    for ago, marks in (("100 minutes", 0), ("121 minutes", 1)):
        site.sql("UPDATE status_check_logs SET created_at = now() - %s::interval", ago)
        for path in ("/", f"/instances/{INSTANCE}"):
            text = (await site.client.get(path)).text
            assert (path, text.count("Long ago")) == (path, marks)


async def test_a_last_run_that_did_not_do_its_work_is_marked(site: Served) -> None:
    """Its checks may be good, and it may have looked at no drift: nothing else in its row says so."""
    await sign_in(site)
    await reconcile(site.desired, replace(site.service.run, check_type="scheduled"))
    shown = {}
    for outcome in get_args(Outcome):
        site.sql("UPDATE fivrec.last_run SET outcome = %s", outcome)
        shown[outcome] = re.findall(r"Last run: [^<]+", (await site.client.get("/")).text)
    bad = {"degraded": "degraded", "failed": "failed", "refused": "refused", "busy": "busy"}
    assert shown == {outcome: [f"Last run: {bad[outcome]}"] if outcome in bad else [] for outcome in get_args(Outcome)}


async def test_repaired_drift_is_no_longer_drift(site: Served) -> None:
    found = []
    for description in ("by hand", None):
        site.sql("UPDATE queues SET description = coalesce(%s, description) WHERE name = 'Sales'", description)
        run = replace(site.service.run, report_only=description is not None, command="watch")
        assert (await reconcile(site.desired, run)).error is None
        (row,) = page.fleet([await read_overview(site.desired, run)], "en", run.now())["rows"]
        found.append(row.drift)
    assert found == [1, 0]


async def test_the_fleets_page_says_whose_database_it_is(site: Served) -> None:
    overview = await read_overview(replace(site.desired, instance="other-1"), site.service.run)
    assert overview.error is not None
    assert (overview.view, overview.checks, overview.error.code) == (None, (), "wrong_instance")


async def test_an_escaped_slash_leads_to_no_other_route(site: Served) -> None:
    """A proxy that keeps /instances/*/api/ from the internet sees one segment, and so does fivrec."""
    await sign_in(site)
    for path in (f"{INSIDE}%2Fapi%2finstance%2fconfig", f"{INSIDE}%2fcheck", INSIDE.replace("s/", "s%2f"), "/%2fdocs"):
        assert (path, (await site.client.get(path)).status_code) == (path, 404)
    for odd in ("%00", "%ff", "a%20b", "%5c", "ação"):
        assert (await site.client.get(f"/instances/{odd}")).status_code == 404


async def test_a_browser_gets_a_page_for_unknown_addresses(site: Served) -> None:
    for path, status in (("/nothing", 404), ("/logout", 405)):
        answer = await site.client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert (await site.client.get(path)).headers["content-type"] == "application/problem+json"


async def test_an_errors_page_says_what_to_do(site: Served) -> None:
    await sign_in(site)
    csrf = await site.csrf()
    site.sql("ALTER TABLE instance_config RENAME TO gone")
    answer = await site.client.post(f"/instances/{INSTANCE}/check", data={"csrf": csrf})
    assert (answer.status_code, 'class="muted"' in answer.text) == (404, True)


async def test_the_page_of_a_failed_check_can_be_opened_again(site: Served) -> None:
    await sign_in(site)
    site.drill(fail="500")
    check = f"/instances/{INSTANCE}/check"
    answer = await site.client.post(check, data={"csrf": await site.csrf()})
    assert (answer.status_code, "Fi.V Connect API returned 500" in answer.text) == (200, True)
    answer = await site.client.get(check)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/instances/{INSTANCE}")


async def test_values_that_look_like_markup_are_shown_as_text(site: Served) -> None:
    await sign_in(site)
    evil = "<script>alert(1)</script>\" onload='x"
    site.sql("UPDATE queues SET description = %s WHERE name = 'Sales'", evil)
    site.sql("UPDATE status_check_logs SET error_message = %s, success = false", evil)
    text = (await site.client.get(f"/instances/{INSTANCE}")).text
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert " style=" not in text
    assert "key-of-the-test" not in text


async def test_what_turns_text_around_stands_as_its_escape(site: Served) -> None:
    await sign_in(site)
    site.sql("UPDATE queues SET description = %s WHERE name = 'Sales'", "a\u202eb\u200b")
    site.sql("UPDATE status_check_logs SET error_message = %s, success = false", "c\u2066d")
    site.sql("UPDATE fivrec.applied SET name = %s WHERE kind = 'queue' AND name = 'Sales'", "i\u202ej")
    site.sql("INSERT INTO queues (name, environment) VALUES (%s, 'production')", "i\u202ej")
    site.sql("UPDATE fivrec.audit_log SET name = %s, actor = %s", "e\u202ef", "g\u202eh")
    text = (await site.client.get(f"/instances/{INSTANCE}")).text
    assert [found for found in text if found in "\u202e\u200b\u2066"] == []
    for shown in ("a\\u202eb\\u200b", "c\\u2066d", "e\\u202ef", "i\\u202ej", "g\\u202eh"):
        assert shown in text


async def test_the_languages_are_the_browsers(site: Served) -> None:
    portuguese = await site.client.get("/login", headers={"Accept-Language": "pt-BR,pt;q=0.9,en;q=0.8"})
    assert ("Entrar" in portuguese.text, portuguese.headers["content-language"]) == (True, "pt")
    assert "Entrar" not in (await site.client.get("/login", headers={"Accept-Language": "de, en;q=0.5"})).text


async def test_what_runs_and_checks_were_is_said_in_portuguese(site: Served) -> None:
    await sign_in(site)
    await reconcile(site.desired, replace(site.service.run, check_type="scheduled"))
    shown = []
    for outcome in (*get_args(Outcome), "new_word"):
        site.sql("UPDATE fivrec.last_run SET outcome = %s", outcome)
        shown.append((await site.client.get(INSIDE, headers={"Accept-Language": "pt-BR"})).text)
    words = [
        "em sincronia",
        "alterada",
        "parcial, sem o Fi.V Connect",
        "falhou",
        "recusada",
        "ocupada",
        "não executada",
    ]
    found = [re.search(r"apply, ([^<]+), mudanças:", text) for text in shown]
    assert [one and one[1] for one in found] == [*words, "new_word"]
    assert ("<td>agendada</td>" in shown[0], "<td>scheduled</td>" in shown[0]) == (True, False)


@pytest.mark.parametrize(
    ("accept", "language"),
    [("", "en"), ("pt", "pt"), ("en;q=0.1, pt-BR;q=0.9", "pt"), ("fr", "en"), ("pt;q=0", "en"), ("pt;q=x, en", "en")],
)
def test_the_supported_language_of_highest_weight_is_chosen(accept: str, language: str) -> None:
    assert choose_language(accept) == language


def test_both_languages_have_every_word() -> None:
    assert load_translations("en").keys() == load_translations("pt").keys()
    assert all(load_translations("pt").values())


async def test_the_docs_page_loads_nothing_from_elsewhere(site: Served) -> None:
    text = (await site.client.get("/docs")).text
    assert "/api/instance/status-logs" in text
    assert re.findall(r'(?:src|href)="(https?:)?//', text) == []


async def test_news_are_events_and_streams_end_with_the_server(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.live.POLL_S", 0.05)
    live = Live(site.service.run, dict(site.service.instances))
    stream = live.events(frozenset({INSTANCE}))
    assert b"retry" in await anext(stream)
    await until(lambda: INSTANCE in live._marks)
    site.sql("UPDATE instance_config SET billing_status = 'overdue'")
    assert b"event: change" in await asyncio.wait_for(anext(stream), 30)
    live.stop()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 30)
    await live.aclose()


async def test_changes_after_a_stream_opened_are_news_at_once(site: Served) -> None:
    live = Live(site.service.run, dict(site.service.instances))
    await live.look_first(frozenset({INSTANCE}))
    site.sql("UPDATE instance_config SET billing_status = 'overdue'")
    async with aclosing(live.events(frozenset({INSTANCE}))) as stream:
        assert b"retry" in await anext(stream)
        assert b"event: change" in await asyncio.wait_for(anext(stream), 30)
    await live.aclose()


async def test_a_stream_that_follows_another_begins_with_news(site: Served) -> None:
    """Between two streams nobody looked: changes made then would never reach the page."""
    live = Live(site.service.run, dict(site.service.instances))
    async with aclosing(live.events(frozenset({INSTANCE}), again=True)) as stream:
        assert b"id: 1" in await anext(stream)  # makes the browser send Last-Event-ID the next time
        assert b"event: change" in await anext(stream)
    await live.aclose()


async def test_polling_ends_when_the_last_watcher_leaves(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.live.POLL_S", 0.01)
    live = Live(site.service.run, dict(site.service.instances))
    async with aclosing(live.events(frozenset({INSTANCE}))) as stream:
        await anext(stream)
        await until(lambda: INSTANCE in live._marks)
    await until(lambda: live._task is None)
    assert (live._watchers, live._marks) == ({}, {})


async def test_streams_of_one_instance_keep_no_other_out(site: Served) -> None:
    live = Live(site.service.run, {}, most=3)
    async with AsyncExitStack() as stack:

        async def opened(name: str) -> AsyncIterator[bytes]:
            stream = await stack.enter_async_context(aclosing(live.events(frozenset({name}))))
            assert b"retry" in await anext(stream)
            return stream

        first, other, *rest = [await opened(name) for name in ("a", "b", "a", "a")]
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(first), 30)
        assert [watcher.ended for watcher in live._watchers] == [False, False, False]
        waiting = [asyncio.ensure_future(anext(stream)) for stream in (other, *rest)]
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [False, False, False]
        live.stop()
        assert [type(end) for end in await asyncio.gather(*waiting, return_exceptions=True)] == [StopAsyncIteration] * 3
    await live.aclose()


async def stream_of(site: Served) -> tuple[asyncio.Queue[bytes], asyncio.Task[None]]:
    """Returns the lines that /events sends, and the task that ends with it. (httpx's ASGI transport waits for the whole
    response, so this calls the application directly.)"""
    app = site.client._transport.app  # type: ignore[attr-defined]  # the one that `served` made
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    forever = asyncio.Event()
    cookie = f"fivrec={site.client.cookies['fivrec']}".encode()
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/events", "raw_path": b"/events",
        "query_string": b"", "root_path": "", "scheme": "http", "headers": [(b"cookie", cookie)],
        "client": ("10.1.2.3", 1), "server": ("testserver", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        await forever.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert (b"x-accel-buffering", b"no") in message["headers"]  # otherwise nginx buffers the stream
        if message["type"] == "http.response.body":
            await lines.put(message.get("body", b""))

    return lines, asyncio.create_task(app(scope, receive, send))


@pytest.mark.parametrize("how", ["sign out", "demoted", "a new password", "eight hours"])
async def test_a_stream_ends_with_its_session(site: Served, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.live.SESSION_LOOK_S", 30.0 if how == "sign out" else 0.05)
    await sign_in(site)
    lines, stream = await stream_of(site)
    assert b"retry" in await asyncio.wait_for(lines.get(), 30)
    match how:
        case "sign out":
            await site.client.post("/logout", data={"csrf": await site.csrf()})
        case "demoted":
            site.sql("UPDATE users SET role = 'agent' WHERE email = %s", EMAIL)
        case "a new password":
            site.sql("UPDATE users SET password = 'other' WHERE email = %s", EMAIL)
        case _:
            monkeypatch.setattr("reconciler.web.sessions.SESSION_S", -1)
    await asyncio.wait_for(stream, 25)
    assert [line for line in iter(lines.get_nowait, b"") if b"event" in line] == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/docs/", "/docs"),
        ("/docs/?x=1", "/docs?x=1"),
        ("//docs//", "/docs"),
        (f"/instances/{INSTANCE}/", f"/instances/{INSTANCE}"),
    ],
)
async def test_a_slash_too_many_is_redirected_relatively(site: Served, path: str, place: str) -> None:
    answer = await site.client.get(f"{HERE}{path}", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (307, place)


@pytest.mark.parametrize("path", ["/nothing/", "//evil.example/", "//evil.example/docs/"])
async def test_a_slash_behind_nothing_is_not_redirected(site: Served, path: str) -> None:
    assert (await site.client.get(f"{HERE}{path}")).status_code == 404


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not true():
            await asyncio.sleep(0.01)
