"""Fixtures of the integration tests: connections, a key ring, and a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from reconciler.database import store
from reconciler.database.connection import Connection, connect
from reconciler.database.pipeline import DEFAULTS, Limits
from reconciler.database.store import Scope, Writes
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect
from tests.support.isolated import isolated, login  # noqa: F401 (fixtures)


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})


@pytest.fixture
def scope() -> Scope:
    return Scope("client-abc-123", "production", "admin@empresa.com")


@pytest.fixture
async def open_connection() -> AsyncIterator[Connect]:
    """Opens connections and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def open_one(url: Secret, name: str = "fivrec test", limits: Limits = DEFAULTS) -> Connection:
            conn = await connect(url, limits=limits, application_name=name)
            stack.push_async_callback(conn.close)
            return conn

        yield open_one


@pytest.fixture
async def migrated(database: Secret, scope: Scope, keys: KeyRing, open_connection: Connect) -> Secret:
    """The URL of a database with fivrec's schema and no rows."""
    conn = await open_connection(database)
    await store.begin(conn, scope, keys, lock=True)
    await store.commit(conn, Writes(run_id="migration", migrate=True), scope)
    return database


@pytest.fixture
async def conn(migrated: Secret, open_connection: Connect) -> Connection:
    """A connection to a migrated database."""
    return await open_connection(migrated)
