"""A served instance for tests: applied to a database, its application in this process, a token ready for use."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from reconciler.connect.emulator.drills import Drill, set_drill
from reconciler.connect.emulator.state_file import StateFile
from reconciler.database.accounts import Account
from reconciler.database.login_limit import LoginLimit
from reconciler.database.pool import ConnectionPool
from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.crypto.passwords import hash_password
from reconciler.web.app import build_app
from reconciler.web.service import Service
from reconciler.web.token_keys import TokenKeys, load_token_keys
from reconciler.web.tokens import Tokens
from tests.support.engine import INSTANCE, desired_of, document, run_of

EMAIL, PASSWORD = "admin@empresa.com", "senha-123"


def now() -> datetime:
    return datetime.now(UTC)


def token_keys(*words: str) -> TokenKeys:
    return load_token_keys({"FIVREC_JWT_KEY": ",".join(words or (generate_key(),))}, None)


@dataclass
class Served:
    """One instance, applied and served. `client` calls the application; `token` is that of its administrator."""

    service: Service
    desired: Desired
    client: httpx.AsyncClient
    state: StateFile
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', (await self.client.get("/")).text)
        assert found
        return found.group(1)

    def drill(self, **settings: Any) -> None:
        """Set what Connect answers from now on."""
        set_drill(self.state, self.desired.instance, Drill(**settings))

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.desired.database.url.reveal(), autocommit=True) as conn:
            cursor = conn.execute(sql.SQL(statement), params)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def account(self, email: str, role: str = "admin", environment: str = "production") -> Account:
        """Returns a user of the instance; creates the user if need be."""
        hashed = hash_password(Secret(PASSWORD), 4)
        self.sql(
            "INSERT INTO users (name, email, password, role, environment) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (email) DO NOTHING",
            email.partition("@")[0], email, hashed, role, environment,
        )  # fmt: skip
        row = self.sql("SELECT id, name, email, password, role FROM users WHERE email = %s", email)[0]
        return Account(row[0], row[1], row[2], Secret(row[3]), row[4])

    def token_of(self, account: Account) -> str:
        return self.service.tokens.issue_bearer(self.desired, account)


@asynccontextmanager
async def served(
    url: Secret,
    keys: KeyRing,
    work_dir: Path,
    *,
    more: Callable[[Desired], tuple[Desired, ...]] = lambda _: (),
    whole: dict[str, Any] | None = None,
    applied: bool = True,
    **settings: Any,
) -> AsyncIterator[Served]:
    desired = desired_of(whole or document(), url)
    run = run_of(keys, work_dir)
    if applied:
        report = await reconcile(desired, run)
        assert report.error is None, report.error
    instances = {item.instance: item for item in (desired, *more(desired))}
    service = Service(
        instances=instances,
        run=replace(run, pool=ConnectionPool()),
        tokens=Tokens(settings.pop("signing", None) or token_keys(), now),
        **{"limit": LoginLimit(), **settings},
    )
    transport = httpx.ASGITransport(build_app(service), client=("10.1.2.3", 4000), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        one = Served(service, desired, client, StateFile(work_dir / "connect.json"), "")
        one.token = one.token_of(one.account(EMAIL))
        try:
            yield one
        finally:
            assert service.run.pool is not None
            await service.run.pool.aclose()


__all__ = ["EMAIL", "INSTANCE", "PASSWORD", "Served", "served", "token_keys"]
