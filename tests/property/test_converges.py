"""Any desired over any observed state, on a real PostgreSQL: one apply converges, a second one writes nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json

from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.support.crypto.key_files import generate_key
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.harness import fingerprint

EXAMPLES = int(os.environ.get("FIVREC_PROPERTY_EXAMPLES", "20"))
NAMES = st.sampled_from(["Sales", "Suporte técnico", "a", "'; DROP TABLE queues; --", "ü" * 30, "x y", "Sales "])
TEXT = st.none() | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
IDS = st.sampled_from(["plan_starter", "plan_professional", "p3", "p4"])
PRODUCTS = st.none() | st.sampled_from(["prod_1", "prod_p3"])


@st.composite
def plan_items(draw: Any) -> list[dict[str, Any]]:
    ids = draw(st.lists(IDS, max_size=3, unique=True))
    return [
        {
            "id": name,
            "name": draw(st.sampled_from(["Starter", "Pro", f"Plan {name}"])),
            "price": draw(st.integers(0, 2**31 - 1)),
            "billing_interval": "monthly",
            "features": draw(st.lists(NAMES, max_size=2)),
            "description": draw(TEXT),
            "max_users": draw(st.none() | st.integers(0, 100)),
            "is_active": draw(st.booleans()),
            "stripe_product_id": draw(st.none() | st.sampled_from(["prod_1", "prod_2", f"prod_{name}"])),
        }
        for name in ids
    ]


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    queues = draw(st.lists(NAMES, max_size=4, unique=True))
    items = [{"name": name, "description": draw(TEXT), "is_active": draw(st.booleans())} for name in queues]
    sections: dict[str, Any] = {
        "queues": {"items": items, "unmanaged": draw(st.sampled_from(["keep", "deactivate", "remove"]))},
        "plans": {
            "source": "manifest",
            "items": draw(plan_items()),
            "unmanaged": draw(st.sampled_from(["keep", "deactivate"])),
        },
    }
    whole = document(**{name: section for name, section in sections.items() if draw(st.booleans())})
    whole["config"] = {
        **whole["config"],
        "check_interval_minutes": draw(st.integers(1, 10_000)),
        "settings": draw(st.dictionaries(NAMES, JSON, max_size=3)),
    }
    whole["admin"] = {**whole["admin"], "update_password": draw(st.sampled_from(["always", "on_create"]))}
    return whole


@st.composite
def disturbances(draw: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """Returns what the app and its users do to the tables between two applies."""
    queue = "INSERT INTO queues (name, description, is_active, environment) VALUES (%s, %s, %s, %s)"
    plan = (
        "INSERT INTO plans (id, name, price, billing_interval, features, is_active, stripe_product_id) "
        "VALUES (%s, %s, 1, 'yearly', '[]', %s, %s) ON CONFLICT DO NOTHING"
    )
    environments = st.sampled_from(["production", "development"])
    one = st.one_of(
        st.tuples(st.just(queue), st.tuples(NAMES, TEXT, st.none() | st.booleans(), environments)),
        st.tuples(st.just(plan), st.tuples(IDS, NAMES, st.booleans(), PRODUCTS)),
        st.tuples(
            st.just(
                "INSERT INTO settings (key, value) VALUES (%s, %s) "
                "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
            ),
            st.tuples(NAMES, JSON.map(Json)),
        ),
        st.tuples(st.just("UPDATE users SET name = %s, role = 'agent', password = 'x'"), st.tuples(NAMES)),
        st.tuples(st.just("UPDATE instance_config SET is_locked = true, check_interval_minutes = NULL"), st.just(())),
        st.tuples(
            st.just(
                "INSERT INTO conversations (queue_id, environment) "
                "SELECT id, environment FROM queues WHERE name = %s"
            ),
            st.tuples(NAMES),
        ),
        st.tuples(
            st.just("DELETE FROM queues q WHERE NOT EXISTS (SELECT FROM conversations c WHERE c.queue_id = q.id)"),
            st.just(()),
        ),
        st.tuples(st.just("DELETE FROM plans"), st.just(())),
        st.tuples(st.just("DELETE FROM fivrec.applied"), st.just(())),
    )  # fmt: skip
    return draw(st.lists(one, max_size=5))


EMPTY = (
    "TRUNCATE users, queues, plans, settings, clients, conversations, messages, instance_config, "
    "status_check_logs, fivrec.applied, fivrec.audit_log CASCADE"
)


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
@given(first=documents(), disturbed=disturbances(), second=documents())
def test_any_desired_over_any_observed_converges_at_once(
    prepared: tuple[Secret, KeyRing, Path],
    first: dict[str, Any],
    disturbed: list[tuple[str, tuple[Any, ...]]],
    second: dict[str, Any],
) -> None:
    url, keys, folder = prepared
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        conn.execute(EMPTY)
    applied(desired_of(first, url), keys, folder)
    with psycopg.connect(url.reveal(), autocommit=True) as conn:
        for statement, params in disturbed:
            conn.execute(statement, params)
    applied(desired_of(second, url), keys, folder)
    assert asyncio.run(preview(desired_of(second, url), run_of(keys, folder))).changes == ()
    before = fingerprint(url.reveal())
    again = asyncio.run(reconcile(desired_of(second, url), run_of(keys, folder)))
    assert (again.outcome, again.changes) == ("in_sync", ())
    assert fingerprint(url.reveal()) == before


def applied(desired: Desired, keys: KeyRing, folder: Path) -> None:
    """Apply, accepting exactly this plan for the guards."""
    planned = asyncio.run(preview(desired, run_of(keys, folder)))
    accept = frozenset({planned.digest} if planned.digest else ())
    report = asyncio.run(reconcile(desired, run_of(keys, folder, accept=accept)))
    assert report.outcome in ("changed", "in_sync"), (report.error, INSTANCE)
