"""What an app left in its columns: read as it is, or as its text, or refused by name; never the end of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reconciler.engine.batch import Stop, run_many
from reconciler.engine.reconcile import preview, reconcile
from reconciler.model.secret import Secret
from reconciler.planning.report_document import as_document
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of

ODD_SETTINGS = {
    "number": "1e999",
    "nul": '"\\u0000"',
    "surrogate": '"\\ud800"',
    "deep": "[" * 1200 + "]" * 1200,
    "digits": "9" * 5000,
}


async def run_sql(url: Secret, text: str, *params: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url.reveal(), autocommit=True) as conn:
        cursor = await conn.execute(text.encode(), params or None)
        return await cursor.fetchall() if cursor.description else []


def with_locale_of(text: str) -> str:
    return f"UPDATE settings SET value = $json${text}$json$ WHERE key = 'locale'"


@pytest.mark.parametrize("name", ODD_SETTINGS)
async def test_odd_json_in_a_managed_setting_is_corrected(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    await run_sql(database, with_locale_of(ODD_SETTINGS[name]))
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.outcome, report.error) == ("changed", None)
    (change,) = as_document(report)["changes"]
    assert change["fields"] == [{"field": "value", "before": ODD_SETTINGS[name], "after": "pt-BR"}]
    json.dumps(change, allow_nan=False)
    before = "SELECT fields -> 0 ->> 'before' FROM fivrec.audit_log WHERE run_id = 'second'"
    assert await run_sql(database, before) == [(ODD_SETTINGS[name],)]
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"


async def test_odd_json_that_nothing_declares_stays_as_it_is(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await run_sql(
        database,
        "CREATE TABLE settings (key text PRIMARY KEY, value json);"
        "CREATE TABLE queues (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, mine json);"
        """INSERT INTO queues (name, mine) VALUES ('Sales', '"\\u0000"')""",
    )
    for name, text in ODD_SETTINGS.items():
        await run_sql(database, f"INSERT INTO settings (key, value) VALUES ('{name}', $json${text}$json$)")
    assert (await reconcile(desired, run)).error is None
    assert (await reconcile(desired, replace(run, id="second"))).outcome == "in_sync"
    kept = dict(await run_sql(database, "SELECT key, value::text FROM settings WHERE key <> 'locale'"))
    assert kept == {**ODD_SETTINGS, "company_name": '"Nome da Empresa"'}


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE plans ALTER max_users TYPE numeric",
        "ALTER TABLE plans ALTER price TYPE numeric(12, 2)",
        "ALTER TABLE plans ALTER price TYPE double precision",
        "CREATE DOMAIN cents AS numeric CHECK (VALUE >= 0); ALTER TABLE plans ALTER price TYPE cents",
        """CREATE TYPE word AS ENUM ('month', 'year', 'monthly');
        ALTER TABLE plans ALTER billing_interval TYPE word USING billing_interval::word""",
        "ALTER TABLE plans ALTER features TYPE jsonb",
        "ALTER TABLE settings ALTER value TYPE jsonb",
        "ALTER TABLE queues ALTER name TYPE varchar(200)",
        "ALTER TABLE plans ALTER description TYPE bytea USING convert_to(description, 'UTF8')",
    ],
)
async def test_columns_of_kindred_types_are_read_and_written(
    database: Secret, keys: KeyRing, tmp_path: Path, change: str
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    await run_sql(database, change)
    assert (await preview(desired, run)).outcome == "in_sync"
    await run_sql(database, "UPDATE plans SET price = 1, max_users = 7; UPDATE queues SET is_active = false")
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.outcome, report.error) == ("changed", None)
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"


async def test_a_price_without_end_is_shown_as_text_and_corrected(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    await run_sql(database, "ALTER TABLE plans ALTER price TYPE double precision; UPDATE plans SET price = 'infinity'")
    report = await reconcile(desired, replace(run, id="second"))
    assert report.error is None
    assert {change["fields"][0]["before"] for change in as_document(report)["changes"]} == {"Infinity"}
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"


async def test_an_odd_column_fails_its_own_instance_alone(make_database: Any, keys: KeyRing, tmp_path: Path) -> None:
    urls = [make_database() for _ in range(3)]
    instances = [desired_of(document(instance=f"client-{n}", config=None), url) for n, url in enumerate(urls)]
    run = run_of(keys, tmp_path)
    for item in instances:
        assert (await reconcile(item, run)).error is None
    odd = "ALTER TABLE queues ALTER description TYPE date USING '2025-01-01'; UPDATE queues SET id = 'q' || name"
    await run_sql(urls[1], odd)
    reports = await run_many(instances, run, preview, forks=2, stop=Stop())
    assert [(report.outcome, report.error and report.error.code) for report in reports] == [
        ("in_sync", None),
        ("failed", "column_type"),
        ("in_sync", None),
    ]
    assert reports[1].error is not None
    assert reports[1].error.message == ("queues.description, row qSales: its type (date) is not the documented one")


async def test_what_nobody_foresaw_is_one_instances_end(
    make_database: Any, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = [desired_of(document(instance=f"client-{n}"), make_database(), connect=None) for n in range(3)]
    run = run_of(keys, tmp_path)

    async def one(item: Any, run: Any) -> Any:
        if item.instance == "client-1":
            raise KeyError("a value that could be a secret")
        return await reconcile(item, run)

    reports = await run_many(instances, run, one, forks=3, stop=Stop())
    assert [(report.outcome, report.error and report.error.code) for report in reports] == [
        ("changed", None),
        ("failed", "internal"),
        ("changed", None),
    ]
    assert reports[1].error is not None
    assert "secret" not in reports[1].error.message
