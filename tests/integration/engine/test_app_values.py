"""Values that an app left in its columns: read as they are or as text, or refused by name; a run never crashes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from reconciler.connect.client import ConnectClient
from reconciler.database.status_queries import LogFilter
from reconciler.engine.batch import Stop, run_many
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.status_and_logs import query_checks
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectView, ErrorInfo
from reconciler.planning.report_document import as_document
from reconciler.support.crypto.keyring import KeyRing
from tests.support.databases import run_sql
from tests.support.engine import desired_of, document, run_of

LOCAL = "timestamp without time zone "
ODD_SETTINGS = {
    "number": "1e999",
    "nul": '"\\u0000"',
    "surrogate": '"\\ud800"',
    "deep": "[" * 1200 + "]" * 1200,
    "digits": "9" * 5000,
}


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


async def test_a_number_is_read_with_all_its_digits(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """A database or a login may set sessions to read floats rounded: a differing price would then look as declared."""
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    await reconcile(desired, run)
    rounding = "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -15', current_database()); END$$"
    await run_sql(database, f"ALTER TABLE plans ALTER price TYPE double precision; {rounding}")
    await run_sql(database, "UPDATE plans SET price = price + 1 WHERE id = 'plan_starter'")
    (change,) = as_document(await reconcile(desired, replace(run, id="second")))["changes"]
    assert (change["name"], change["fields"]) == (
        "plan_starter",
        [{"field": "price", "before": 2901, "after": 2900}],
    )
    assert (await reconcile(desired, replace(run, id="third"))).outcome == "in_sync"


@pytest.mark.parametrize(("typed", "length"), [("varchar(20)", 20), ("char(30)", 30), ("varchar", None)])
async def test_an_error_is_cut_to_the_apps_column(
    database: Secret, keys: KeyRing, tmp_path: Path, typed: str, length: int | None
) -> None:
    """If Connect does not answer, the manifest is applied all the same, however small the columns of the app's log
    are."""
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(
        database,
        f"ALTER TABLE status_check_logs ALTER error_message TYPE {typed}; UPDATE queues SET description = 'by hand'",
    )
    silent = desired_of(document(), database, connect="http://127.0.0.1:1")
    report = await reconcile(silent, replace(run, id="second"))
    assert report.error is not None
    assert report.outcome == "degraded"
    assert await run_sql(database, "SELECT count(*) FROM queues WHERE description = 'by hand'") == [(0,)]
    ((said,),) = await run_sql(database, "SELECT error_message FROM status_check_logs WHERE NOT success")
    assert said == f"{report.error.code}: {report.error.message}"[:length]


KNOWN = "CREATE TYPE known AS ENUM ('active', 'suspended', 'pending_payment'); ALTER TABLE status_check_logs "


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("varchar(6)", "frozen"),
        ("varchar(4)", "froz"),
        ("text", "frozen"),
        ("known USING status_received::known", None),
    ],
)
async def test_an_unknown_status_is_logged_as_the_column_can(
    typed: str, stored: str | None, *, database: Secret, keys: KeyRing, tmp_path: Path, monkeypatch: Any
) -> None:
    run = run_of(keys, tmp_path)
    await reconcile(desired_of(document(), database), run)
    await run_sql(database, "UPDATE status_check_logs SET status_received = NULL")
    await run_sql(database, f"{KNOWN} ALTER status_received TYPE {typed}; UPDATE queues SET description = 'by hand'")
    unknown = ErrorInfo("connect_unknown_status", "a status frozen")
    odd = ConnectView(status_error=unknown, received="frozen", response_time_ms=1)
    monkeypatch.setattr(ConnectClient, "fetch_view", AsyncMock(return_value=odd))
    report = await reconcile(desired_of(document(), database), replace(run, id="second"))
    assert (report.outcome, report.error) == ("degraded", unknown)
    assert await run_sql(database, "SELECT count(*) FROM queues WHERE description = 'by hand'") == [(0,)]
    logged = "SELECT status_received::text, error_message FROM status_check_logs WHERE NOT success"
    assert await run_sql(database, logged) == [(stored, "connect_unknown_status: a status frozen")]


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


APP = """
CREATE TABLE users (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, email text NOT NULL UNIQUE,
  password text NOT NULL, role text NOT NULL DEFAULT 'agent', environment text NOT NULL DEFAULT 'production');
