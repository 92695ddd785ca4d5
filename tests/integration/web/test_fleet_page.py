"""The fleet's page and its JSON, for each role: who may do what, what is shown, and what is recorded of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from reconciler.web.fleet_items import SourceLinks
from reconciler.web.openapi import is_answer
from tests.support.identity_provider import IdentityProvider, identity_provider
from tests.support.serving import EMAIL, INSTANCE, PASSWORD, token_keys
from tests.support.signed_in import Site, signed_in_site


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page waits for a first reading however slow the machine is, not for 0.4 s."""
    monkeypatch.setattr("reconciler.web.fleet_board.FIRST_S", 60.0)


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with identity_provider() as one:
        yield one


@pytest.fixture
async def site(database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider) -> AsyncIterator[Site]:
    links = SourceLinks("https://git.example/acme/fleet/blob/main", str(Path.cwd()))
    paths = ("manifests", "more clients")
    async with signed_in_site(database, keys, tmp_path, provider, links=links, paths=paths) as one:
        yield one


INSIDE = f"/instances/{INSTANCE}"
ROUTES: dict[str, tuple[str, str]] = {
    "fleet": ("GET", "/"),
    "data": ("GET", "/fleet/instances"),
    "instance": ("GET", INSIDE),
    "unknown instance": ("GET", "/instances/nobody"),
    "check": ("POST", f"{INSIDE}/check"),
    "events": ("GET", "/events?instance=nobody"),
    "api": ("GET", f"{INSIDE}/api/instance/config"),
    "api check": ("POST", f"{INSIDE}/api/instance/check-status"),
    "sign in": ("GET", "/sso/login"),
    "answer": ("GET", "/sso/callback"),
    "provider's logout": ("GET", "/sso/logout"),
    "login": ("GET", "/login"),
    "health": ("GET", "/healthz"),
    "document": ("GET", "/openapi.json"),
    "sign out": ("POST", "/logout"),
}
OPEN = {"sign in": 303, "answer": 403, "provider's logout": 200, "health": 200, "document": 200}
ROLES = ("nobody", "no group", "viewer", "operator", "signed out", "instance's administrator")


def expected(route: str, role: str, *, locked: bool) -> int:
    """Returns the expected status: without a fleet session as without a provider; the fleet's API takes only its own
    tokens."""
    if route in OPEN:
        return OPEN[route]
    if route in ("api", "api check"):
        return 401
    if role in ("viewer", "operator"):
        known = {"fleet": 200, "data": 200, "instance": 200, "unknown instance": 404, "events": 404, "login": 200}
        return {**known, "check": 303 if role == "operator" else 403, "sign out": 200}[route]
    if role == "instance's administrator":
        known = {"fleet": 200, "data": 401, "instance": 423 if locked else 200, "unknown instance": 404}
        return {**known, "check": 303, "events": 401, "login": 303, "sign out": 303}[route]
    return {"data": 401, "events": 401, "login": 200}.get(route, 303)


@pytest.mark.parametrize("locked", [False, True])
async def test_route_by_role_by_lock(site: Site, locked: bool) -> None:
    """Every route, every role, both locks: 100% of the matrix."""
    wrong: dict[tuple[str, str], tuple[int, int]] = {}
    for role in ROLES:
        form = await enter(site, role)
        for route, (method, path) in ROUTES.items():
            site.served.sql("UPDATE instance_config SET is_locked = %s", locked)
            site.served.drill(status="suspended" if locked else "active")
            answer = await site.client.request(method, path, data=form if method == "POST" else None)
            wanted = expected(route, role, locked=locked)
            if answer.status_code != wanted:
                wrong[role, route] = (answer.status_code, wanted)
    assert wrong == {}


async def enter(site: Site, role: str) -> dict[str, str]:
    """Sign in as this role. Returns the form fields that go with it."""
    site.client.cookies.clear()
    match role:
        case "nobody":
            return {}
        case "instance's administrator":
            site.served.sql("UPDATE instance_config SET is_locked = false")
            await site.client.post("/login", data={"email": EMAIL, "password": PASSWORD, "instance": INSTANCE})
            import re

            found = re.search(r'name="csrf" value="([0-9a-f]+)"', (await site.client.get(INSIDE)).text)
            assert found
            return {"csrf": found.group(1)}
        case "no group":
            await site.sign_in("sales")
            return {}
        case _:
            await site.sign_in("staff" if role == "viewer" else "ops")
            page = await site.client.get("/")
            form = {"csrf": page.text.partition('name="csrf" value="')[2].partition('"')[0]}
            if role == "signed out":
                copy = site.client.cookies["fivrec-fleet"]
                await site.client.post("/logout", data=form)
                site.client.cookies.set("fivrec-fleet", copy)
            return form


