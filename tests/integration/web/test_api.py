"""The integration API in this process, on a real database and the emulator: the seed's calls, access, forged tokens."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from psycopg import sql

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import EventLog
from reconciler.web.app import build_app
from reconciler.web.endpoints import ENDPOINTS
from reconciler.web.openapi import is_answer, operations
from tests.support.cli_process import ROOT
from tests.support.engine import desired_of, document, run_of
from tests.support.listening import listening
from tests.support.serving import EMAIL, INSTANCE, PASSWORD, Served, served, token_keys

BODIES: dict[str, Any] = {
    "login": {"email": EMAIL, "password": PASSWORD},
    "configure": {"instanceId": INSTANCE},
    "setupProduction": {
        "companyName": "Nome da Empresa",
        "adminEmail": "outra@empresa.com",
        "adminPassword": "senha_segura_123",
    },
}


@pytest.fixture
async def api(database: Secret, keys: KeyRing, tmp_path: Path) -> AsyncIterator[Served]:
    async with served(database, keys, tmp_path) as one:
        yield one


async def call(api: Served, operation: str, token: str | None = "", **more: Any) -> httpx.Response:
    found = next(item for item in operations() if item.id == operation)
    headers = {} if token is None else {"Authorization": f"Bearer {token or api.token}"}
    body = more.pop("json", BODIES.get(operation))
    return await api.client.request(found.method, found.path, headers=headers, json=body, **more)


def test_operations_and_endpoints_are_the_same() -> None:
    assert sorted(ENDPOINTS) == sorted(operation.id for operation in operations())


# The seed's calls


async def test_login_gives_a_token_and_how_long_it_lives(api: Served) -> None:
    answer = await call(api, "login", None)
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "tokenType", "expiresIn"}
    assert answer.json()["expiresIn"] == 900
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "jti", "iat", "exp", "pwd"}
    assert (claims["iss"], claims["exp"] - claims["iat"]) == ("fivrec", 900)
    assert (await call(api, "statusLogs", answer.json()["token"])).status_code == 200


async def test_plans_and_databases_are_connects(api: Served) -> None:
    plans = await call(api, "plans")
    assert [plan["id"] for plan in plans.json()] == ["plan_enterprise", "plan_professional", "plan_starter"]
    assert plans.json()[2] == {
        "id": "plan_starter", "name": "Starter", "description": "Basic plan for small businesses", "price": 2900,
        "currency": "BRL", "billingInterval": "monthly", "features": plans.json()[2]["features"], "maxUsers": 2,
        "maxConversations": 50, "storageLimit": 500, "isActive": True, "stripeProductId": "prod_starter",
        "stripePriceId": "price_starter",
    }  # fmt: skip
    databases = (await call(api, "databases")).json()
    assert databases[0]["id"] == f"db_{INSTANCE}_main"
    assert all(is_answer("Plan", plan) for plan in plans.json())
    assert all(is_answer("Database", database) for database in databases)


async def test_sync_plans_brings_them_into_the_database(api: Served) -> None:
    api.sql("UPDATE plans SET price = 1 WHERE id = 'plan_starter'")
    answer = await call(api, "syncPlans")
    assert (answer.status_code, answer.json()["created"], answer.json()["updated"]) == (200, 0, 1)
    assert api.sql("SELECT price FROM plans WHERE id = 'plan_starter'") == [(2900,)]
    assert is_answer("SyncAnswer", answer.json())
    again = await call(api, "syncPlans")
    assert again.json()["updated"] == 0


async def test_a_sync_of_an_unconfigured_instance_writes_nothing(api: Served) -> None:
    api.sql("DELETE FROM status_check_logs")
    api.sql("DELETE FROM instance_config")
    api.sql("UPDATE plans SET price = 1")
    refused = await call(api, "syncPlans")
    assert (refused.status_code, refused.json()["title"]) == (404, "Instance not configured")
    assert api.sql("SELECT DISTINCT price FROM plans") == [(1,)]


async def test_a_refused_sync_goes_through_with_its_digest(api: Served) -> None:
    api.drill(plans=())
    refused = await call(api, "syncPlans")
    assert (refused.status_code, refused.json()["code"]) == (409, "guard")
    done = await call(api, "syncPlans", json={"accept": refused.json()["digest"]})
    assert (done.status_code, done.json()["deactivated"]) == (200, 3)


async def test_report_usage_answers_after_connect_took_the_report(api: Served) -> None:
    answer = await call(api, "reportUsage")
    assert answer.status_code == 200
    assert is_answer("UsageAnswer", answer.json())
    taken = api.state.read().instances[INSTANCE].reports
    assert len(taken) == 1
    assert answer.json()["report"]["totalUsers"] == 1
    assert api.sql("SELECT count(*) FROM fivrec.usage_outbox WHERE sent_at IS NULL") == [(0,)]


async def test_a_report_that_connect_refuses_waits_and_is_sent_once(api: Served) -> None:
    api.drill(fail="500")
    failed = await call(api, "reportUsage")
    assert (failed.status_code, failed.json()["title"]) == (502, "Fi.V Connect API returned 500")
    api.drill(reset=True)
    done = await call(api, "reportUsage")
    assert (done.status_code, done.json()["sent"]) == (200, 2)
    assert len(api.state.read().instances[INSTANCE].reports) == 2


async def test_a_report_that_is_never_accepted_blocks_no_other(api: Served) -> None:
    api.drill(fail="500")
    assert (await call(api, "reportUsage")).status_code == 502
    api.sql("UPDATE fivrec.usage_outbox SET payload = '{}' RETURNING 1")
    api.drill(reset=True)
    done = await call(api, "reportUsage")
    assert (done.status_code, done.json()["sent"]) == (200, 1)
    assert api.sql("SELECT payload::text FROM fivrec.usage_outbox WHERE sent_at IS NULL") == [("{}",)]


async def test_config_is_shown_without_its_key(api: Served) -> None:
    answer = await call(api, "config")
    assert is_answer("Config", answer.json())
    assert answer.json() | {"lastStatusCheck": None} == {
        "instanceId": INSTANCE, "connectApiUrl": "embedded:", "checkIntervalMinutes": 60, "environment": "production",
        "status": "active", "billingStatus": "paid",
        "enabledFeatures": {"ai_agent": False, "chat": True, "chatbot": True},
        "isLocked": False, "lastStatusCheck": None, "instanceKey": "(sensitive)",
    }  # fmt: skip
    assert "key-of-the-test" not in answer.text


async def test_changes_to_declared_values_are_refused_with_their_place(api: Served) -> None:
    for changed in ({"checkIntervalMinutes": 5}, {"instanceKey": "other"}, {"connectApiUrl": "https://evil.example"}):
        answer = await call(api, "configure", json={"instanceId": INSTANCE, **changed})
        assert (answer.status_code, answer.json()["code"]) == (409, "manifest_owned")
        assert answer.json()["place"] == "test.yaml:1:1"
    assert (await call(api, "configure", json={"instanceId": "another"})).status_code == 409
    assert api.sql("SELECT check_interval_minutes FROM instance_config") == [(60,)]


async def test_the_same_values_are_taken_and_make_a_missing_row(api: Served) -> None:
    api.sql("DELETE FROM instance_config")
    assert (await call(api, "config")).json()["title"] == "Instance not configured"
    wanted = {"instanceId": INSTANCE, "instanceKey": "key-of-the-test", "checkIntervalMinutes": 60}
    answer = await call(api, "configure", json=wanted)
    assert (answer.status_code, answer.json()["status"]) == (200, "unknown")
    assert "key-of-the-test" not in str(api.sql("SELECT instance_key FROM instance_config"))


async def test_allow_writes_lets_a_call_change_what_the_manifest_owns(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    async with served(database, keys, tmp_path, allow_writes=True) as api:
        answer = await call(api, "configure", json={"instanceId": INSTANCE, "checkIntervalMinutes": 5})
        assert (answer.status_code, answer.json()["checkIntervalMinutes"]) == (200, 5)
        metadata = {"instanceId": INSTANCE, "connectApiUrl": "https://169.254.169.254"}
        assert (await call(api, "configure", json=metadata)).status_code == 400


async def test_calls_that_write_are_refused_while_the_manifest_is_suspended(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    async with served(database, keys, tmp_path, allow_writes=True) as api:
        api.sql("INSERT INTO clients (name, environment) VALUES ('a', 'development')")
        api.sql("DELETE FROM plans")
        api.service.instances[INSTANCE] = replace(api.desired, suspend=True)
        wanted = {"instanceId": INSTANCE, "checkIntervalMinutes": 5}
        body = {**BODIES["setupProduction"], "adminEmail": "outra@empresa.com"}
        answers = [
            await call(api, "configure", json=wanted),
            await call(api, "setupProduction", json=body),
            await call(api, "syncPlans"),
            await call(api, "clearDevelopmentData"),
        ]
        hint = "take suspend: true out of it"
        assert [(one.status_code, one.json()["code"], one.json()["hint"]) for one in answers] == [
            *[(409, "suspended_manifest", hint)] * 3,
            (409, "purge_refused", hint),
        ]
        counted = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM plans), (SELECT count(*) FROM clients)"
        assert api.sql(counted) == [(1, 0, 1)]
        assert api.sql("SELECT check_interval_minutes FROM instance_config") == [(60,)]
        assert (await call(api, "reportUsage")).status_code == 200  # a watched instance reports its usage
        assert (await call(api, "checkStatus")).json()["success"] is True


async def test_check_status_answers_now_records_and_locks(api: Served) -> None:
    api.drill(status="suspended", billing="overdue")
    answer = await call(api, "checkStatus")
    assert is_answer("CheckAnswer", answer.json())
    shown = {name: answer.json()[name] for name in ("status", "billingStatus", "isLocked", "success")}
    assert shown == {"status": "suspended", "billingStatus": "overdue", "isLocked": True, "success": True}
    assert api.sql("SELECT is_locked FROM instance_config") == [(True,)]
    assert (await call(api, "plans")).status_code == 423
    api.drill(status="active")
    assert (await call(api, "checkStatus")).json()["isLocked"] is False
    assert (await call(api, "plans")).status_code == 200


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("suspended", f"{INSTANCE} is suspended: access is locked"),
        ("pending_payment", f"access to {INSTANCE} is locked until Fi.V Connect says that it is active"),
        ("active", f"access to {INSTANCE} is locked until Fi.V Connect says that it is active"),
    ],
)
async def test_423_says_suspended_only_of_suspended_ones(api: Served, status: str, said: str) -> None:
    api.sql("UPDATE instance_config SET is_locked = true, status = %s", status)
    problem = (await call(api, "config")).json()
    assert (problem["title"], problem["detail"], problem["code"]) == ("Access is locked", said, "instance_locked")


async def test_a_failed_check_is_a_recorded_502_in_the_seeds_words(api: Served) -> None:
    api.drill(fail="500")
    answer = await call(api, "checkStatus")
    assert (answer.status_code, answer.json()["title"]) == (502, "Fi.V Connect API returned 500")
    assert answer.headers["content-type"] == "application/problem+json"
    newest = (await call(api, "statusLogs", params={"limit": 1})).json()[0]
    assert (newest["success"], newest["checkType"]) == (False, "manual")


async def test_status_logs_are_paged_and_filtered(api: Served) -> None:
    for number in range(7):
        api.sql(
            "INSERT INTO status_check_logs (instance_config_id, check_type, success, response_time, created_at) "
            "SELECT id, 'scheduled', %s, %s, now() - make_interval(hours => %s) FROM instance_config",
            number % 2 == 0, number, number + 1,
        )  # fmt: skip
    seen: list[Any] = []
    target = "/api/instance/status-logs?type=scheduled&limit=3"
    while target:
        answer = await api.client.get(target, headers=api.bearer)
        seen += [row["responseTime"] for row in answer.json()]
        assert len(answer.json()) <= 3
        target = answer.headers["link"].partition("<")[2].partition(">")[0] if "link" in answer.headers else ""
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    failed = (await call(api, "statusLogs", params={"failed": "true"})).json()
    assert [row["responseTime"] for row in failed] == [1, 3, 5]
    assert all(is_answer("StatusLog", row) for row in failed)


async def test_setup_production_answers_as_the_script_does(api: Served) -> None:
    answer = await call(api, "setupProduction")
    assert answer.json() | {"timestamp": ""} == {
        "success": True, "databaseSetup": True,
        "adminCredentials": {"email": "outra@empresa.com", "password": None, "passwordKept": False},
        "companySettings": {"name": "Nome da Empresa"}, "defaultQueues": ["Technical Support", "Sales"],
        "timestamp": "",
    }  # fmt: skip
    assert is_answer("SetupAnswer", answer.json())
    body = {**BODIES["setupProduction"], "adminPassword": "another-password", "adminEmail": EMAIL}
    kept = await call(api, "setupProduction", json=body)
    assert (kept.status_code, is_answer("SetupAnswer", kept.json())) == (200, True)
    assert kept.json()["adminCredentials"] == {"email": EMAIL, "password": None, "passwordKept": True}
    login = {"email": EMAIL, "password": PASSWORD}
    assert (await call(api, "login", None, json=login)).status_code == 200
    other = {**body, "companyName": "Outra"}
    assert (await call(api, "setupProduction", json=other)).status_code == 409


# Access


async def test_ten_failures_close_the_login_for_an_account(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.login.FAILED_S", 0.01)
    wrong = {"email": EMAIL, "password": "wrong"}
    codes = [(await call(api, "login", None, json=wrong)).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429, 429]
    right = await call(api, "login", None)
    assert (right.status_code, right.headers["retry-after"]) == (429, "900")


async def test_a_failed_login_takes_as_long_whatever_was_compared(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    api.account("agent@empresa.com", role="agent")
    api.account("plain@empresa.com")
    api.sql("UPDATE users SET password = 'senha-123' WHERE email = 'plain@empresa.com'")
    tries = {
        "a wrong password": (EMAIL, "wrong", 401),
        "no account": ("nobody@empresa.com", "wrong", 401),
        "no hash": ("plain@empresa.com", PASSWORD, 401),
        "no administrator": ("agent@empresa.com", PASSWORD, 403),
        "a password of 100 bytes": (EMAIL, "x" * 100, 401),
    }
    took: dict[str, float] = {}
    for name, (email, password, code) in tries.items():
        began = time.monotonic()
        answer = await call(api, "login", None, json={"email": email, "password": password})
        took[name] = time.monotonic() - began
        assert (name, answer.status_code) == (name, code)
    assert all(seconds >= 0.6 for seconds in took.values()), took
    monkeypatch.setattr("reconciler.web.login.FAILED_S", 60.0)
    began = time.monotonic()
    assert (await call(api, "login", None)).status_code == 200
    assert time.monotonic() - began < 30


async def test_every_failed_login_takes_one_hashing_slot(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.engine import bcrypt

    used: list[int] = []
    real = bcrypt._threads()

    class Counted:
        def submit(self, *work: Any) -> Any:
            used.append(1)
            return real.submit(*work)

    monkeypatch.setattr(bcrypt, "_threads", Counted)
    monkeypatch.setattr("reconciler.web.login.FAILED_S", 0.01)
    for email in (EMAIL, "nobody@empresa.com"):
        used.clear()
        assert (await call(api, "login", None, json={"email": email, "password": "wrong"})).status_code == 401
        assert (email, used) == (email, [1])


def events_of(api: Served) -> list[dict[str, Any]]:
    """Returns a list that receives the access log's events from now on."""
    found: list[dict[str, Any]] = []
    api.service.run.log.listeners.append(lambda event: found.append(event) if event["operation"] == "request" else None)
    return found


