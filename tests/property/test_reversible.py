"""A, then B, then A again on a real PostgreSQL: what A left is there, and none of B's own rows is active."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Ignore
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.property.test_converges import EMPTY, applied
from tests.support.engine import desired_of, document, run_of

EXAMPLES = int(os.environ.get("FIVREC_PROPERTY_EXAMPLES", "20"))
FEW = st.sampled_from(["Sales", "Suporte técnico", "a", "b", "c"])
VALUES = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "0800"])
EMAILS = st.sampled_from(["ana@e.com", "bia@e.com", "caio@e.com"])
IDS = st.sampled_from(["p1", "p2", "p3"])


@st.composite
def manifests(draw: Any) -> dict[str, Any]:
    """Manifests of one instance and environment, without renamed_from; all have the same sections with different
    content."""
    items = [
        {"name": name, "description": draw(st.none() | st.sampled_from(["x", "y"])), "is_active": draw(st.booleans())}
        for name in draw(st.lists(FEW, min_size=1, max_size=4, unique=True))
    ]
    plans = [
        {
            "id": name,
            "name": f"Plan {name}",
            "price": draw(st.integers(0, 2)),
            "billing_interval": "monthly",
            "features": [],
        }
        for name in draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    ]
    whole = document()
    return document(
        queues={"items": items, "unmanaged": "keep", "former": "deactivate"},
        plans={"source": "manifest", "items": plans, "unmanaged": "deactivate"},
        admin={
            **whole["admin"],
            "email": draw(EMAILS),
            "name": draw(FEW),
            "former": draw(st.sampled_from(["demote", "lock"])),
        },
        config={
            **whole["config"],
            "check_interval_minutes": draw(st.integers(1, 3)),
            "settings": draw(st.dictionaries(FEW, VALUES, max_size=3)),
            "former_settings": "remove",
        },
    )  # fmt: skip


READ = {
    "queues": "SELECT name, description, is_active FROM queues ORDER BY name, is_active, description",
    "settings": "SELECT key, value::text FROM settings ORDER BY key",
    "users": "SELECT email, name, role FROM users ORDER BY email",
    "plans": "SELECT id, name, price, is_active FROM plans ORDER BY id",
    "config": "SELECT instance_id, check_interval_minutes FROM instance_config",
}


def left(url: Secret) -> dict[str, dict[Any, tuple[Any, ...]]]:
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        return {table: {row[0]: row[1:] for row in conn.execute(query)} for table, query in READ.items()}


def is_off(table: str, row: tuple[Any, ...]) -> bool:
    return (table in ("queues", "plans") and row[-1] is False) or (table == "users" and row[-1] == "agent")


@pytest.fixture
def prepared(database: Secret, tmp_path: Path) -> tuple[Secret, KeyRing, Path]:
    keys = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": generate_key()})
    asyncio.run(reconcile(desired_of(document(), database), run_of(keys, tmp_path)))
    return database, keys, tmp_path


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=manifests(), second=manifests(), third=manifests())
def test_a_reverted_manifest_leaves_what_it_left_before(
    prepared: tuple[Secret, KeyRing, Path], first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    url, keys, folder = prepared
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        conn.execute(EMPTY)
    applied(desired_of(first, url), keys, folder)
    before = left(url)
    for other in (second, third):  # a second undo works like the first
        applied(desired_of(other, url), keys, folder)
        applied(desired_of(first, url), keys, folder)
        after = left(url)
        for table, rows in before.items():
            assert {key: row for key, row in after[table].items() if key in rows} == rows
            assert all(is_off(table, row) for key, row in after[table].items() if key not in rows), (table, after)
        shown = asyncio.run(preview(desired_of(first, url), run_of(keys, folder)))
        assert (shown.changes, shown.former) == ((), ())


BOUND = ("queues", "plans")
CHANGES_ALL_QUEUES = ("UPDATE queues", "DELETE FROM fivrec.applied")


def own(first: dict[str, Any], drift: list[str]) -> set[str]:
    """Returns the queues that may be removed without consent: the manifest's, as long as they are unchanged."""
    touched = any(statement.startswith(CHANGES_ALL_QUEUES) for statement in drift)
    return set() if touched else {item["name"] for item in first["queues"]["items"]}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    first=manifests(),
    second=manifests(),
    unmanaged=st.sampled_from(["keep", "deactivate", "remove"]),
    ignored=st.lists(st.sampled_from(["queue/*", "queue/*/description", "environment/*", "*/*/is_active"]), max_size=2),
    drift=st.lists(
        st.sampled_from([
            "UPDATE queues SET description = 'by hand'",
            "UPDATE queues SET is_active = NOT is_active",
            "INSERT INTO queues (name, environment) SELECT 'extra ' || n, 'production' FROM generate_series(1, 9) n",
            "DELETE FROM fivrec.applied WHERE kind = 'queue'",
            "UPDATE plans SET is_active = true, price = 7",
        ]),
        max_size=3,
    ),
)  # fmt: skip
def test_changes_without_consent_stay_within_the_guards_bounds(  # noqa: PLR0917 (hypothesis gives each a name)
    prepared: tuple[Secret, KeyRing, Path],
    first: dict[str, Any],
    second: dict[str, Any],
    unmanaged: str,
    ignored: list[str],
    drift: list[str],
) -> None:
    url, keys, folder = prepared
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        conn.execute(EMPTY)
    applied(desired_of(first, url), keys, folder)
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        for statement in drift:
            conn.execute(statement)
    before = left(url)
    second["queues"]["unmanaged"] = unmanaged
    wanted = desired_of(second, url, ignore=tuple(Ignore(pattern, "accepted") for pattern in ignored))
    report = asyncio.run(reconcile(wanted, run_of(keys, folder)))
    assume(report.outcome in ("changed", "in_sync", "refused"))
    after = left(url)
    if report.outcome == "refused":
        assert after == before
        return
    for table in BOUND:
        on = {key for key, row in before[table].items() if row[-1] is not False}
        gone = {key for key in on if key not in after[table] or after[table][key][-1] is False}
        assert len(gone) <= 1 or len(gone) <= 0.2 * len(on)
        assert not on or gone < on
    for table in ("queues", "settings"):  # rows that fivrec created and nobody changed since
        removed = before[table].keys() - after[table].keys()
        assert len(removed) <= 1 or len(removed) <= 0.2 * len(before[table])
    assert not drift or before["queues"].keys() <= after["queues"].keys() | own(first, drift)
