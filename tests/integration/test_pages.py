"""The status page in the process: sessions, forms, languages, and values that look like markup."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.adapters.crypto import KeyRing
from reconciler.api.live import Live
from reconciler.api.words import language_of, words_of
from reconciler.core.secret import Secret
from tests.integration.serving import EMAIL, INSTANCE, PASSWORD, Served, served

HERE = "http://testserver"


@pytest.fixture
async def site(database: Secret, keys: KeyRing, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(database, keys, tmp_path) as one:
        yield one


async def sign_in(site: Served, **headers: str) -> int:
    form = {"email": EMAIL, "password": PASSWORD}
    return (await site.client.post("/login", data=form, headers=headers)).status_code


async def csrf(site: Served) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', (await site.client.get("/")).text)
    assert found
    return found.group(1)


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
    for path in ("/", f"/instances/{INSTANCE}"):
        answer = await site.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert (await site.client.get("/events")).status_code == 401
    assert (await site.client.get("/instances/x/../../etc/passwd")).status_code in (303, 404)
    assert (await site.client.get("/static/..%2fpages.py")).status_code == 404


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
    assert (await site.client.post(check, data={"csrf": await csrf(site)})).status_code == 303


async def test_signing_out_ends_the_session_for_copies_of_its_cookie_too(site: Served) -> None:
    await sign_in(site)
    copy = site.client.cookies["fivrec"]
    assert (await site.client.post("/logout", data={"csrf": await csrf(site)})).status_code == 303
    site.client.cookies.set("fivrec", copy)
    assert (await site.client.get("/")).status_code == 303


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


async def test_the_languages_are_the_browsers(site: Served) -> None:
    portuguese = await site.client.get("/login", headers={"Accept-Language": "pt-BR,pt;q=0.9,en;q=0.8"})
    assert ("Entrar" in portuguese.text, portuguese.headers["content-language"]) == (True, "pt")
    assert "Entrar" not in (await site.client.get("/login", headers={"Accept-Language": "de, en;q=0.5"})).text


@pytest.mark.parametrize(
    ("accept", "language"),
    [("", "en"), ("pt", "pt"), ("en;q=0.1, pt-BR;q=0.9", "pt"), ("fr", "en"), ("pt;q=0", "en"), ("pt;q=x, en", "en")],
)
def test_the_language_is_the_first_of_ours_by_weight(accept: str, language: str) -> None:
    assert language_of(accept) == language


def test_both_languages_have_every_word() -> None:
    assert words_of("en").keys() == words_of("pt").keys()
    assert all(words_of("pt").values())


async def test_the_docs_page_loads_nothing_from_elsewhere(site: Served) -> None:
    text = (await site.client.get("/docs")).text
    assert "/api/instance/status-logs" in text
    assert re.findall(r'(?:src|href)="(https?:)?//', text) == []


async def test_news_come_as_events_and_streams_end_when_the_server_stops(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.api.live.POLL_S", 0.05)
    live = Live(site.service.run, dict(site.service.instances))
    stream = live.events(frozenset({INSTANCE}))
    assert b"retry" in await anext(stream)
    import asyncio

    await asyncio.sleep(0.4)
    site.sql("UPDATE instance_config SET billing_status = 'overdue'")
    assert b"event: change" in await asyncio.wait_for(anext(stream), 5)
    live.stop()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 5)
    await live.aclose()