async def test_every_request_is_one_event_with_its_route(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.web.login.FAILED_S", 0.01)
    events = events_of(api)
    await api.client.get("/api/instance/status-logs?limit=5&since=canary", headers=api.bearer)
    checked = await call(api, "checkStatus")
    await call(api, "plans", None)
    await call(api, "login", None, json={"email": "canary@empresa.com", "password": "canary"})
    await api.client.post("/login", data={"email": "canary@empresa.com", "password": "canary"})
    await api.client.get("/canary")
    await api.client.get("/openapi.json?canary")
    await api.client.put("/api/instance/config")
    await api.client.get(f"/instances/{INSTANCE}/api/instance/config")
    names = ("level", "method", "route", "status", "instance", "actor", "success", "address")
    assert [tuple(event[name] for name in names) for event in events] == [
        ("info", "GET", "/api/instance/status-logs", 400, INSTANCE, EMAIL, False, "10.1.2.3"),
        ("info", "POST", "/api/instance/check-status", 200, INSTANCE, EMAIL, True, "10.1.2.3"),
        ("info", "GET", "/api/fiv-connect/plans", 401, INSTANCE, None, False, "10.1.2.3"),
        ("warning", "POST", "/api/auth/login", 401, INSTANCE, None, False, "10.1.2.3"),
        ("warning", "POST", "/login", 401, INSTANCE, None, False, "10.1.2.3"),
        ("info", "GET", None, 404, None, None, False, "10.1.2.3"),
        ("info", "GET", "/openapi.json", 200, None, None, True, "10.1.2.3"),
        ("info", "PUT", "/api/instance/config", 405, None, None, False, "10.1.2.3"),
        ("info", "GET", "/instances/{instance}/api/instance/config", 401, INSTANCE, None, False, "10.1.2.3"),
    ]
    assert [event["message"].rpartition(": ")[2] for event in events[3:5]] == ["login failed from 10.1.2.3"] * 2
    assert all(isinstance(event["duration_ms"], int) for event in events)
    assert "canary" not in str(events)
    # The audit row of a call is found by the request's id.
    assert checked.headers["x-request-id"] == events[1]["request_id"]
    assert api.sql("SELECT count(*) FROM fivrec.audit_log WHERE run_id::text = %s", events[1]["request_id"]) != [(0,)]


HOST = (
    r"\[?(?:::f{4,6}:)?(?P<host>(?:\d{1,3}\.){3}\d{1,3}|"
    r"(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):))\]?"
)
"""What fail2ban puts in place of <HOST>, except for host names."""


@pytest.mark.parametrize("address", ["10.1.2.3", "2001:db8::7", "::1"])
async def test_the_documented_pattern_finds_failed_logins_alone(
    address: str, api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"^ *failregex = (.*)$", page, re.MULTILINE)
    failed = re.compile(pattern.replace("<HOST>", HOST))
    monkeypatch.setattr("reconciler.web.login.FAILED_S", 0.01)
    transport = httpx.ASGITransport(build_app(api.service), client=(address, 1))
    lines = io.StringIO()
    monkeypatch.setattr(api.service.run.log, "stream", lines)
    async with httpx.AsyncClient(transport=transport, base_url="http://served") as client:
        for _ in range(3):
            await client.post("/api/auth/login", json={"email": "login failed from 1.2.3.4", "password": "x"})
        await client.get("/canary: login failed from 1.2.3.4")
        await client.get("/instances/login failed from 1.2.3.4")
        await client.get("/healthz", headers={"User-Agent": ": login failed from 1.2.3.4"})
    found = [failed.search(line) for line in lines.getvalue().splitlines()]
    assert [match["host"] for match in found if match] == [address] * 3
    assert len(found) > 3


async def test_unknown_accounts_take_the_same_work(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import bcrypt

    monkeypatch.setattr("reconciler.web.login.FAILED_S", 0.01)

    checked: list[bytes] = []
    real = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda given, hashed: (checked.append(hashed[:7]), real(given, hashed))[1])
    api.account("agent@empresa.com", environment="development")
    for email in (EMAIL, "nobody@empresa.com", "agent@empresa.com"):
        assert (await call(api, "login", None, json={"email": email, "password": "wrong"})).status_code == 401
    assert checked == [b"$2b$04$"] * 3


async def test_sensitive_calls_are_audited_and_the_chain_holds(api: Served) -> None:
    await call(api, "login", None, json={"email": EMAIL, "password": "wrong"})
    await call(api, "login", None, json={"email": "my-password-typed-here", "password": "x"})
    await call(api, "login", None)
    for operation in ("checkStatus", "syncPlans", "reportUsage", "configure", "setupProduction", "logout"):
        await call(api, operation)
    rows = api.sql("SELECT actor, action FROM fivrec.audit_log WHERE kind = 'call' ORDER BY seq")
    known, unknown = f"{EMAIL} (api, 10.1.2.3)", "unknown account (api, 10.1.2.3)"
    assert rows == [
        (known, "login_failed"), (unknown, "login_failed"), (known, "login"), (known, "checkStatus"),
        (known, "syncPlans"), (known, "reportUsage"), (known, "configure"), (known, "setupProduction"),
        (known, "logout"),
    ]  # fmt: skip
    from reconciler.engine.status_and_logs import verify_history

    assert (await verify_history(api.desired, api.service.run, None)).finding is None


async def test_a_token_given_back_and_one_of_an_old_password_end(api: Served) -> None:
    assert (await call(api, "logout")).status_code == 204
    assert (await call(api, "config")).status_code == 401
    fresh = api.token_of(api.account(EMAIL))
    assert (await call(api, "config", fresh)).status_code == 200
    api.sql("UPDATE users SET password = 'x' WHERE email = %s", EMAIL)
    assert (await call(api, "config", fresh)).status_code == 401


ROLES = ("none", "agent", "admin", "admin of development", "admin of another instance", "removed")


@pytest.mark.parametrize("locked", [False, True])
async def test_route_by_role_by_lock(api: Served, locked: bool) -> None:
    """Every route, every role, both locks: 100% of the matrix."""
    accounts = {
        "agent": api.account("agent@empresa.com", role="agent"),
        "admin": api.account(EMAIL),
        "admin of development": api.account("dev@empresa.com", environment="development"),
        "removed": api.account("gone@empresa.com"),
    }
    api.sql("DELETE FROM users WHERE email = 'gone@empresa.com'")
    api.sql("UPDATE instance_config SET is_locked = %s", locked)
    elsewhere = api.service.tokens.issue_bearer(replace(api.desired, instance="other"), accounts["admin"])
    api.drill(status="suspended" if locked else "active")
    wrong: dict[tuple[str, str], tuple[int, int]] = {}
    checked = 0
    for operation in operations():
        for role in ROLES:
            if operation.id == "logout" and role == "admin":
                token: str | None = api.token_of(accounts[role])  # a token of its own: the others still need theirs
            else:
                token = {"none": None, "admin of another instance": elsewhere}.get(role) or (
                    api.token_of(accounts[role]) if role in accounts else None
                )
            got = (await call(api, operation.id, token)).status_code
            wanted = expected(operation.id, role, locked=locked)
            checked += 1
            if got != wanted:
                wrong[operation.id, role] = (got, wanted)
    assert (wrong, checked) == ({}, len(operations()) * len(ROLES))


def expected(operation: str, role: str, *, locked: bool) -> int:
    done = {"logout": 204, "clearDevelopmentData": 428}.get(operation, 200)
    if operation in ("health", "login"):
        return done
    if role in ("none", "admin of another instance", "removed", "admin of development"):
        return 401
    if role == "agent":
        return 403
    return 423 if locked and operation not in ("checkStatus", "statusLogs") else done


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_forged_tokens_are_all_401(api: Served) -> None:
    key = api.service.tokens.keys.keys[0]
    material = key.material.reveal().encode()
    good = jwt.decode(api.token, options={"verify_signature": False})
    head, payload, signature = api.token.split(".")

    def signed(claims: dict[str, Any] = {}, drop: str = "", secret: bytes = material, **header: Any) -> str:  # noqa: B006
        whole = {name: value for name, value in {**good, **claims}.items() if name != drop}
        kid = header.pop("kid", key.id)
        return jwt.encode(whole, secret, algorithm=header.pop("alg", "HS256"), headers={"kid": kid, **header})

    now = int(time.time())
    forged = {
        "none": f"{part({'alg': 'none', 'typ': 'JWT', 'kid': key.id})}.{payload}.",
        "None with the old signature": f"{part({'alg': 'None', 'kid': key.id})}.{payload}.{signature}",
        "alg swapped to HS512": signed(alg="HS512"),
        "alg swapped to RS256": f"{part({'alg': 'RS256', 'kid': key.id})}.{payload}.{signature}",
        "kid is a path": signed(kid="../../../../dev/null"),
        "kid is SQL": signed(kid="x' UNION SELECT 'secret"),
        "kid is missing": jwt.encode(good, material, algorithm="HS256"),
        "jku in the header": signed(jku="https://evil.example/keys"),
        "jwk in the header": signed(jwk={"kty": "oct", "k": "c2VjcmV0"}),
        "crit in the header": signed(crit=["exp"]),
        "another key": signed(secret=generate_key().encode()),
        "a short key": signed(secret=b"x"),
        "expired": signed({"iat": now - 1000, "exp": now - 100}),
        "not yet issued": signed({"iat": now + 400, "exp": now + 800}),
        "not before": signed({"nbf": now + 400}),
        "lives too long": signed({"exp": now + 100_000}),
        "no exp": signed(drop="exp"),
        "no jti": signed(drop="jti"),
        "no aud": signed(drop="aud"),
        "no iss": signed(drop="iss"),
        "another aud": signed({"aud": "fivrec:development:" + INSTANCE}),
        "aud is a list": signed({"aud": [good["aud"], "other"]}),
        "another iss": signed({"iss": "evil"}),
        "a jti that is a number": signed({"jti": 7}),
        "another user": signed({"sub": "00000000-0000-0000-0000-000000000000"}),
        "another password": signed({"pwd": "0" * 16}),
        "payload changed": f"{head}.{part({**good, 'sub': 'x'})}.{signature}",
        "signature cut": f"{head}.{payload}.{signature[:-4]}",
        "signature empty": f"{head}.{payload}.",
        "bad base64": f"{head}.{payload}$.{signature}",
        "two parts": f"{head}.{payload}",
        "five parts": f"{api.token}.{head}.{payload}",
        "not a token": "x",
        "huge": "a" * 20_000,
        "a session's": api.service.tokens.issue_session(()),
    }
    assert len(forged) >= 15
    answers = {name: (await call(api, "config", token)).status_code for name, token in forged.items()}
    assert answers == dict.fromkeys(forged, 401)
    assert (await call(api, "config")).status_code == 200


async def test_headers_that_are_no_bearer_are_401_in_the_seeds_words(api: Served) -> None:
    for header in ("", "Bearer", "Bearer ", f"Basic {api.token}", f"Bearer {api.token} x", "bearer é"):
        answer = await api.client.get("/api/instance/config", headers=[(b"Authorization", header.encode())])
        assert (answer.status_code, answer.json()["title"]) == (401, "Authorization token required")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    twice = [("Authorization", f"Bearer {api.token}")] * 2
    assert (await api.client.get("/api/instance/config", headers=twice)).status_code == 401


async def test_keys_rotate_the_old_one_verifies_the_new_one_signs(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    old, new = generate_key(), generate_key()
    async with served(database, keys, tmp_path, signing=token_keys(old)) as before:
        token = before.token
        account = before.account(EMAIL)
    rotated = replace(before.service, tokens=replace(before.service.tokens, keys=token_keys(new, old)))
    assert rotated.tokens.read_bearer(token, before.desired).user_id == account.id
    kid = jwt.get_unverified_header(rotated.tokens.issue_bearer(before.desired, account))["kid"]
    assert kid == token_keys(new).keys[0].id


# Invalid requests


TWICE = b'{"email": "a@empresa.com", "password": "one", "password": "two"}'


async def test_bodies_are_limited_typed_and_checked_whole(api: Served) -> None:
    post = api.client.post
    url = "/api/auth/login"
    assert (await post(url, content=b"x" * 70_000, headers={"Content-Type": "application/json"})).status_code == 413

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    assert (await post(url, content=drip(), headers={"Content-Type": "application/json"})).status_code == 413
    assert (await post(url, content=b"{}", headers={"Content-Type": "text/plain"})).status_code == 415
    for body in (b"", b"{", b"[]", b'"x"', b'{"email": "\\ud800", "password": "x"}', b"[" * 5000, b'{"a": NaN}', TWICE):
        answer = await post(url, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body
    all_wrong = await post(url, json={"email": 3, "extra": "secret-value"})
    assert len(all_wrong.json()["problems"]) == 3
    assert "secret-value" not in all_wrong.text


async def test_a_short_password_is_refused_with_the_minimum(api: Served) -> None:
    for short in ("", "outra"):
        answer = await call(api, "setupProduction", json={**BODIES["setupProduction"], "adminPassword": short})
        assert answer.status_code == 400
        (problem,) = [item for item in answer.json()["problems"] if item["message"].startswith("must")]
        assert problem == {"path": "adminPassword", "message": "must have at least 8 characters"}


async def test_pages_go_on_at_any_time_of_the_calendar(api: Served) -> None:
    times = ("9999-12-31T23:59:59.999999Z", "2099-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1900-01-01T00:00:00Z")
    api.sql("DELETE FROM status_check_logs")
    for at in times:
        api.sql(
            "INSERT INTO status_check_logs (id, instance_config_id, check_type, success, created_at) "
            "SELECT 'ff' || %s, id, 'manual', true, %s::timestamp FROM instance_config",
            at,
            at,
        )
    found, target = [], "/api/instance/status-logs?limit=1"
    while target:
        answer = await api.client.get(target, headers=api.bearer)
        found += [row["createdAt"] for row in answer.json()]
        target = answer.links.get("next", {}).get("url", "")
    assert found == list(times)
    for far in ("9" * 18, f"-{'9' * 18}"):
        answer = await api.client.get(f"/api/instance/status-logs?before={far}.61", headers=api.bearer)
        assert (answer.status_code, len(answer.json())) == (200, 0 if far.startswith("-") else 4)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "type=other", "failed=yes", "since=today",
              "since=2026-01-01", "before=%00", "before=abc", "other=1", "since=0001-01-01T00:00:00%2B23:59"],
)  # fmt: skip
async def test_queries_that_do_not_fit_are_400(api: Served, query: str) -> None:
    answer = await api.client.get(f"/api/instance/status-logs?{query}", headers=api.bearer)
    assert answer.status_code == 400
    assert is_answer("Problem", answer.json())


async def test_a_method_that_a_path_has_not_is_405_with_those_it_has(api: Served) -> None:
    answer = await api.client.put("/api/instance/config", headers=api.bearer)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "POST"}
    assert (await api.client.get("/nowhere")).status_code == 404


