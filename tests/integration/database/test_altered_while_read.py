"""The app alters a table while a reading waits for it. A reading sees one moment, and a table that was rewritten or
created after that moment has no rows in it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, LiteralString, TypeVar

import pytest

from reconciler.database import store, transaction
from reconciler.database.connection import Connection
from reconciler.database.pipeline import Limits
from reconciler.database.store import Scope
from reconciler.database.usage_outbox import read_usage_counts
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect

T = TypeVar("T")
QUEUES = {Key("queue", "Night"), Key("queue", "Sales")}


@pytest.fixture
async def app(migrated: Secret, open_connection: Connect) -> Connection:
    """The app's connection, to a database with two queues."""
    app = await open_connection(migrated, "the app")
    await app.execute("INSERT INTO queues (name, environment) VALUES ('Night', 'production'), ('Sales', 'production')")
    return app


async def read_while(app: Connection, conn: Connection, altering: LiteralString, reading: Coroutine[Any, Any, T]) -> T:
    """Commit the alteration once the reading waits for it. Returns what was read."""
    await app.execute("BEGIN")
    for statement in altering.split("; "):
        await app.execute(statement)
    task = asyncio.create_task(reading)
    waits = "SELECT FROM pg_locks WHERE NOT granted AND pid = %s"
    while not await (await app.execute(waits, [conn.info.backend_pid])).fetchall():
        assert not task.done(), await task
        await asyncio.sleep(0.01)
    await app.execute("COMMIT")
    return await task


@pytest.mark.parametrize(
    "altering",
    [
        pytest.param("ALTER TABLE queues ALTER COLUMN name TYPE text USING name || ''", id="rewritten"),
        pytest.param("ALTER TABLE queues ADD COLUMN number serial", id="with a new column"),
        pytest.param(
            "CREATE TABLE copied (LIKE queues INCLUDING ALL); INSERT INTO copied SELECT * FROM queues; "
            "ALTER TABLE queues RENAME TO queues_old; ALTER TABLE copied RENAME TO queues",
            id="swapped",
        ),
        pytest.param(
            "CREATE TEMPORARY TABLE kept AS SELECT * FROM queues; TRUNCATE queues CASCADE; "
            "INSERT INTO queues SELECT * FROM kept",
            id="emptied and filled",
        ),
    ],
)
async def test_a_dry_run_misses_no_row_of_a_table_that_was_altered_meanwhile(
    app: Connection, conn: Connection, scope: Scope, keys: KeyRing, altering: LiteralString
) -> None:
    snapshot = await read_while(app, conn, altering, store.begin(conn, scope, keys, lock=False))
    assert {key for key in snapshot.state if key.kind == "queue"} == QUEUES


async def test_usage_is_counted_whole(app: Connection, conn: Connection, scope: Scope) -> None:
    counts = await read_while(app, conn, "ALTER TABLE queues ADD COLUMN number serial", read_usage_counts(conn, scope))
    assert counts.queues == len(QUEUES)


async def test_a_table_that_is_altered_each_time_is_an_error(
    app: Connection, conn: Connection, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_TRIES", 1)
    conn.limits = Limits(lock_wait_s=20)
    with pytest.raises(DatabaseError) as raised:
        await read_while(app, conn, "ALTER TABLE queues ADD COLUMN number serial", read_usage_counts(conn, scope))
    assert (raised.value.code, raised.value.hint) == ("database_conflict", "run again")
    assert (await read_usage_counts(conn, scope)).queues == len(QUEUES)
