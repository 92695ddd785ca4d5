"""When a password is hashed, verified or left alone; every call of bcrypt is counted."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import pytest

from reconciler.database.pipeline import Limits
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret, cost_of
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of

PASSWORD, OTHER = "senha-123", "outra-senha"
Calls = Counter[str]
Record = Callable[[str, object], None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts the calls of bcrypt, by function."""
    counted: Calls = Counter()
    for name in ("hashpw", "checkpw"):
        true = getattr(bcrypt, name)

        def call(*args: Any, _name: str = name, _true: Any = true) -> Any:
            counted[_name] += 1
            return _true(*args)

        monkeypatch.setattr(bcrypt, name, call)
    return counted


def declared(url: Secret, policy: str, password: str = PASSWORD, cost: int = 4) -> Desired:
    admin = {**document()["admin"], "password": Secret(password), "update_password": policy}
    return replace(desired_of(document(admin=admin), url), bcrypt_cost=cost)


def told(report: InstanceReport) -> list[tuple[str, str, list[str]]]:
    return [(item.action, item.cause, [field.field for field in item.fields]) for item in report.changes]


def stored(url: Secret) -> str:
    with psycopg.connect(url.reveal()) as conn:
        (found,) = conn.execute("SELECT password FROM users").fetchone() or ("",)
    return str(found)


def put(url: Secret, hashed: str) -> str:
    with psycopg.connect(url.reveal()) as conn:
        conn.execute("UPDATE users SET password = %s", (hashed,))
    return hashed