async def test_the_fleet_is_one_document_for_either_role(site: Site) -> None:
    await site.sign_in("staff")
    found = await rows(site)
    assert [row["instance"] for row in found] == [INSTANCE, "other"]
    assert all(is_answer("FleetInstance", row) for row in found)
    first, other = found
    assert (first["read"], first["status"], first["isLocked"], first["drift"]) == (
        "readable", "active", False, {"count": 0, "since": None},
    )  # fmt: skip
    assert (other["read"], other["isLocked"], other["lastRun"]) == ("not_applied", None, None)
    assert (first["needsSomebody"], other["needsSomebody"]) == (False, True)
    document = (await site.client.get("/openapi.json")).json()
    assert document["paths"]["/fleet/instances"]["get"]["security"] == [{"fleet": []}]


async def test_a_large_fleet_is_sent_compressed(site: Site) -> None:
    """A stream of events never is: each event has to arrive at once."""
    await site.sign_in("staff")
    for path in ("/", "/fleet/instances"):
        small = await site.client.get(path)
        assert "content-encoding" not in small.headers
    desired = site.served.service.instances[INSTANCE]
    site.served.service.instances.update({f"c{n}": replace(desired, instance=f"c{n}") for n in range(120)})
    for path in ("/", "/fleet/instances"):
        for wanted, encoding in (("gzip", "gzip"), ("identity", None)):
            large = await site.client.get(path, headers={"Accept-Encoding": wanted})
            assert (large.headers.get("content-encoding"), "c119" in large.text) == (encoding, True)


async def test_the_api_page_says_what_each_call_needs(site: Site) -> None:
    text = (await site.client.get("/docs")).text
    found = r'aria-labelledby="(\w+)">.*?<span class="tag">(public|token|session)</span>'
    cards = dict(re.findall(found, text, re.DOTALL))
    assert (cards["fleetInstances"], cards["login"], cards["plans"]) == ("session", "public", "token")
    assert "fivrec-fleet=$SESSION" in text
    assert "/instances/$INSTANCE/api/fiv-connect/plans</code></pre>" in text  # curl would expand braces as a list


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("status=active", [INSTANCE]),
        ("status=active&read=not_applied", []),
        ("read=not_applied", ["other"]),
        ("access=open&billing=paid&drift=no&former=no", [INSTANCE]),
        ("access=locked", []),
        ("needs=yes", ["other"]),
        ("needs=no&status=active", [INSTANCE]),
        ("q=other", ["other"]),
        ("q=PRODUCTION+other", ["other"]),
        ("q=nothing", []),
    ],
)
async def test_filters_combine_on_page_and_in_json(site: Site, query: str, wanted: list[str]) -> None:
    await site.sign_in("staff")
    assert [row["instance"] for row in await rows(site, query)] == wanted
    page = (await site.client.get(f"/?{query}")).text
    shown = [line for line in page.splitlines() if line.startswith("<tr data-find") and " hidden" not in line]
    assert len(shown) == len(wanted)


async def test_a_filter_that_is_not_there_is_refused_by_name(site: Site) -> None:
    await site.sign_in("staff")
    answer = await site.client.get("/fleet/instances?status=sleeping&colour=red")
    assert (answer.status_code, [one["path"] for one in answer.json()["problems"]]) == (400, ["colour", "status"])
    assert (await site.client.get("/?status=sleeping")).status_code == 200


async def test_a_check_is_recorded_under_name_and_issuer(site: Site, provider: IdentityProvider) -> None:
    provider.claims["name"] = "Ana\nSouza\x1b[31m"
    await site.sign_in("ops")
    answer = await site.client.post(f"{INSIDE}/check", data={"csrf": await site.csrf()})
    assert answer.status_code == 303
    rows = site.served.sql("SELECT actor, action, run_id FROM fivrec.audit_log WHERE kind = 'call'")
    who = f"AnaSouza[31m [u-1] {provider.issuer} (sso, 10.1.2.3)"
    assert rows == [(who, "checkStatus", answer.headers["x-request-id"])]
    checks = site.served.sql("SELECT check_type FROM status_check_logs ORDER BY created_at DESC LIMIT 1")
    assert checks == [("manual",)]


