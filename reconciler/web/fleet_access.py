"""One login for the fleet: the identity provider, the roles, the sessions, and the page's links and names."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from reconciler.model.records import dataclass
from reconciler.web.fleet_items import SourceLinks
from reconciler.web.fleet_sessions import FleetSessions
from reconciler.web.oidc import Provider
from reconciler.web.roles import RoleRule


@dataclass(frozen=True, slots=True)
class FleetAccess:
    """`paths` are the manifests as named on the command line, for commands that the page shows."""

    provider: Provider
    rule: RoleRule
    sessions: FleetSessions
    links: SourceLinks | None = None
    paths: tuple[str, ...] = ()

    @property
    def provider_name(self) -> str:
        return urlsplit(self.provider.client.issuer).netloc

    def commands(self, instance: str) -> tuple[str, ...]:
        """The commands to see, and to change, what this page only shows."""
        end = shlex.join([*self.paths, "--limit", instance])
        return f"fivrec diff {end}", f"fivrec apply {end}"
