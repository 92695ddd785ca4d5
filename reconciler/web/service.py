"""What a server serves: instances, their run, its tokens, its settings."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import field, replace
from typing import TYPE_CHECKING

from reconciler.database.accounts import Account, TokenState
from reconciler.database.login_limit import AttemptsInMemory, LoginLimit
from reconciler.database.status_queries import CheckLog, LogFilter
from reconciler.engine.run import Run
from reconciler.engine.status_and_logs import query_checks
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.planning.audit import Actor
from reconciler.web.login import check_token
from reconciler.web.shared_reads import SharedReads
from reconciler.web.tokens import Tokens

if TYPE_CHECKING:
    from reconciler.web.fleet_access import FleetAccess
    from reconciler.web.overview import Unserved


@dataclass(frozen=True, slots=True)
class Service:
    """`instances` by name; `unserved` are declared in addition. `secure`: the server is reached by https.
    `allow_writes` lets calls change what manifests own. `fleet` is set if the fleet has one login."""

    instances: dict[str, Desired]
    run: Run
    tokens: Tokens
    allow_writes: bool = False
    secure: bool = False
    limit: LoginLimit = field(default_factory=LoginLimit)
    attempts: AttemptsInMemory = field(default_factory=AttemptsInMemory)
    writing: dict[str, asyncio.Lock] = field(default_factory=dict)
    fleet: FleetAccess | None = None
    unserved: dict[str, Unserved] = field(default_factory=dict)
    standings: SharedReads[TokenState] = field(default_factory=SharedReads)
    logs: SharedReads[tuple[CheckLog, ...]] = field(default_factory=SharedReads)

    @property
    def single(self) -> bool:
        return len(self.instances) == 1

    def take_up(self, desired: Desired) -> None:
        """Serve the instance in this form from now on."""
        self.instances[desired.instance] = desired

    async def standing(self, desired: Desired, user_id: str, jti: str) -> TokenState:
        """What decides whether a token is valid, read after this call came; concurrent calls share a reading."""
        return await self.standings.read(
            (desired.instance, user_id, jti), lambda: check_token(desired, self.run, user_id, jti)
        )

    async def checks(self, desired: Desired, wanted: LogFilter) -> tuple[CheckLog, ...]:
        """Status checks, newest first; concurrent identical calls share a reading."""
        return await self.logs.read((desired.instance, wanted), lambda: query_checks(desired, self.run, wanted))

    def one_writer(self, desired: Desired) -> asyncio.Lock:
        """Held by a call that looks before it writes, so that no other call of this server comes between."""
        return self.writing.setdefault(desired.instance, asyncio.Lock())

    def prefix(self, instance: str) -> str:
        """The path of the instance's API."""
        return "" if self.single else f"/instances/{instance}"

    def run_for(self, address: str, account: Account | None = None) -> Run:
        """A new run for a call, under its caller's name."""
        name = f"{account.email} (api, {address})" if account else f"api, {address}"
        return replace(self.run, id=str(uuid.uuid4()), actor=Actor(name))