INSERT INTO users (name, email, password, role) VALUES ('Admin', 'admin@empresa.com', 'x', 'admin');
CREATE TABLE queues (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, description text,
  is_active boolean DEFAULT true, environment text NOT NULL DEFAULT 'production', created_at timestamp DEFAULT now());
INSERT INTO queues (id, name) VALUES ('q1', 'Sales');
CREATE TABLE plans (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, description text,
  price integer NOT NULL, currency text NOT NULL DEFAULT 'BRL', billing_interval text NOT NULL, features json NOT NULL,
  max_users integer DEFAULT 1, is_active boolean DEFAULT true, stripe_product_id text, stripe_price_id text);
INSERT INTO plans (id, name, price, billing_interval, features, is_active)
  VALUES ('plan_starter', 'Starter', 2900, 'monthly', '[]', true), ('old', 'Old', 2990, 'monthly', '[]', false);
CREATE TABLE instance_config (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), instance_id text NOT NULL,
  instance_key text NOT NULL, connect_api_url text NOT NULL, status text DEFAULT 'active',
  check_interval_minutes integer);
CREATE TABLE status_check_logs (id varchar PRIMARY KEY DEFAULT gen_random_uuid(), instance_config_id varchar NOT NULL,
  check_type text NOT NULL, success boolean NOT NULL, status_received text, error_message text, response_time integer,
  created_at timestamp DEFAULT now());