async def test_a_viewer_checks_nothing_and_sees_no_commands(site: Site) -> None:
    await site.sign_in("staff")
    page = (await site.client.get(INSIDE)).text
    assert ("/check" in page, "--limit" in page) == (False, False)
    assert "/check" not in (await site.client.get("/")).text
    refused = await site.client.post(f"{INSIDE}/check", data={"csrf": await site.csrf()})
    assert refused.status_code == 403
    assert site.served.sql("SELECT count(*) FROM fivrec.audit_log WHERE kind = 'call'") == [(0,)]


async def test_an_operator_sees_the_exact_command(site: Site) -> None:
    await site.sign_in("ops")
    page = (await site.client.get(INSIDE)).text
    assert f"fivrec apply manifests &#39;more clients&#39; --limit {INSTANCE}" in page


async def test_forms_of_other_sites_check_nothing(site: Site) -> None:
    await site.sign_in("ops")
    form = {"csrf": await site.csrf()}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert (await site.client.post(f"{INSIDE}/check", data=form, headers=headers)).status_code == 403
    assert (await site.client.post(f"{INSIDE}/check", data={"csrf": "0" * 64})).status_code == 403
    assert site.served.sql("SELECT count(*) FROM fivrec.audit_log WHERE kind = 'call'") == [(0,)]


async def test_an_instance_that_can_not_be_read_keeps_nobody_waiting(
    database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.web.fleet_board.FIRST_S", 0.0)
    async with signed_in_site(database, keys, tmp_path, provider) as site:
        dead = site.served.desired
        gone = replace(
            dead, instance="other", database=replace(dead.database, url=Secret("postgresql://u:p@127.0.0.1:1/x"))
        )
        site.served.service.instances["other"] = gone  # type: ignore[index]
        await site.sign_in("staff")
        for _ in range(600):
            found = await rows(site)
            if all(row["read"] != "pending" for row in found):
                break
            await asyncio.sleep(0.1)
        assert [row["read"] for row in found] == ["readable", "unreadable"]
        assert "postgresql" not in str(found[1])
        assert [row["instance"] for row in await rows(site, "read=unreadable")] == ["other"]


async def test_without_the_option_nothing_is_there(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    from tests.support.serving import served

    async with served(database, keys, tmp_path, signing=token_keys()) as one:
        for path in ("/fleet/instances", "/sso/login", "/sso/callback", "/sso/logout"):
            assert (await one.client.get(path)).status_code == 404
        document = (await one.client.get("/openapi.json")).json()
        assert "/fleet/instances" not in document["paths"]
        assert "FleetInstance" not in document["components"]["schemas"]
        assert "/sso/" not in (await one.client.get("/login")).text


async def rows(site: Site, query: str = "") -> list[dict[str, Any]]:
    answer = await site.client.get(f"/fleet/instances?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_page_views_are_events_of_the_access_log(site: Site, provider: IdentityProvider) -> None:
    events: list[dict[str, Any]] = []
    site.served.service.run.log.listeners.append(events.append)
    await site.sign_in("staff")
    for path in ("/", INSIDE, "/fleet/instances"):
        await site.client.get(path)
    await site.sign_in("sales")
    seen = [(one["route"], one["actor"], one["instance"]) for one in events if one["operation"] == "request"]
    who = f"Ana Souza [u-1] {provider.issuer}"
    assert seen == [
        ("/sso/login", None, None), ("/sso/callback", who, None), ("/", who, None),
        ("/instances/{instance}", who, INSTANCE), ("/fleet/instances", who, None),
        ("/sso/login", None, None), ("/sso/callback", None, None),
    ]  # fmt: skip
    failed = [one["message"] for one in events if one["level"] == "warning"]
    said = 'Ana Souza [u-1]: none of the claim groups has a role here; it has "sales" (give the person a group'
    assert said in failed[0]
    assert failed[1].endswith("login failed from 10.1.2.3")
    assert "code-" not in str(events)
