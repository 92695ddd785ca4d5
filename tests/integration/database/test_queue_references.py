"""Queues that any table's rows refer to are never removed, whatever their foreign key would do with those rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.pipeline import Limits
from reconciler.database.store import Scope, Writes, row_write
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.changes import Remove
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import Key
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.connections import Connect
from tests.support.databases import owning
from tests.support.engine import desired_of, document, run_of
from tests.support.isolated import Isolated, apply, environment

EMPTIED = {"queues": {"items": [{"name": "Sales"}], "unmanaged": "remove"}}
SPARE = "INSERT INTO queues (id, name) VALUES ('q1', 'Spare');"
CASCADE = "CREATE TABLE tickets (id int, queue_id varchar REFERENCES queues (id) ON DELETE CASCADE);"
TICKET = "INSERT INTO tickets (id, queue_id) VALUES (1, 'q1');"
NO_JSONB = r"""ALTER TABLE queues ADD extra json DEFAULT '{"a": "\u0000"}'"""
"""A column of the app's own, whose JSON PostgreSQL's jsonb refuses."""


async def planned(url: Secret, keys: KeyRing, folder: Path, **sections: object) -> InstanceReport:
    desired = desired_of(document(plans=None, **sections), url, connect=None)
    return await preview(desired, run_of(keys, folder))


def shown(report: InstanceReport) -> list[tuple[str, str]]:
    assert report.error is None
    return [(str(change.key), change.action) for change in report.changes]


@pytest.mark.parametrize(
    "referring",
    [
        CASCADE + TICKET,
        "CREATE TABLE tickets (id int, queue_id varchar REFERENCES queues (id) ON DELETE SET NULL);" + TICKET,
        "CREATE TABLE tickets (id int, queue_id varchar REFERENCES queues (id));" + TICKET,
        (
            'CREATE SCHEMA "an app"; CREATE TABLE "an app"."50% of %s" ("the queue" varchar REFERENCES queues (id)'
            """ ON DELETE CASCADE); INSERT INTO "an app"."50% of %s" VALUES ('q1');"""
        ),
        (
            "CREATE TABLE tickets (queue_id varchar, environment text,"
            " FOREIGN KEY (queue_id, environment) REFERENCES queues (id, environment) ON DELETE CASCADE);"
            " INSERT INTO tickets VALUES ('q1', 'production');"
        ),
        "CREATE TABLE tickets (id int, queue_id varchar REFERENCES queues (id) ON DELETE CASCADE)"
        " PARTITION BY LIST (id); CREATE TABLE tickets_1 PARTITION OF tickets FOR VALUES IN (1);" + TICKET,
        (
            "ALTER TABLE queues ADD COLUMN parent varchar REFERENCES queues (id) ON DELETE CASCADE;"
            " INSERT INTO queues (id, name, parent) VALUES ('q2', 'Below', 'q1');"
        ),
        (
            "ALTER TABLE conversations DROP CONSTRAINT conversations_queue_id_environment_fkey;"
            " INSERT INTO conversations (queue_id) VALUES ('q1');"
        ),
    ],
    ids=["cascade", "set-null", "no-action", "other-schema", "composite", "partitioned", "tree", "lost-key"],
)
async def test_a_queue_that_any_row_refers_to_is_deactivated(
    referring: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path, **{**EMPTIED, "queues": {**EMPTIED["queues"], "unmanaged": "keep"}})
    owning(database, SPARE, *referring.split(";"))
    plan = await planned(database, keys, tmp_path, **EMPTIED)
    assert ("queue/Spare", "deactivate") in shown(plan)
    assert "remove" not in {action for _, action in shown(plan)}
    accepted = frozenset({plan.digest or ""})
    assert (await apply(database, keys, tmp_path, **EMPTIED, accept=accepted)).error is None
    assert owning(database, "SELECT is_active FROM queues WHERE id = 'q1'") == [(False,)]
    if "tickets" in referring:
        assert owning(database, "SELECT queue_id FROM tickets") == [("q1",)]
    assert (await apply(database, keys, tmp_path, **EMPTIED)).outcome == "in_sync"


async def test_a_schema_may_be_named_like_a_parameter(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Even if only the column's name shows that conversations refer to queues."""
    desired = desired_of(document(plans=None, queues=EMPTIED["queues"]), database, connect=None)
    desired = replace(desired, database=replace(desired.database, schema="a %s"))
    owning(database, 'CREATE SCHEMA "a %s"')
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    key = """ALTER TABLE "a %s".conversations DROP CONSTRAINT conversations_queue_id_environment_fkey"""
    owning(database, key, """INSERT INTO "a %s".queues (name) VALUES ('Spare')""")
    assert shown(await preview(desired, run_of(keys, tmp_path, 2))) == [("queue/Spare", "remove")]