async def test_every_answer_bears_the_security_headers(api: Served) -> None:
    for path in ("/healthz", "/api/instance/config", "/nowhere", "/openapi.json"):
        headers = (await api.client.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


async def test_instances_have_their_own_paths_and_tokens(
    database: Secret, make_database: Any, keys: KeyRing, tmp_path: Path
) -> None:
    other = make_database()

    def second(first: Any) -> tuple[Any, ...]:
        from reconciler.model.types import DatabaseSpec

        return (replace(first, instance="other-1", database=DatabaseSpec(other)),)

    async with served(database, keys, tmp_path, more=second) as api:
        get = api.client.get
        assert (await get(f"/instances/{INSTANCE}/api/instance/config", headers=api.bearer)).status_code == 200
        assert (await get("/instances/other-1/api/instance/config", headers=api.bearer)).status_code == 401
        assert (await get("/instances/none/api/instance/config", headers=api.bearer)).status_code == 404
        assert (await get("/api/instance/config", headers=api.bearer)).status_code == 404
        assert (await get("/healthz")).json() == {"status": "ok"}
        assert "/instances/{instance}/api/instance/config" in (await get("/openapi.json")).json()["paths"]


async def test_development_data_go_by_a_token_for_exactly_those_rows(api: Served) -> None:
    def rows() -> list[tuple[Any, ...]]:
        return api.sql("SELECT environment, count(*) FROM clients GROUP BY 1 ORDER BY 1")

    insert = "INSERT INTO clients (name, environment) VALUES ('a', 'development'), ('b', 'development'), ('c', %s)"
    api.sql(insert, "production")
    first = await call(api, "clearDevelopmentData")
    assert (first.status_code, first.json()["counts"]) == (428, {"clients": 2})
    token = first.json()["confirmationToken"]
    stranger = api.token_of(api.account("outra@empresa.com"))
    for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), "1." + token.partition(".")[2], "x"):
        assert (await call(api, "clearDevelopmentData", params={"confirm": wrong})).status_code == 428
    assert (await call(api, "clearDevelopmentData", stranger, params={"confirm": token})).status_code == 428
    api.sql("INSERT INTO clients (name, environment) VALUES ('d', 'development')")
    assert (await call(api, "clearDevelopmentData", params={"confirm": token})).status_code == 428
    assert rows() == [("development", 3), ("production", 1)]
    again = (await call(api, "clearDevelopmentData")).json()["confirmationToken"]
    done = await call(api, "clearDevelopmentData", params={"confirm": again})
    assert (done.status_code, done.json()) == (200, {"success": True, "deleted": {"clients": 3}})
    assert rows() == [("production", 1)]
    actions = api.sql("SELECT kind, action FROM fivrec.audit_log WHERE kind = 'test_data'")
    assert actions == [("test_data", "remove")]


