"""A served instance with a single login for the fleet, and a browser's cookies without the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from reconciler.web.fleet_access import FleetAccess
from reconciler.web.fleet_sessions import FleetSessions
from reconciler.web.oidc import Client, Provider
from reconciler.web.roles import rule_from_text
from reconciler.web.tokens import Tokens
from tests.support.databases import with_database
from tests.support.identity_provider import CLIENT_ID, IdentityProvider
from tests.support.serving import Served, now, served, token_keys


def fleet_access(issuer: str, tokens: Tokens, **settings: Any) -> FleetAccess:
    """Viewers are in the group `staff`, operators in `ops`."""
    client = Client(issuer, settings.pop("client_id", CLIENT_ID), settings.pop("secret", None))
    rule = rule_from_text(("viewer=staff", "operator=ops"), settings.pop("claim", "groups"))
    clock = settings.pop("clock", now)
    return FleetAccess(Provider(client, now), rule, FleetSessions(clock, tokens.digest), **settings)


@dataclass
class Site:
    """`served` has the application, `provider` the people."""

    served: Served
    provider: IdentityProvider

    @property
    def client(self) -> httpx.AsyncClient:
        return self.served.client

    async def begin(self) -> str:
        """Returns the address that the browser is sent to."""
        answer = await self.client.get("/sso/login")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def come_back(self, answer: dict[str, str]) -> httpx.Response:
        return await self.client.get(f"/sso/callback?{urlencode(answer)}")

    async def sign_in(self, *groups: str) -> httpx.Response:
        self.provider.claims["groups"] = list(groups)
        return await self.come_back(self.provider.authorize(await self.begin()))

    async def csrf(self) -> str:
        return await self.served.csrf()


@asynccontextmanager
async def signed_in_site(
    url: Secret, keys: KeyRing, work_dir: Path, provider: IdentityProvider, **settings: Any
) -> AsyncIterator[Site]:
    signing = token_keys()
    access = fleet_access(provider.issuer, Tokens(signing, now), **settings)

    def other(desired: Any) -> Any:
        missing = Secret(with_database(url.reveal(), "not_there"))
        return (replace(desired, instance="other", database=replace(desired.database, url=missing)),)

    async with served(url, keys, work_dir, more=other, fleet=access, signing=signing) as one:
        yield Site(one, provider)