async def test_one_that_no_row_refers_to_is_removed(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await apply(database, keys, tmp_path, **EMPTIED)
    owning(database, SPARE, CASCADE, "INSERT INTO tickets SELECT 1, id FROM queues WHERE name = 'Sales'", NO_JSONB)
    plan = await planned(database, keys, tmp_path, **EMPTIED)
    assert shown(plan) == [("queue/Spare", "remove")]
    done = await apply(database, keys, tmp_path, **EMPTIED, accept=frozenset({plan.digest or ""}))
    assert (done.outcome, done.error) == ("changed", None)
    assert owning(database, "SELECT name FROM queues") == [("Sales",)]


async def test_the_first_apply_of_an_adopted_database_sees_them_too(
    seed_database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    owning(seed_database, "CREATE TABLE queues (id integer PRIMARY KEY, name text)", NO_JSONB)
    owning(seed_database, "INSERT INTO queues VALUES (1, 'Spare'), (2, 'Unused')")
    owning(seed_database, "CREATE TABLE tickets (queue_id integer REFERENCES queues ON DELETE CASCADE)")
    owning(seed_database, "INSERT INTO tickets VALUES (1)")
    plan = await planned(seed_database, keys, tmp_path, **EMPTIED)
    assert {("queue/Spare", "deactivate"), ("queue/Unused", "remove")} < set(shown(plan))


@pytest.mark.parametrize(
    "hidden",
    [
        "",  # without SELECT
        "GRANT SELECT ON tickets TO {login}; ALTER TABLE tickets ENABLE ROW LEVEL SECURITY",
    ],
)
async def test_a_table_that_cannot_be_read_may_refer_to_any_queue(
    hidden: str, database: Secret, owner_of, keys: KeyRing, tmp_path: Path
) -> None:
    owner = owner_of(database)
    await apply(owner, keys, tmp_path, **EMPTIED)
    owning(database, SPARE, CASCADE, TICKET, *hidden.format(login=urlsplit(owner.reveal()).username).split(";"))
    assert shown(await planned(owner, keys, tmp_path, **EMPTIED)) == [("queue/Spare", "deactivate")]


async def test_what_enforced_isolation_hides_is_no_doubt(isolated: Isolated, keys: KeyRing, tmp_path: Path) -> None:
    owning(Secret(isolated.admin), SPARE)
    sections = {**EMPTIED, "environment": environment(isolation="enforced")}
    plan = shown(await planned(isolated.owner, keys, tmp_path, **sections))
    assert plan == [("queue/Q", "deactivate"), ("queue/Spare", "remove"), ("queue/Technical Support", "remove")]


async def _removing(conn: Connection, scope: Scope, keys: KeyRing) -> Writes:
    row = (await store.begin(conn, scope, keys, lock=True)).state[Key("queue", "Spare")]
    assert not row.referenced
    gone = row_write(Remove(row.key, (), "manifest", "intent", row), scope)
    assert gone is not None
    return Writes(run_id="r", rows=(gone,))


async def test_a_reference_made_since_the_reading_keeps_the_queue(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing
) -> None:
    owning(migrated, SPARE, CASCADE)
    writes = await _removing(conn, scope, keys)
    owning(migrated, TICKET)
    with pytest.raises(DatabaseError) as raised:
        await store.commit(conn, writes, scope)
    assert raised.value.code == "queue_in_use"
    assert owning(migrated, "SELECT queue_id FROM tickets") == [("q1",)]


async def test_a_reference_not_yet_committed_is_waited_for(
    conn: Connection, migrated: Secret, scope: Scope, keys: KeyRing, open_connection: Connect
) -> None:
    owning(migrated, SPARE, CASCADE)
    writes = await _removing(conn, scope, keys)
    app = await open_connection(migrated)
    await app.set_autocommit(False)
    await app.execute("INSERT INTO tickets (id, queue_id) VALUES (1, 'q1')")
    conn.limits = Limits(lock_wait_s=20)
    removing = asyncio.create_task(store.commit(conn, writes, scope))
    await asyncio.sleep(0.3)
    await app.commit()
    with pytest.raises(DatabaseError) as raised:
        await removing
    assert raised.value.code == "queue_in_use"
    assert owning(migrated, "SELECT queue_id FROM tickets") == [("q1",)]


async def test_no_table_is_searched_if_every_queue_is_declared(
    conn: Connection, migrated: Secret, keys: KeyRing, scope: Scope
) -> None:
    owning(migrated, SPARE, CASCADE, TICKET)
    declared = Scope(scope.instance, "production", declared_queues=("Spare",))
    assert not (await store.begin(conn, declared, keys, lock=False)).state[Key("queue", "Spare")].referenced