async def test_a_former_administrators_token_ends_at_once(api: Served, keys: KeyRing, tmp_path: Path) -> None:
    assert (await call(api, "statusLogs")).status_code == 200
    replaced = {**document()["admin"], "email": "nova@empresa.com", "former": "demote"}
    whole = document(admin={**document()["admin"], "former": "demote"})
    url = api.desired.database.url
    for sections in (whole, document(admin=replaced)):
        assert (await reconcile(desired_of(sections, url), run_of(keys, tmp_path, 7))).error is None
    assert (await call(api, "statusLogs")).json()["code"] == "admin_only"


async def test_a_confirmation_is_for_its_rows_and_time_and_used_once(api: Served) -> None:
    add = "INSERT INTO clients (id, name, environment) VALUES (%s, 'x', 'development')"
    api.sql(add, "a")
    token = (await call(api, "clearDevelopmentData")).json()["confirmationToken"]
    api.sql("DELETE FROM clients WHERE id = 'a'")
    api.sql(add, "b")
    assert (await call(api, "clearDevelopmentData", params={"confirm": token})).status_code == 428
    token = (await call(api, "clearDevelopmentData")).json()["confirmationToken"]
    until, _, digest = token.partition(".")
    longer = f"{int(until) + 60}.{digest}"
    assert (await call(api, "clearDevelopmentData", params={"confirm": longer})).status_code == 428
    assert (await call(api, "clearDevelopmentData", params={"confirm": token})).status_code == 200
    api.sql(add, "b")  # the same row again
    assert (await call(api, "clearDevelopmentData", params={"confirm": token})).status_code == 428
    assert api.sql("SELECT id FROM clients") == [("b",)]


