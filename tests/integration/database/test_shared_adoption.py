"""Two runs finish the adoption of big tables at the same time: neither takes the other's unfinished work for broken."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.database import adoption, store, transaction
from reconciler.database.connection import Connection
from reconciler.database.store import Scope
from reconciler.model.secret import Secret
from tests.support.connections import Connect

NAME = "conversations_client_idx"
BUILD = f"CREATE INDEX CONCURRENTLY {NAME} ON public.conversations (client_id, environment)"
FOUND = f"SELECT c.oid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relname = '{NAME}'"


async def wait_for(conn: Connection, query: str) -> list[tuple[object, ...]]:
    while not (rows := await (await conn.execute(query.encode())).fetchall()):
        await asyncio.sleep(0.01)
    return rows


async def test_an_index_that_another_session_builds_is_waited_for(
    conn: Connection, migrated: Secret, scope: Scope, open_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, waits = adoption._read, asyncio.Event()

    async def noted(conn: Connection, name: str, scope: Scope) -> list[transaction.Row]:
        rows = await read(conn, name, scope)
        if name == "at_work" and rows[0]["found"]:
            waits.set()
        return rows

    monkeypatch.setattr(adoption, "_read", noted)
    other, app, looking = [await open_connection(migrated) for _ in range(3)]
    await other.execute(f"DROP INDEX {NAME}")
    await other.execute("UPDATE fivrec.migrations SET finished = false")
    await app.execute("BEGIN")
    await app.execute("INSERT INTO conversations (id, environment) VALUES ('c', 'production')")
    building = asyncio.create_task(other.execute(BUILD))  # waits for the app's transaction
    before = await wait_for(looking, f"{FOUND} AND NOT i.indisvalid")
    finishing = asyncio.create_task(adoption.finish(conn, scope))
    await waits.wait()
    await app.execute("COMMIT")
    await building
    assert await finishing
    assert await wait_for(looking, f"{FOUND} AND i.indisvalid") == before
    assert not await adoption.finish(conn, scope)


@pytest.mark.parametrize(("finished", "missing"), [(True, (f"conversations: {NAME}",)), (False, ())])
async def test_a_first_apply_that_comes_second_does_not_migrate_what_the_first_one_is_finishing(
    conn: Connection, scope: Scope, finished: bool, missing: tuple[str, ...]
) -> None:
    await conn.execute(f"DROP INDEX {NAME}")
    await conn.execute("UPDATE fivrec.migrations SET finished = %s", [finished])
    snapshot = await store.begin(conn, scope, None, lock=True, unmade=True)
    assert (snapshot.missing, snapshot.unfinished) == (missing, not finished)
