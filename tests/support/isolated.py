"""A database under `isolation: enforced`, and logins of an app that belong to one environment's group."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of

SHARED = ("users", "clients", "queues", "conversations", "messages")
ROWS = """
INSERT INTO users (id, name, email, password, environment)
  VALUES ('u{e}', 'U', 'u@{e}.test', '$2b$12$x', '{e}');
INSERT INTO clients (id, name, environment) VALUES ('c{e}', 'C', '{e}');
INSERT INTO queues (id, name, environment) VALUES ('q{e}', 'Q', '{e}');
INSERT INTO conversations (id, client_id, queue_id, user_id, environment)
  VALUES ('k{e}', 'c{e}', 'q{e}', 'u{e}', '{e}');
INSERT INTO messages (id, conversation_id, user_id, content, environment)
  VALUES ('m{e}', 'k{e}', 'u{e}', 'segredo de {e}', '{e}');
"""


def environment(
    name: str = "production", isolation: str = "constraints", *, purge_development_data: bool = False
) -> dict[str, Any]:
    return {"name": name, "isolation": isolation, "purge_development_data": purge_development_data}


async def apply(url: Secret, keys: KeyRing, folder: Path, **sections: Any) -> InstanceReport:
    """Run one apply without a Connect."""
    more = {name: sections.pop(name) for name in ("accept",) if name in sections}
    desired = desired_of(document(plans=None, **sections), url, connect=None)
    return await reconcile(desired, run_of(keys, folder, **more))


def fill(url: str, *environments: str) -> None:
    """Insert one row per table and environment."""
    with psycopg.connect(url, autocommit=True) as conn:
        for name in environments:
            conn.execute(ROWS.format(e=name))


@dataclass(frozen=True)
class Isolated:
    """`admin` is a superuser's URL, `owner` is fivrec's, the others are logins of the app."""

    admin: str
    owner: Secret
    production: str
    development: str

    def of(self, name: str) -> str:
        return {"production": self.production, "development": self.development, "owner": self.owner.reveal()}[name]


@pytest.fixture
async def isolated(
    database: Secret, owner_of: Callable[[Secret], Secret], login: Callable[..., str], keys: KeyRing, tmp_path: Path
) -> Isolated:
    """A database after an apply with isolation: enforced, with rows of both environments in every shared table."""
    owner = owner_of(database)
    report = await apply(owner, keys, tmp_path, environment=environment(isolation="enforced"))
    assert report.outcome == "changed", report.error
    name = urlsplit(database.reveal()).path.lstrip("/")
    fill(database.reveal(), "production", "development")
    return Isolated(
        database.reveal(), owner, login(database, f"{name}_production"), login(database, f"{name}_development")
    )


@pytest.fixture
def login(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Makes logins that are members of the given groups. Returns the URL."""
    made: list[str] = []

    def make(url: Secret, *groups: str) -> str:
        name, password = f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            role = sql.Identifier(name)
            conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            made.append(name)
            for group in groups:
                conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role))
        parts = urlsplit(url.reveal())
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{name}:{password}@{address}"))

    yield make
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
