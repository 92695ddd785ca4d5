"""A small fleet with a history, for the page: instances in every state, with checks over two days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from reconciler.connect.emulator.drills import Drill, set_drill
from reconciler.connect.emulator.state_file import StateFile
from reconciler.database.pool import ConnectionPool
from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.keyring import KeyRing
from reconciler.web.app import build_app
from reconciler.web.fleet_access import FleetAccess
from reconciler.web.service import Service
from reconciler.web.tokens import Tokens
from tests.support.engine import desired_of, document, run_of
from tests.support.listening import listening
from tests.support.serving import now, token_keys

STATES = {
    "acme-industria": ("active", "paid"),
    "bairro-novo": ("pending_payment", "paid"),
    "casa-verde": ("active", "overdue"),
    "dona-flor": ("active", "paid"),
}
LABELS = {"acme-industria": "br-south", "bairro-novo": "br-south", "casa-verde": "br-north", "dona-flor": "br-north"}
_CHECKS = """
INSERT INTO status_check_logs
  (instance_config_id, check_type, success, status_received, error_message, response_time, created_at)
SELECT c.id, CASE n WHEN 47 THEN 'startup' ELSE 'scheduled' END, n % 17 <> 5,
       CASE WHEN n % 17 = 5 THEN NULL WHEN n > 30 THEN 'pending_payment' ELSE 'active' END,
       CASE WHEN n % 17 = 5 THEN 'connect_http_error: Fi.V Connect API returned 500' END,
       38 + (n * 37 + length(c.instance_id) * 11) % 29 + CASE n % 11 WHEN 3 THEN 60 ELSE 0 END,
       now() - make_interval(mins => n * 60 + 2)
FROM instance_config c, generate_series(0, 47) AS n
"""


@dataclass
class Fleet:
    """The instances by name, served at `url`."""

    url: str
    service: Service
    state: StateFile

    def sql(self, instance: str, statement: str) -> None:
        with psycopg.connect(self.service.instances[instance].database.url.reveal(), autocommit=True) as conn:
            conn.execute(statement)  # type: ignore[arg-type]


@asynccontextmanager
async def fleet(
    make_database: Callable[[], Secret],
    keys: KeyRing,
    work_dir: Path,
    *,
    names: tuple[str, ...] = tuple(STATES),
    access: Callable[[Tokens], FleetAccess | None] = lambda _: None,
) -> AsyncIterator[Fleet]:
    """`access` builds the fleet's single login, or None."""
    state, run = StateFile(work_dir / "connect.json"), run_of(keys, work_dir)
    instances: dict[str, Desired] = {}
    for name in names:
        whole = document(instance=name)
        whole["config"]["instance_key"] = Secret(f"key-of-{name}")
        desired = replace(desired_of(whole, make_database()), labels={"region": LABELS[name]})
        instances[name] = desired
        assert (await reconcile(desired, run)).error is None
        set_drill(state, name, Drill(status=STATES[name][0], billing=STATES[name][1]))
        assert (await reconcile(desired, run)).error is None
        with psycopg.connect(desired.database.url.reveal(), autocommit=True) as conn:
            conn.execute("DELETE FROM status_check_logs")
            conn.execute(_CHECKS)  # type: ignore[arg-type]
    tokens = Tokens(token_keys(), now)
    service = Service(instances, replace(run, pool=ConnectionPool()), tokens, fleet=access(tokens))
    async with serving(service) as url:
        yield Fleet(url, service, state)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    """Serve the application on a socket of this process. Yields its URL."""
    app = build_app(service)
    async with listening(app, on_stop=app.state.stop, lifespan="on") as url:
        yield url