async def test_if_match_guards_the_configuration_of_others(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, allow_writes=True) as api:
        tag = (await call(api, "config")).headers["etag"]
        body = {"instanceId": INSTANCE, "checkIntervalMinutes": 30}
        headers = {**api.bearer, "If-Match": tag}
        path = "/api/instance/config"
        first = await api.client.post(path, headers=headers, json=body)
        assert (first.status_code, first.json()["checkIntervalMinutes"]) == (200, 30)
        late = await api.client.post(path, headers=headers, json={**body, "checkIntervalMinutes": 15})
        assert (late.status_code, late.json()["code"]) == (412, "config_changed")
        current = {**api.bearer, "If-Match": first.headers["etag"]}
        assert (await api.client.post(path, headers=current, json=body)).status_code == 200
        both = [api.client.post(path, headers=api.bearer, json={**body, "checkIntervalMinutes": n}) for n in (7, 8, 9)]
        assert [answer.json()["checkIntervalMinutes"] for answer in await asyncio.gather(*both)] == [7, 8, 9]


async def test_static_files_have_validators(api: Served) -> None:
    first = await api.client.get("/static/page.css")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = await api.client.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])


async def test_administrators_see_checks_of_a_suspended_instance(api: Served) -> None:
    api.drill(status="suspended")
    assert (await call(api, "checkStatus")).status_code == 200
    logs = await call(api, "statusLogs")
    assert (logs.status_code, logs.json()[0]["statusReceived"]) == (200, "suspended")
    assert (await call(api, "config")).status_code == 423


