"""POST /api/environment/setup-production of a development instance: it goes live, and its administrator can log in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from reconciler.engine.reconcile import preview
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from reconciler.web.openapi import is_answer
from tests.support.engine import INSTANCE, document, run_of
from tests.support.isolated import ROWS
from tests.support.serving import EMAIL, Served, served

PATH = "/api/environment/setup-production"
BODY = {"companyName": "Nome da Empresa", "adminEmail": EMAIL, "adminPassword": "senha_segura_123"}
NOTE = "test.yaml:1:1 still says development: set it to production there, until then fivrec apply refuses it"


def development(**more: Any) -> dict[str, Any]:
    spec = {"name": "development", "isolation": "constraints", "purge_development_data": False, **more}
    return document(environment=spec)


async def setup(api: Served, **more: str) -> httpx.Response:
    account = api.account(EMAIL)
    return await api.client.post(
        PATH, headers={"Authorization": f"Bearer {api.token_of(account)}"}, json={**BODY, **more}
    )


async def login(api: Served, password: str, email: str = EMAIL) -> int:
    return (await api.client.post("/api/auth/login", json={"email": email, "password": password})).status_code


async def test_it_moves_the_administrator_who_then_logs_in(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, whole=development(), allow_writes=True) as api:
        api.sql("INSERT INTO queues (name, environment) VALUES ('Test', 'development')")
        answer = await setup(api)
        assert answer.status_code == 200, answer.text
        assert answer.json() | {"timestamp": ""} == {
            "success": True, "databaseSetup": True,
            "adminCredentials": {"email": EMAIL, "password": None, "passwordKept": False},
            "companySettings": {"name": "Nome da Empresa"}, "defaultQueues": ["Technical Support", "Sales"],
            "timestamp": "",
            "note": NOTE,
        }  # fmt: skip
        assert is_answer("SetupAnswer", answer.json())
        assert await login(api, "senha_segura_123") == 200
        assert await login(api, "senha-123") == 401
        assert api.sql("SELECT environment, count(*) FROM users GROUP BY 1") == [("production", 1)]
        assert api.sql("SELECT environment, count(*) FROM queues GROUP BY 1 ORDER BY 1") == [
            ("development", 3),
            ("production", 2),
        ]
        later = await preview(api.desired, run_of(keys, tmp_path, 2))
        assert [change.key.kind for change in later.changes if change.key.kind == "environment"] == ["environment"]
        assert f"environment/{INSTANCE} would change from production to development" in later.notes[0]


async def test_test_rows_go_with_purge_development_data_alone(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    whole = development(purge_development_data=True)
    async with served(database, keys, tmp_path, whole=whole, allow_writes=True) as api:
        api.sql(ROWS.format(e="development"))
        assert (await setup(api)).status_code == 200
        for table in ("users", "queues", "clients", "conversations", "messages"):
            assert api.sql(f"SELECT count(*) FROM {table} WHERE environment = 'development'") == [(0,)]
        assert await login(api, "senha_segura_123") == 200


async def test_its_address_may_differ_in_case(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, whole=development(), allow_writes=True) as api:
        other = EMAIL.replace("admin", "Admin")
        answer = await setup(api, adminEmail=other)
        assert answer.json()["adminCredentials"] == {"email": other, "password": None, "passwordKept": False}
        assert await login(api, "senha_segura_123", other) == 200
        assert api.sql("SELECT name, email, environment FROM users") == [("Administrador", other, "production")]


async def test_rows_that_refer_to_the_administrator_and_stay_refuse_it(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    async with served(database, keys, tmp_path, whole=development(), allow_writes=True) as api:
        api.sql("INSERT INTO conversations (user_id, environment) SELECT id, environment FROM users")
        refused = await setup(api)
        assert (refused.status_code, refused.json()["code"]) == (409, "admin_in_use")
        assert "purge_development_data: true" in refused.json()["hint"]
        assert api.sql("SELECT DISTINCT environment FROM users") == [("development",)]


async def test_default_queues_that_are_there_stay_as_they_are(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    whole = {name: value for name, value in document().items() if name != "queues"}
    async with served(database, keys, tmp_path, whole=whole, allow_writes=True) as api:
        api.sql("INSERT INTO queues (name, description, is_active) VALUES ('Sales', 'Vendas', false)")
        assert (await setup(api)).status_code == 200
        assert api.sql("SELECT name, description, is_active FROM queues ORDER BY 1") == [
            ("Sales", "Vendas", False),
            ("Technical Support", None, True),
        ]


async def test_without_the_option_it_says_what_to_do(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, whole=development()) as api:
        refused = await setup(api)
        assert (refused.status_code, refused.json()["code"], refused.json()["hint"]) == (
            409,
            "manifest_owned",
            "set it to production there and run fivrec apply, or start serve with --allow-writes",
        )


async def test_another_administrator_is_made_beside_the_test_users(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    async with served(database, keys, tmp_path, whole=development(), allow_writes=True) as api:
        answer = await setup(api, adminEmail="outra@empresa.com")
        assert answer.status_code == 200, answer.text
        assert await login(api, "senha_segura_123", "outra@empresa.com") == 200
        assert api.sql("SELECT email, environment FROM users ORDER BY 1") == [
            (EMAIL, "development"),
            ("outra@empresa.com", "production"),
        ]
        again = await setup_again(api)
        assert (again.status_code, again.json()["adminCredentials"]["passwordKept"]) == (200, True)
        assert "note" not in again.json()


async def test_an_address_of_a_test_user_is_refused_as_taken(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    async with served(database, keys, tmp_path, allow_writes=True) as api:
        columns = "name, email, password, environment"
        api.sql(f"INSERT INTO users ({columns}) VALUES ('T', 'outra@empresa.com', 'x', 'development')")
        refused = await setup(api, adminEmail="outra@empresa.com")
        assert (refused.status_code, refused.json()["code"]) == (409, "admin_email_taken")
        assert refused.json()["hint"] == "declare another email for this environment: users.email is unique in both"


async def setup_again(api: Served) -> httpx.Response:
    """Make the same call again as the new administrator; the instance is served as production by now."""
    given = {"email": "outra@empresa.com", "password": "senha_segura_123"}
    token = (await api.client.post("/api/auth/login", json=given)).json()["token"]
    body = {**BODY, "adminEmail": "outra@empresa.com", "adminPassword": "another-password"}
    return await api.client.post(PATH, headers={"Authorization": f"Bearer {token}"}, json=body)
