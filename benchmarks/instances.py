"""The instances of a benchmark: a database each, one manifest for all, the same list for the other contenders."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import stub
import yaml
from psycopg import sql
from psycopg.types.json import Json
from server import Server

TEMPLATE = "fivrec_bench_template"
PASSWORD = "senha-do-banco-de-provas"
QUEUES = ({"name": "Technical Support", "description": "Suporte técnico"}, {"name": "Sales"})
COMPANY = "Nome da Empresa"
EMAIL = "admin@empresa.com"
ENVIRONMENT = "development"
AUTOVACUUM_S = 20


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    database: str
    url: str
    variable: str

    @property
    def key(self) -> str:
        return f"key-{self.name}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Some instances: `manifest` declares them all, `listing` is the same as JSON, `env` is what they need to run."""

    instances: tuple[Instance, ...]
    manifest: Path
    listing: Path
    env: Mapping[str, str]
    connect_url: str
    trust: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.instances)


@dataclass(frozen=True, slots=True)
class Ground:
    """What instances run on: server, Connect and the variables to trust it, the schema script, a folder for files."""

    server: Server
    connect_url: str
    schema: Path
    folder: Path
    trust: Mapping[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


def _plain_sql(script: str) -> str:
    """Returns a setup script without psql's commands and its variable for the schema."""
    lines = (line for line in script.splitlines() if not line.lstrip().startswith("\\"))
    return "\n".join(lines).replace(':"schema"', "public").replace(":'schema'", "'public'")


@contextmanager
def ground(
    server: Server, connect_url: str, schema: Path, folder: Path, trust: Mapping[str, str] | None = None
) -> Iterator[Ground]:
    """Create the template database first; at the end drop it with all databases of the benchmark."""
    plain = folder / "schema.sql"  # every contender can run this one: the script's backslash commands are psql's
    plain.write_text(_plain_sql(schema.read_text()))
    laid = Ground(server, connect_url, plain, folder, trust or {})
    drop(server)
    with server.connect() as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with server.connect(TEMPLATE) as conn:
        conn.execute(plain.read_bytes())
        _insert_common(conn)
    try:
        yield laid
    finally:
        if server.pid is None:
            drop(server)


def drop(server: Server, databases: Sequence[str] | None = None) -> None:
    """Drop the named databases, or every one that a benchmark made."""
    with server.connect() as conn:
        names = databases
        if names is None:
            found = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'fivrec\\_bench\\_%'")
            names = [row[0] for row in found]
        for name in names:
            _drop(conn, name)


def _drop(conn: psycopg.Connection[Any], name: str) -> None:
    """Drop a database; retries while autovacuum works in it, which only a superuser may end."""
    until = time.monotonic() + AUTOVACUUM_S
    while True:
        try:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def build_fleet(ground: Ground, name: str, count: int) -> Fleet:
    """Returns manifest, list and variables of `count` instances; creates no database."""
    made = tuple(_instance(ground.server, name, number) for number in range(1, count + 1))
    folder = ground.folder / name
    folder.mkdir(exist_ok=True)
    return write_fleet(ground, folder, made)


def write_fleet(ground: Ground, folder: Path, made: Sequence[Instance]) -> Fleet:
    manifest, listing = folder / f"fleet-{len(made)}.yaml", folder / f"fleet-{len(made)}.json"
    document = {
        "version": 1,
        "defaults": declared(ground.connect_url),
        "instances": [
            {
                "instance": one.name,
                "database": {"url": _public(ground.server, one.database)},
                "config": {"instance_key": {"env": one.variable}},
            }
            for one in made
        ],
    }
    manifest.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    listing.write_text(
        json.dumps([{"instance": one.name, "database": one.database, "url": one.url, "key": one.key} for one in made])
    )
    listing.chmod(0o600)
    env = _environ(ground) | {one.variable: one.key for one in made}
    return Fleet(tuple(made), manifest, listing, env, ground.connect_url, ground.trust)


def part(ground: Ground, fleet: Fleet, count: int) -> Fleet:
    """Returns the first `count` instances of a fleet as another fleet."""
    return write_fleet(ground, fleet.manifest.parent, fleet.instances[:count])


def write_single(ground: Ground, fleet: Fleet) -> tuple[Path, dict[str, str]]:
    """Write a manifest of only the first instance, as a person would. Returns it and its variables."""
    one = fleet.instances[0]
    document = {"version": 1, "instance": one.name, "database": {"url": {"env": "DATABASE_URL"}}}
    common = declared(ground.connect_url)
    common["config"] |= {
        "connect_api_url": {"env": "FIV_APP_API_URL"},
        "instance_key": {"env": "FIV_APP_API_KEY"},
    }
    manifest = fleet.manifest.parent / "client.yaml"
    manifest.write_text(yaml.safe_dump(document | common, sort_keys=False, allow_unicode=True))
    env = {"DATABASE_URL": one.url, "FIV_APP_API_URL": ground.connect_url, "FIV_APP_API_KEY": one.key}
    return manifest, _environ(ground) | env


def create(ground: Ground, fleet: Fleet, *, filled: bool) -> None:
    """Create the fleet's databases: copies of the template with a configuration row, or empty ones."""
    with ground.server.connect() as conn:
        for one in fleet.instances:
            source = sql.Identifier(TEMPLATE if filled else "template1")
            name = sql.Identifier(one.database)
            conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, source))
    if filled:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: _insert_config(ground, one), fleet.instances))