async def test_an_app_made_database_is_set_up_by_the_seeds_procedure(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Processo de Deploy, Para Instância Existente: login, config, sync-plans, check; before any apply."""
    from reconciler.support.crypto.passwords import hash_password

    async with served(seed_database, keys, tmp_path, applied=False) as api:
        api.sql("UPDATE users SET password = %s WHERE email = %s", hash_password(Secret(PASSWORD), 4), EMAIL)
        wrong = {"email": EMAIL, "password": "wrong"}
        assert [(await call(api, "login", None, json=wrong)).status_code for _ in range(3)] == [401] * 3
        token = (await call(api, "login", None)).json()["token"]
        refused = await call(api, "syncPlans", token)
        assert (refused.status_code, refused.json()["title"]) == (404, "Instance not configured")
        assert refused.json()["hint"].startswith("POST /api/instance/config, or run `fivrec apply` once")
        assert api.sql("SELECT to_regclass('fivrec.audit_log')") == [(None,)]
        body = {"instanceId": INSTANCE, "instanceKey": "key-of-the-test", "connectApiUrl": "embedded:"}
        done = await call(api, "configure", token, json=body)
        assert done.status_code == 200, done.text
        actors = api.sql("SELECT DISTINCT actor FROM fivrec.audit_log")
        assert actors == [(f"{EMAIL} (api, 10.1.2.3)",)]
        assert (await call(api, "syncPlans", token)).json()["success"] is True
        assert (await call(api, "checkStatus", token)).json()["status"] == "active"
        assert (await call(api, "login", None)).status_code == 200
        assert [(await call(api, "login", None, json=wrong)).status_code for _ in range(11)][-1] == 429


async def test_logins_before_the_first_apply_are_limited_too(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    async with served(seed_database, keys, tmp_path, applied=False) as api:
        wrong = {"email": EMAIL, "password": "wrong"}
        codes = [(await call(api, "login", None, json=wrong)).status_code for _ in range(12)]
        assert codes == [401] * 10 + [429, 429]


async def test_a_call_that_the_servers_end_cuts_off_is_answered(api: Served) -> None:
    """It waits for a lock when the server is stopped. The log has the request, and no failure of the server."""
    log = io.StringIO()
    app = build_app(replace(api.service, run=replace(api.service.run, log=EventLog(log))))
    with psycopg.connect(api.desired.database.url.reveal()) as other:
        other.execute("LOCK TABLE users")
        async with httpx.AsyncClient(timeout=60) as client:
            settings = {"log": EventLog(log), "on_stop": app.state.stop, "timeout_graceful_shutdown": 0}
            async with listening(app, **settings) as url:
                call = asyncio.create_task(client.get(f"{url}/api/instance/status-logs", headers=api.bearer))
                waits = sql.SQL("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass")
                while other.execute(waits).fetchone() == (0,):
                    await asyncio.sleep(0.01)
            answer = await call
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()) == (
        503,
        "5",
        {
            "type": "urn:fivrec:problem:interrupted",
            "title": "Not available now",
            "status": 503,
            "code": "interrupted",
            "detail": "the server is stopping; what was not committed was rolled back",
            "hint": "send it again once the server is back",
        },
    )
    lines = [line for line in log.getvalue().splitlines() if "/status-logs" not in line]
    assert lines == []