"""
SHARED = ("users", "clients", "queues", "conversations", "messages")
OTHERS = "id varchar PRIMARY KEY DEFAULT gen_random_uuid(), environment text NOT NULL DEFAULT 'production'"
ENVIRONMENT = "ALTER TABLE {0} ALTER environment DROP DEFAULT, ALTER environment TYPE {1} USING environment::{1}"
ADOPTED: dict[str, str] = {
    "price with cents": "ALTER TABLE plans ALTER price TYPE numeric(12, 2); UPDATE plans SET price = price / 100.0",
    "whole price with cents": "ALTER TABLE plans ALTER price TYPE numeric(12, 2)",
    "price that is no number": "ALTER TABLE plans ALTER price TYPE numeric;"
    "UPDATE plans SET price = 'NaN' WHERE id = 'old'",
    "price without end": "ALTER TABLE plans ALTER price TYPE double precision;"
    "UPDATE plans SET price = 'Infinity' WHERE id = 'old'",
    "environment as an enum": "CREATE TYPE env AS ENUM ('production', 'development');"
    + ";".join(f"CREATE TABLE {table} ({OTHERS})" for table in ("clients", "conversations", "messages"))
    + "".join(f";{ENVIRONMENT.format(table, 'env')}" for table in SHARED),
    "environment as an enum, other tables lacking it": "CREATE TYPE env AS ENUM ('production', 'development');"
    "CREATE TABLE messages (id bigserial PRIMARY KEY, content text);"
    + ENVIRONMENT.format("users", "env")
    + ";ALTER TABLE queues DROP environment",
    "ids as numbers, no other tables": ";".join(
        f"ALTER TABLE {table} DROP id, ADD id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
        for table in ("users", "queues")
    ),
    "ids as uuid or domains, references lacking": "CREATE DOMAIN number AS bigint CHECK (VALUE > 0);"
    "ALTER TABLE users ALTER id DROP DEFAULT, ALTER id TYPE uuid USING id::uuid;"
    "CREATE TABLE clients (id number PRIMARY KEY, name text); CREATE TABLE messages (id bigserial PRIMARY KEY);"
    "CREATE TABLE conversations (id serial PRIMARY KEY, title text); INSERT INTO conversations (title) VALUES ('a')",
    "environment padded": ";".join(ENVIRONMENT.format(table, "char(20)") for table in ("users", "queues")),
    "names and emails padded": "ALTER TABLE users ALTER email TYPE char(60);"
    "ALTER TABLE queues ALTER name TYPE char(40)",
    "other texts padded": "ALTER TABLE users ALTER name TYPE char(40), ALTER role TYPE char(10);"
    "ALTER TABLE users ALTER password TYPE char(80); ALTER TABLE queues ALTER description TYPE char(60);"
    "ALTER TABLE plans ALTER id DROP DEFAULT, ALTER id TYPE char(40), ALTER name TYPE char(40),"
    "  ALTER description TYPE char(80), ALTER billing_interval TYPE char(12), ALTER stripe_price_id TYPE char(40);"
    "ALTER TABLE instance_config ALTER status TYPE char(20), ALTER connect_api_url TYPE char(200),"
    "  ALTER instance_key TYPE char(300); ALTER TABLE status_check_logs ALTER status_received TYPE char(20)",
    "role as an enum": "CREATE TYPE roles AS ENUM ('admin', 'agent');"
    "ALTER TABLE users ALTER role DROP DEFAULT, ALTER role TYPE roles USING role::roles; DELETE FROM users",
    "kinds of checks as an enum": "CREATE TYPE kinds AS ENUM ('manual', 'startup');"
    "ALTER TABLE status_check_logs ALTER check_type TYPE kinds USING check_type::kinds",
    "checks' ids as uuid": ";".join(
        f"ALTER TABLE {table} ALTER id DROP DEFAULT, ALTER id TYPE uuid USING id::uuid"
        for table in ("instance_config", "status_check_logs")
    ),
}


@pytest.mark.parametrize("name", ADOPTED)
async def test_an_apps_columns_of_kindred_types_are_adopted(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    await run_sql(database, APP + ADOPTED[name])
    desired, run = desired_of(document(), database), run_of(keys, tmp_path)
    before = await preview(desired, run)
    assert (before.outcome, before.error) == ("changed", None)
    report = await reconcile(desired, run)
    assert (report.outcome, report.error) == ("changed", None)
    assert as_document(report)["changes"] == as_document(before)["changes"]
    assert await run_sql(database, "SELECT count(*) FROM users") == [(1,)]
    assert await run_sql(database, "SELECT name::text FROM queues ORDER BY 1") == [("Sales",), ("Technical Support",)]
    assert (await reconcile(desired, replace(run, id="second"))).outcome == "in_sync"
    (check, _) = await query_checks(desired, run, LogFilter(check_type="manual"))
    assert (check.success, await query_checks(desired, run, LogFilter(before=check, limit=1))) != (True, ())


UNFIT: dict[str, tuple[str, str, str]] = {
    "price in money": (
        "ALTER TABLE plans ALTER price TYPE money USING 0::money",
        "column_type",
        "plans.price is money",
    ),
    "price in money among texts of other lengths": (
        (
            "ALTER TABLE instance_config ALTER instance_key TYPE varchar(255), ALTER connect_api_url TYPE varchar(255);"
            "ALTER TABLE status_check_logs ALTER created_at TYPE timestamp(6);"
            "ALTER TABLE plans ALTER price TYPE money USING 0::money"
        ),
        "column_type",
        "plans.price is money",
    ),
    "numbers for booleans": (
        "ALTER TABLE queues ALTER is_active DROP DEFAULT, ALTER is_active TYPE smallint USING 1",
        "column_type",
        "queues.is_active is smallint",
    ),
    "numbered checks": (
        "ALTER TABLE status_check_logs ALTER id DROP DEFAULT, ALTER id TYPE bigint USING 1",
        "value_unfit",
        "status_check_logs.id is bigint",
    ),
    "checks that number themselves": (
        "ALTER TABLE status_check_logs DROP id, ADD id bigint GENERATED ALWAYS AS IDENTITY",
        "column_type",
        "status_check_logs.id is bigint GENERATED ALWAYS AS IDENTITY",
    ),
    "ids that no reference fits": (
        (
            "ALTER TABLE queues ALTER id DROP DEFAULT, ALTER id TYPE uuid USING gen_random_uuid();"
            "CREATE TABLE conversations (id varchar PRIMARY KEY, queue_id varchar)"
        ),
        "column_type",
        "queues.id is uuid",
    ),
    "success in words": (
        "ALTER TABLE status_check_logs ALTER success TYPE text",
        "column_type",
        "status_check_logs.success is text",
    ),
    "a name that is too long": (
        "ALTER TABLE queues ALTER name TYPE varchar(6)",
        "value_unfit",
        "queues.name is character varying(6)",
    ),
    "a time in milliseconds": (
        "DROP TABLE IF EXISTS settings; CREATE TABLE settings (key text PRIMARY KEY, value json, updated_at bigint)",
        "column_type",
        "settings.updated_at is bigint",
    ),
    "an interval in words": (
        "ALTER TABLE instance_config ALTER check_interval_minutes TYPE text",
        "not_converged",
        "instance_config.check_interval_minutes is text",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_an_unfit_value_is_reported_with_its_column(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    change, code, column = UNFIT[name]
    await run_sql(database, APP + change)
    rows = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM queues), to_regnamespace('fivrec') IS NULL"
    planned = await preview(desired_of(document(), database), run_of(keys, tmp_path))
    foreseen = "apply refuses this (column_type): plans.price is money, which takes no whole number"
    assert (foreseen in planned.notes) == (column == "plans.price is money")
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert (report.outcome, report.error and report.error.code) == ("failed", code)
    assert report.error is not None
    assert f"not as documented: {column}" in report.error.message
    assert await run_sql(database, rows) == [(1, 1, True)]


GENERATED = {
    "instance_config.is_locked": "boolean GENERATED ALWAYS AS (status = 'suspended') STORED",
    "instance_config.status": "text GENERATED ALWAYS AS ('active') STORED",
    "instance_config.last_status_check": "timestamp GENERATED ALWAYS AS (NULL::timestamp) STORED",
    "users.environment": "text GENERATED ALWAYS AS ('production') STORED",
    "users.email": "text GENERATED ALWAYS AS ('Admin@empresa.com') STORED",
    "users.name": "text GENERATED ALWAYS AS (upper(role)) STORED",
    "status_check_logs.id": "bigint GENERATED ALWAYS AS IDENTITY",
    "plans.name": "text GENERATED ALWAYS AS (id) VIRTUAL",
}


@pytest.mark.parametrize("name", GENERATED)
async def test_a_generated_column_that_is_written_is_named_with_what_to_do(
    database: Secret, keys: KeyRing, tmp_path: Path, name: str
) -> None:
    table, _, column = name.partition(".")
    stored = "VIRTUAL" not in GENERATED[name]
    if not stored and await run_sql(database, "SELECT current_setting('server_version_num')::integer < 180000") == [
        (True,)
    ]:
        pytest.skip("PostgreSQL before 18 has no virtual columns")
    await run_sql(database, APP)
    lacks = f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} text; ALTER TABLE {table} DROP {column} CASCADE"
    await run_sql(database, f"{lacks}; ALTER TABLE {table} ADD {column} {GENERATED[name]}")
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert report.error is not None
    assert (report.outcome, report.error.code) == ("failed", "column_type")
    assert report.error.message.endswith(
        f"not as documented: {name} is {GENERATED[name].partition(' AS (')[0].replace('timestamp ', LOCAL)}"
    )
    what = "IDENTITY" if "IDENTITY" in GENERATED[name] else "EXPRESSION"
    way = f"ALTER TABLE public.{table} ALTER COLUMN {column} DROP {what}"
    if not stored:
        way = f"replace public.{name}, which is virtual, by an ordinary column with its values"
    assert report.error.hint == f"make what is written an ordinary column: {way}"
    if stored:
        await run_sql(database, way)
        second = await reconcile(desired_of(document(), database), run_of(keys, tmp_path, 2))
        assert (second.error and second.error.code) == ("value_unfit" if what == "IDENTITY" else None)


async def test_a_plan_whose_name_is_a_list_is_value_unfit(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    run, desired = run_of(keys, tmp_path), desired_of(document(), database)
    assert (await reconcile(desired, run)).error is None
    await run_sql(database, "ALTER TABLE plans ALTER name TYPE text[] USING ARRAY[name]")
    report = await reconcile(desired, replace(run, id="second"))
    assert (report.outcome, report.error and report.error.code) == ("failed", "value_unfit")


async def test_the_function_that_failed_is_named(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await run_sql(
        database,
        APP + "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM 1 / 0; RETURN NEW; END$$;"
        "CREATE TRIGGER t BEFORE INSERT ON queues FOR EACH ROW EXECUTE FUNCTION audit()",
    )
    report = await reconcile(desired_of(document(), database), run_of(keys, tmp_path))
    assert report.error is not None
    assert report.error.code == "trigger_refused"
    assert re.search(r"the app's function (public\.)?audit\(\), .*\(SQLSTATE 22012\)", report.error.message)


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


async def test_an_unexpected_error_ends_one_instance_only(
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