def _instance(server: Server, name: str, number: int) -> Instance:
    database = f"fivrec_bench_{name}_{number:04}"
    label = f"{name}-{number:04}"
    return Instance(label, database, server.url(database), f"FIV_KEY_{name.upper()}_{number:04}".replace("-", "_"))


def _public(server: Server, database: str) -> str:
    return server.url(database, password=False)


def _environ(ground: Ground) -> dict[str, str]:
    return {
        **ground.trust,
        "PGPASSWORD": ground.server.password,
        "FIV_ADMIN_PASSWORD": PASSWORD,
        "FIVREC_ENCRYPTION_KEY": ground.key,
    }


def declared(connect_url: str) -> dict[str, Any]:
    return {
        "environment": ENVIRONMENT,
        "config": {
            "connect_api_url": connect_url,
            "check_interval_minutes": 60,
            "company_name": COMPANY,
        },
        "admin": {"email": EMAIL, "password": {"env": "FIV_ADMIN_PASSWORD"}},
        "queues": list(QUEUES),
        "plans": {"source": "connect"},
    }


def _insert_common(conn: Any) -> None:
    """Insert the rows that are the same in every instance, which excludes its configuration."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    conn.execute(
        "INSERT INTO users (name, email, password, role, environment) VALUES ('Administrador', %s, %s, 'admin', %s)",
        (EMAIL, hashed, ENVIRONMENT),
    )
    for queue in QUEUES:
        conn.execute(
            "INSERT INTO queues (name, description, environment) VALUES (%s, %s, %s)",
            (queue["name"], queue.get("description"), ENVIRONMENT),
        )
    conn.execute("INSERT INTO settings (key, value) VALUES ('company_name', %s)", (Json(COMPANY),))
    for plan in stub.plans():
        conn.execute(
            "INSERT INTO plans (id, name, description, price, currency, billing_interval, features, max_users,"
            " max_conversations, storage_limit, is_active, stripe_product_id, stripe_price_id)"
            " VALUES (%(id)s, %(name)s, %(description)s, %(price)s, %(currency)s, %(billingInterval)s, %(features)s,"
            " %(maxUsers)s, %(maxConversations)s, %(storageLimit)s, %(isActive)s, %(stripeProductId)s,"
            " %(stripePriceId)s)",
            plan | {"features": Json(plan["features"])},
        )


def _insert_config(ground: Ground, one: Instance) -> None:
    with ground.server.connect(one.database) as conn:
        conn.execute(
            "INSERT INTO instance_config (instance_id, instance_key, connect_api_url) VALUES (%s, %s, %s)",
            (one.name, one.key, ground.connect_url),
        )
