"""What another session commits between a run's reading and its writing: the run reads and plans once more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.database import store
from reconciler.engine.reconcile import reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.keyring import KeyRing
from tests.support import unwritten
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

QUEUES = {"items": [{"name": "Sales", "description": "ours"}, {"name": "Night", "description": "ours"}]}
ADMIN = {"name": "Ana", "email": "ana@empresa.com", "password": Secret("senha-123"), "update_password": "on_create"}
USER = "INSERT INTO users (name, email, password, role, environment) VALUES ('x', '{}', 'h', 'agent', 'production')"
QUEUE = "INSERT INTO queues (name, description, environment) VALUES ('Night', 'theirs', 'production')"
WAITING = """
SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
WHERE a.datname = current_database() AND NOT l.granted
"""


@pytest.mark.parametrize(
    ("meanwhile", "sections"),
    [
        pytest.param(QUEUE, {}, id="a queue is made"),
        pytest.param("DELETE FROM queues WHERE name = 'Sales'", {}, id="a queue is deleted"),
        pytest.param("UPDATE queues SET name = 'Other' WHERE name = 'Sales'", {}, id="a queue is renamed"),
        pytest.param(USER.format("ana@empresa.com"), {"admin": ADMIN}, id="a user is made"),
        pytest.param(USER.format("Ana@Empresa.com"), {"admin": ADMIN}, id="a user is made in other letters"),
        pytest.param("DELETE FROM users", {}, id="the administrator is deleted"),
        pytest.param("DELETE FROM instance_config", {}, id="the instance's row is deleted"),
        pytest.param("UPDATE instance_config SET id = 'another'", {}, id="the instance's row gets another id"),
    ],
)
async def test_what_the_app_writes_meanwhile_is_part_of_another_plan(
    database: Secret,
    keys: KeyRing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    meanwhile: str,
    sections: dict[str, Any],
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(queues={"items": [{"name": "Sales"}], "unmanaged": "keep"}), database), run)
    write, left = store.write, [meanwhile]

    async def write_late(*args: Any, **more: Any) -> Any:
        while left:
            await run_sql(database, left.pop())
        return await write(*args, **more)

    monkeypatch.setattr(store, "write", write_late)
    desired = desired_of(document(queues={**QUEUES, "unmanaged": "keep"}, **sections), database)
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.outcome, report.error, left) == ("changed", None, [])
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"
    assert (await run_sql(database, "SELECT count(DISTINCT lower(email)) - count(*) FROM users"))[0] == (0,)


@pytest.mark.parametrize("made", [False, True])
async def test_of_two_instances_at_once_in_a_new_database_one_is_refused(
    database: Secret, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """The lock is an instance's, so both read a database that is nobody's."""
    monkeypatch.setattr(unwritten, "OF_OTHERS", unwritten.OF_OTHERS | {"wrong_instance"})  # the first one writes
    run = run_of(keys, tmp_path)
    if made:
        await reconcile(desired_of(document(), database), run)
        await run_sql(
            database, "DELETE FROM instance_config; TRUNCATE fivrec.applied, fivrec.audit_log, fivrec.audit_key"
        )
    conclude, second = store.conclude, list[asyncio.Task[Any]]()

    async def conclude_late(*args: Any, **more: Any) -> None:
        if not second:
            second.append(asyncio.create_task(reconcile(named("second"), replace(run, id="second"))))
            while not await run_sql(database, WAITING):
                assert not second[0].done(), await second[0]
                await asyncio.sleep(0.01)
        await conclude(*args, **more)

    def named(instance: str) -> Desired:
        whole = document(instance=instance)
        whole["config"] = {**whole["config"], "instance_key": Secret(f"key-of-{instance}")}
        return desired_of(whole, database)

    monkeypatch.setattr(store, "conclude", conclude_late)
    first = await reconcile(named("first"), replace(run, id="first"))
    assert (first.outcome, first.error) == ("changed", None)
    other = await second[0]
    assert other.error is not None
    assert (other.exit_code, other.error.code) == (3, "wrong_instance")
    assert await run_sql(database, "SELECT instance_id FROM instance_config") == [("first",)]
    assert await run_sql(database, "SELECT DISTINCT instance FROM fivrec.audit_log") == [("first",)]
