"""Any drift of any manifest, pulled: the diff afterwards holds only what pull said it left."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json

from reconciler.engine.reconcile import preview, reconcile
from reconciler.manifest.editing import Editor
from reconciler.manifest.files import read_manifest_files
from reconciler.manifest.loader import load_manifests
from reconciler.manifest.references import Resolution, resolve
from reconciler.manifest.yaml.text import block, inline, is_json
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Value
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.property.test_converges import EMPTY, JSON, NAMES, TEXT
from tests.support.engine import INSTANCE, run_of

EXAMPLES = int(os.environ.get("FIVREC_PROPERTY_EXAMPLES", "20"))
SHOWN = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(lambda one: one.strip())
HARD = st.sampled_from(
    ["no", "08", "08:30", "1e3", "NaN", "2026-1-1", "a: b", "a #b", "{{ x }}", " ", "'", '"', "-", "a\u0085b"]
)
FLAGS = st.dictionaries(SHOWN, st.integers(0, 9) | st.booleans(), max_size=2)
NEW_PLAN = (
    "INSERT INTO plans (id, name, price, billing_interval, features) VALUES ('p2', %s, 2, 'yearly', '[]') "
    "ON CONFLICT DO NOTHING"
)
VALUES = HARD | JSON
ENVIRON = {"DATABASE_URL": "", "PASSWORD": "senha-segura-123", "KEY": "key-of-the-test"}


@st.composite
def texts(draw: Any) -> str:
    """A manifest with each section in flow or block style and with comments, or one in JSON, which has none."""
    items = [
        {"name": name, **({"description": text} if (text := draw(SHOWN | st.none())) else {})}
        for name in draw(st.lists(NAMES.filter(str.isprintable), min_size=1, max_size=4, unique=True))
    ]
    queues: Any = (
        items if draw(st.booleans()) else {"items": items, "unmanaged": draw(st.sampled_from(["keep", "deactivate"]))}
    )
    sections: dict[str, Any] = {
        "config": {
            "connect_api_url": "embedded:",
            "instance_key": {"env": "KEY"},
            "company_name": draw(SHOWN.filter(lambda one: "{" not in one)),
            "settings": {"locale": "pt-BR", **draw(FLAGS)},
        },
        "admin": {"name": "Administrador", "email": "admin@empresa.com", "password": {"env": "PASSWORD"}},
        "queues": queues,
    }  # fmt: skip
    if draw(st.booleans()):
        plan = {"id": "p1", "name": "One", "price": 1, "billing_interval": "monthly", "features": ["a", "b"]}
        sections["plans"] = {"source": "manifest", "items": [plan]}
    if draw(st.booleans()):
        head = {"version": 1, "instance": INSTANCE, "environment": "production"}
        document = {**head, "database": {"url": {"env": "DATABASE_URL"}}, **sections}
        return json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1, 2, 4])))
    lines = ["# a comment", "version: 1", f"instance: {INSTANCE}  # another", "environment: production"]
    lines += ["database: {url: {env: DATABASE_URL}}"]
    for name, section in sections.items():
        lines.append(f"# about {name}")
        lines += [f"{name}: {inline(section)}  # end"] if draw(st.booleans()) else block({name: section})
    return "\n".join(lines) + draw(st.sampled_from(["\n", "", "\n# the end\n"]))


@st.composite
def drift(draw: Any) -> list[tuple[str, tuple[Value, ...]]]:
    """What the app and its users do to rows that fivrec applied."""
    one = st.one_of(
        st.tuples(st.just("UPDATE queues SET description = %s WHERE name = %s"), st.tuples(TEXT | HARD, NAMES)),
        st.tuples(st.just("UPDATE queues SET is_active = NOT is_active WHERE name = %s"), st.tuples(NAMES)),
        st.tuples(st.just("DELETE FROM queues WHERE name = %s"), st.tuples(NAMES)),
        st.tuples(st.just("INSERT INTO queues (name, description) VALUES (%s, 'x')"), st.tuples(NAMES)),
        st.tuples(st.just("UPDATE settings SET value = %s"), st.tuples(VALUES.map(Json))),
        st.tuples(st.just("DELETE FROM settings WHERE key <> 'company_name'"), st.just(())),
        st.tuples(st.just("DELETE FROM settings"), st.just(())),
        st.tuples(st.just("UPDATE users SET name = %s"), st.tuples(SHOWN | HARD)),
        st.tuples(st.just("UPDATE users SET role = 'agent'"), st.just(())),
        st.tuples(st.just("DELETE FROM users"), st.just(())),
        st.tuples(st.just("UPDATE instance_config SET check_interval_minutes = %s"), st.tuples(st.integers(-1, 99))),
        st.tuples(st.just("UPDATE instance_config SET connect_api_url = %s"), st.tuples(HARD)),
        st.tuples(st.just("UPDATE plans SET price = price + 1, description = %s"), st.tuples(TEXT)),
        st.tuples(st.just("""UPDATE plans SET features = '["a", {"b": 1}]', max_users = NULL"""), st.just(())),
        st.tuples(st.just("DELETE FROM plans"), st.just(())),
        st.tuples(st.just(NEW_PLAN), st.tuples(SHOWN)),
    )  # fmt: skip
    return draw(st.lists(one, min_size=1, max_size=5))


def desired_in(path: Path, url: Secret) -> Desired:
    manifests = load_manifests([str(path)], environ=ENVIRON)
    environ = {**ENVIRON, "DATABASE_URL": url.reveal()}
    (desired,) = resolve(
        manifests,
        needs=frozenset({"database", "connect", "admin"}),
        environ=environ,
        resolution=Resolution(work_dir=path.parent, allow_embedded=True),
    )
    return replace(desired, bcrypt_cost=4, connect=None, plans_from_connect=False)


def ended(one: Callable[..., Any], desired: Desired, keys: KeyRing, **more: Any) -> InstanceReport:
    report: InstanceReport = asyncio.run(one(desired, run_of(keys, Path(desired.origin.path).parent, **more)))
    assert report.error is None, report.error
    return report


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=texts(), disturbed=drift())
def test_the_diff_after_a_pull_is_empty_but_for_what_was_left(
    database: Secret, tmp_path: Path, text: str, disturbed: list[tuple[str, tuple[Value, ...]]]
) -> None:
    keys = KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": "A" * 43 + "="})
    path = tmp_path / "client.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        if conn.execute("SELECT to_regclass('fivrec.applied')").fetchone() != (None,):
            conn.execute(EMPTY)
    ended(reconcile, desired_in(path, database), keys)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        for statement, params in disturbed:
            conn.execute(statement, params)
    found = ended(preview, desired_in(path, database), keys, find_drift=True)
    assert found.drift is not None
    edits, unsaid = found.drift
    files, _ = read_manifest_files([str(path)], None)
    edited = Editor(files, (), ENVIRON).apply({INSTANCE: edits} if edits else {})
    for file in edited.files:
        path.write_bytes(file.after)
    left = {(item.key, item.field) for item in (*unsaid, *edited.left.get(INSTANCE, ()))}
    after = ended(preview, desired_in(path, database), keys)
    rest = {(change.key, field) for change in after.changes
            for field in ([item.field for item in change.fields] if change.action == "update" else ["*"])}  # fmt: skip
    assert rest <= left
    assert is_json(path.read_text(encoding="utf-8")) == is_json(text)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")] == comments