def hash_of(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


@pytest.mark.parametrize("policy", ["on_create", "always"])
async def test_a_run_that_changes_nothing_calls_bcrypt_not_once(
    policy: str, database: Secret, keys: KeyRing, tmp_path: Path, *, calls: Calls, record_property: Record
) -> None:
    desired, run = declared(database, policy), run_of(keys, tmp_path)
    await reconcile(desired, run)
    assert calls == {"hashpw": 1}
    calls.clear()
    for _ in range(3):
        assert (await reconcile(desired, run)).outcome == "in_sync"
    assert calls == {}
    record_property("calls of bcrypt in 3 no-op runs", calls.total())


@pytest.mark.parametrize("old", ["DELETE FROM fivrec.migrations WHERE version > 5", "DROP TABLE fivrec.last_run"])
async def test_a_schema_that_is_brought_up_to_date_calls_bcrypt_not_once(
    old: str, database: Secret, keys: KeyRing, tmp_path: Path, calls: Calls
) -> None:
    """Only a database that was never migrated has its passwords hashed before it is read."""
    desired, run = declared(database, "always"), run_of(keys, tmp_path)
    await reconcile(desired, run)
    with psycopg.connect(database.reveal()) as conn:
        conn.execute(old.encode())
    calls.clear()
    assert (await reconcile(desired, run)).outcome == "changed"
    assert calls == {}


async def test_on_create_never_touches_a_password_that_is_there(
    database: Secret, keys: KeyRing, tmp_path: Path, calls: Calls
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(declared(database, "on_create"), run)
    theirs = put(database, hash_of(OTHER))
    calls.clear()
    for desired in (
        declared(database, "on_create"),
        declared(database, "on_create", password="a-third"),
        declared(database, "on_create", cost=5),
    ):
        assert told(await reconcile(desired, run)) == []
    assert (stored(database), calls) == (theirs, {})


async def test_always_puts_a_changed_password_back_once(
    database: Secret, keys: KeyRing, tmp_path: Path, calls: Calls
) -> None:
    desired, run = declared(database, "always"), run_of(keys, tmp_path)
    await reconcile(desired, run)
    put(database, hash_of(OTHER))
    assert told(await reconcile(desired, run)) == [("update", "drift", ["password"])]
    assert bcrypt.checkpw(PASSWORD.encode(), stored(database).encode())
    calls.clear()
    assert told(await reconcile(desired, run)) == []
    assert calls == {}


async def test_under_always_another_declared_password_is_intent(
    database: Secret, keys: KeyRing, tmp_path: Path, calls: Calls
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(declared(database, "always"), run)
    assert told(await reconcile(declared(database, "always", OTHER), run)) == [("update", "intent", ["password"])]
    calls.clear()
    assert told(await reconcile(declared(database, "always", OTHER), run)) == []
    assert calls == {}


async def test_always_hashes_once_more_for_a_raised_cost_only(
    database: Secret, keys: KeyRing, tmp_path: Path, calls: Calls
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(declared(database, "always"), run)
    assert told(await reconcile(declared(database, "always", cost=6), run)) == [("update", "intent", ["password"])]
    assert cost_of(stored(database)) == 6
    calls.clear()
    for cost in (6, 4):
        assert told(await reconcile(declared(database, "always", cost=cost), run)) == []
    assert (cost_of(stored(database)), calls) == (6, {})


async def test_always_takes_a_cheaper_hash_for_drift(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, run = declared(database, "always", cost=5), run_of(keys, tmp_path)
    await reconcile(desired, run)
    put(database, hash_of(PASSWORD, 4))
    assert told(await reconcile(desired, run)) == [("update", "drift", ["password"])]
    assert cost_of(stored(database)) == 5


@pytest.mark.parametrize("in_the_open", [PASSWORD, hash_of(OTHER)], ids=["clear text", "the text of a hash"])
async def test_always_hashes_a_password_stored_in_the_open_once(
    in_the_open: str, database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = declared(database, "always", in_the_open), run_of(keys, tmp_path)
    await reconcile(desired, run)
    put(database, in_the_open)
    for look in (preview, reconcile):
        assert told(await look(desired, run)) == [("update", "drift", ["password"])]
    assert bcrypt.checkpw(in_the_open.encode(), stored(database).encode())
    assert told(await reconcile(desired, run)) == []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """bcrypt that waits behind others for longer than a transaction may be idle."""
    for name in ("hashpw", "checkpw"):
        true = getattr(bcrypt, name)

        def call(*args: Any, _true: Any = true) -> Any:
            time.sleep(2.0)
            return _true(*args)

        monkeypatch.setattr(bcrypt, name, call)


IMPATIENT = Limits(idle_ms=1700)


@pytest.mark.usefixtures("slow")
async def test_no_transaction_stands_idle_while_a_password_is_hashed(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path, limits=IMPATIENT)
    first = await reconcile(declared(database, "on_create"), run)
    assert (first.outcome, first.error) == ("changed", None)
    assert bcrypt.checkpw(PASSWORD.encode(), stored(database).encode())


@pytest.mark.usefixtures("slow")
async def test_no_transaction_stands_idle_while_a_password_is_verified(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    run = run_of(keys, tmp_path, limits=IMPATIENT)
    await reconcile(declared(database, "always"), run)
    put(database, hash_of(OTHER))
    for look in (preview, reconcile):  # both verify the hash, and the second makes a new one
        report = await look(declared(database, "always"), run)
        assert (told(report), report.error) == ([("update", "drift", ["password"])], None)


@pytest.mark.usefixtures("slow")
async def test_the_lock_is_free_while_a_password_is_hashed(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    hurried = replace(Limits(), lock_wait_s=1.7)
    runs = (run_of(keys, tmp_path, number, limits=hurried) for number in (1, 2))
    await reconcile(declared(database, "always"), run_of(keys, tmp_path))
    put(database, hash_of(OTHER))
    reports = await asyncio.gather(*(reconcile(declared(database, "always"), run) for run in runs))
    assert [report.error for report in reports] == [None, None]
    assert sorted(len(report.changes) for report in reports) == [0, 1]


@pytest.mark.parametrize("policy", ["on_create", "always"])
async def test_a_hash_of_cost_31_is_not_tried_and_named(
    policy: str, database: Secret, keys: KeyRing, tmp_path: Path, *, calls: Calls
) -> None:
    desired, run = declared(database, policy), run_of(keys, tmp_path)
    await reconcile(desired, run)
    dear = put(database, "$2b$31$" + hash_of(PASSWORD)[7:])
    calls.clear()
    report = await reconcile(desired, replace(run, id="second"))
    assert report.error is None
    assert report.notes == (
        "⚠️ admin/admin@empresa.com: its stored hash is of bcrypt cost 31; more than 14 is not tried, so it is no match",
    )
    assert calls["checkpw"] == 0
    assert (stored(database) == dear) == (policy == "on_create")


async def test_a_higher_cost_that_the_manifest_asks_for_is_tried(
    database: Secret, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses hashes of cost 4 labelled as 15: a real one takes seconds."""
    tried = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: bool(tried.append(hashed[:7])))
    desired, run = declared(database, "always", cost=4), run_of(keys, tmp_path)
    await reconcile(desired, run)
    put(database, "$2b$15$" + hash_of(PASSWORD)[7:])
    await preview(replace(desired, bcrypt_cost=15), run)
    assert tried == [b"$2b$15$"]


async def test_no_note_of_a_database_writer_vouches_for_their_hash(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    """Write access to the database without the key can't make fivrec.applied vouch for a foreign hash."""
    desired, run = declared(database, "always"), run_of(keys, tmp_path)
    await reconcile(desired, run)
    theirs = put(database, hash_of(OTHER))
    with psycopg.connect(database.reveal()) as conn:
        conn.execute(
            "UPDATE fivrec.applied SET fields = jsonb_set(fields, '{password,stored}', to_jsonb(%s::text)) "
            "WHERE kind = 'admin'",
            (hashlib.sha256(theirs.encode()).hexdigest(),),
        )
    report = await reconcile(desired, replace(run, id="second"))
    assert told(report) == [("update", "drift", ["password"])]
    assert bcrypt.checkpw(PASSWORD.encode(), stored(database).encode())


async def test_the_digests_of_two_instances_with_one_password_differ(
    make_database: Callable[[], Secret], keys: KeyRing, tmp_path: Path
) -> None:
    kept = []
    for instance in ("client-a", "client-b"):
        url = make_database()
        desired = replace(desired_of(document(instance=instance), url, connect=None), bcrypt_cost=4)
        assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
        with psycopg.connect(url.reveal()) as conn:
            query = "SELECT fields -> 'password' ->> 'declared' FROM fivrec.applied WHERE kind = 'admin'"
            kept += conn.execute(query).fetchone() or ()
    assert len(set(kept)) == 2


async def test_deep_names_users_whose_password_stands_in_clear_text(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = declared(database, "on_create"), run_of(keys, tmp_path)
    await reconcile(desired, run)
    with psycopg.connect(database.reveal()) as conn:
        conn.execute(
            "INSERT INTO users (name, email, password, environment) VALUES "
            "('a', 'a@b.c', 'senha', 'production'), ('d', 'd@e.f', 'senha', 'development')"
        )
    note = "⚠️ the password of a@b.c is stored in users.password in plain text: let its owner set another one"
    for work in (preview, reconcile):
        assert (await work(desired, replace(run, id="deep", deep=True))).notes[-1:] == (note,)
        assert (await work(desired, replace(run, id="plain"))).notes == ()
