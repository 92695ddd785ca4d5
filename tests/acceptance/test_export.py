"""Adoption: a whole server becomes manifests, and applying them changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
import yaml

from reconciler.model.names import printable
from reconciler.model.secret import Secret
from tests.support.harness import INSTANCE, Fivrec, manifest, run_sql


def test_a_whole_server_is_exported_as_a_fleet_and_as_files(
    fivrec: Fivrec, url: str, absent_database: Secret, tmp_path: Path
) -> None:
    assert fivrec.apply().code == 0
    words = ("export", "--database-url", "env:DATABASE_URL", "--all-databases")
    fleet = fivrec.run(*words)
    assert fleet.code == 0, fleet.stderr
    assert f"instance: {INSTANCE}" in fleet.stdout
    fivrec.write(fleet.stdout, "fleet.yaml")
    named = {
        "DATABASE_URL_CLIENT_ABC_123": url,
        "FIV_APP_API_KEY_CLIENT_ABC_123": fivrec.env["FIV_APP_API_KEY"],
    }
    again = fivrec.run("apply", "fleet.yaml", "-o", "json", "-l", INSTANCE, **named)
    assert (again.code, again.one["changes"]) == (0, []), again.stderr
    files = fivrec.run(*words, "--out", "exported")
    assert f"exported/{INSTANCE}.yaml" in files.stdout.split()
    once_more = fivrec.run("diff", f"exported/{INSTANCE}.yaml", "-o", "json", **named)
    assert (once_more.code, once_more.one["changes"]) == (0, [])
    assert fivrec.run(*words, "--out", "exported").code == 3


@pytest.mark.usefixtures("direct")
def test_databases_that_are_closed_to_the_login_are_named(fivrec: Fivrec, url: str, postgres_url: str) -> None:
    assert fivrec.apply().code == 0
    closed = f"{url.rpartition('/')[2].partition('?')[0]}_closed"
    run_sql(postgres_url, f'CREATE DATABASE "{closed}" ALLOW_CONNECTIONS false')
    try:
        exported = fivrec.run("export", "--database-url", url, "--all-databases")
        assert f"instance: {INSTANCE}" in exported.stdout
        (said,) = [line for line in exported.stderr.splitlines() if closed in line]
        assert said.startswith("⚠️ not looked at, because this login may not connect to them: ")
    finally:
        run_sql(postgres_url, f'DROP DATABASE "{closed}" WITH (FORCE)')


@pytest.mark.usefixtures("direct")
def test_two_databases_of_one_instance_are_left_out(
    fivrec: Fivrec, url: str, seed_database: Secret, postgres_url: str
) -> None:
    run_sql(seed_database.reveal(), "UPDATE instance_config SET instance_id = 'client-def-456'")
    assert fivrec.apply().code == 0
    name = url.rpartition("/")[2].partition("?")[0]
    run_sql(postgres_url, f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}"')
    try:
        exported = fivrec.run("export", "--database-url", url, "--all-databases", "--out", "exported")
        assert exported.code == 5
        written = exported.stdout.split()
        assert ("exported/client-def-456.yaml" in written, f"exported/{INSTANCE}.yaml" in written) == (True, False)
        of = f"it is one of 2 databases that say they are {INSTANCE}'s: {name}, {name}_copy"
        assert [line for line in exported.stderr.splitlines() if name in line] == [
            f"❌ database {name} is left out: {of}",
            f"❌ database {name}_copy is left out: {of}",
        ]
    finally:
        run_sql(postgres_url, f'DROP DATABASE "{name}_copy" WITH (FORCE)')


@pytest.mark.parametrize(
    ("of", "what"),
    [(("--instance", INSTANCE), f'database "fivapp_{INSTANCE}"'), (("--all-databases",), "server")],
)
def test_an_embedded_server_that_was_never_made_is_an_error(bare: Fivrec, of: tuple[str, ...], what: str) -> None:
    done = bare.run("export", "--database-url", "embedded:", *of, "-o", "json")
    assert (done.code, done.json["error"]["code"]) == (1, "database_missing")
    assert done.json["error"]["message"] == f"the embedded {what} was never made"
    assert not (bare.folder / ".fivrec").exists()


def test_an_instance_never_applied_is_what_its_rows_are(fivrec: Fivrec, seed_database: Secret) -> None:
    """The app ran with NODE_ENV=development: a manifest for production would create production rows beside them."""
    url = seed_database.reveal()
    words = ("export", "--database-url", url, "--instance", INSTANCE)
    both = fivrec.run(*words)
    assert yaml.safe_load(both.stdout)["environment"] == "production"
    said = "queues and administrators: 1 in production, 1 in development; --environment says otherwise"
    assert f"🌍 environment: production ({said})" in both.stderr
    assert yaml.safe_load(fivrec.run(*words, "--environment", "development").stdout)["environment"] == "development"
    run_sql(url, "UPDATE users SET environment = 'development'")
    found = fivrec.run(*words)
    exported = yaml.safe_load(found.stdout)
    assert (exported["environment"], exported["admin"]["email"]) == ("development", "admin@empresa.com")
    assert "🌍 environment: development (queues and administrators: 0 in production, 2 in" in found.stderr
    run_sql(url, "DELETE FROM users")
    assert yaml.safe_load(fivrec.run(*words).stdout)["environment"] == "production"


def test_one_instance_or_all_must_be_chosen(bare: Fivrec) -> None:
    assert bare.run("export", "--database-url", "embedded:").code == 64


def test_text_that_looks_like_a_template_survives(fivrec: Fivrec) -> None:
    odd = "\"a {{ '{{' }} b {{ '{%' }}\""
    fivrec.write(manifest(queue=f"{{name: Sales}}|{{name: Sales, description: {odd}}}"))
    assert fivrec.apply().code == 0
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    fivrec.write(exported.stdout)
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, []), exported.stdout


ODD = {
    "big": "12345678901234567890",
    "huge": "1e400",
    "nul": '"a\\u0000"',
    "nested": '{"a": [1, {"b": "\\u0007"}]}',
    "kept": '{"a": [1, 2.5, 1.5e300, "x: y # z"]}',
}


def test_a_setting_no_manifest_can_hold_is_left_out(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    for key, value in ODD.items():
        run_sql(url, f"INSERT INTO settings (key, value) VALUES ('{key}', '{value}'::json)")
    words = ("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    exported = fivrec.run(*words)
    fivrec.write(exported.stdout)
    validated = fivrec.run("validate", "client.yaml")
    assert (exported.code, validated.code) == (0, 0), exported.stdout + validated.stderr
    comments = [line.strip() for line in exported.stdout.splitlines() if line.strip().startswith("# setting ")]
    assert [line.split('"')[1] for line in comments] == ["big", "huge", "nested", "nul"]
    assert comments[0] == '# setting "big" is left out: the number does not fit into 64 bits'
    assert [line.count("⚠️") for line in exported.stderr.splitlines()] == [1, 1, 1, 1, 0]
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, [])
    assert sorted(fivrec.run(*words, "-o", "json").json["config"]["settings"]) == ["kept", "locale"]


def test_a_settings_section_left_empty_is_not_exported(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "DELETE FROM settings", "INSERT INTO settings (key, value) VALUES ('company_name', '\"a\\u0007\"')")
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    fivrec.write(exported.stdout)
    assert '# setting "company_name" is left out: ' in exported.stdout
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, []), again.stderr


def test_export_warns_if_validate_would_refuse_its_manifest(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, "INSERT INTO queues (name, environment) VALUES (E'a\\x07', 'production')")
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    assert exported.code == 65
    said, usage = exported.stderr.splitlines()
    assert "usage reports are off" in usage
    assert "❌ validate refuses this manifest: " in said


HARD = (
    "08007771234", "09010000", "0800", "08:30", "1e3", "1E5", "1_000", "0x1f", "0b11", "0o7", "no", "On", "y", "~",
    "null", "NaN", ".nan", "-.inf", "2025-1-1", "2001-12-14t21:59:43.10-05:00", "a\u0085b", "a\u2028b", "\ufeffx",
    " x ", "", "- x", "? x", "a: b", "a #b", "# x", "&a", "*a", "!x", "|", ">", "%x", "@x", "`x", "'x", '"x', "{x}",
    "[x", "x,y", "<<", "=", "a\nb\n", "a\tb", "\U0001f600", "x" * 300, "true", "12:30:45", "+1", "1.", ".5", "e\u0301",
)  # fmt: skip
"""Text that some YAML reader takes for something else unless it is quoted."""


def test_a_plan_no_manifest_can_hold_is_left_out_and_kept(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(
        url,
        "ALTER TABLE plans ALTER price TYPE numeric(12, 2), ALTER max_users TYPE numeric",
        "UPDATE plans SET price = 29.9 WHERE id = 'plan_starter'",
        "UPDATE plans SET max_users = 2.5 WHERE id = 'plan_enterprise'",
    )
    words = ("--database-url", url, "--instance", INSTANCE, "--plans", "manifest")
    exported = fivrec.run("export", *words)
    assert [line for line in exported.stderr.splitlines() if " plan " in line] == [
        f'{INSTANCE}: ⚠️ plan "plan_enterprise" is left out, and left as it is: must be a whole number or null: 2.5',
        f'{INSTANCE}: ⚠️ plan "plan_starter" is left out, and left as it is: must be a whole number: 29.9',
    ]
    plans = yaml.safe_load(exported.stdout)["plans"]
    assert ([item["id"] for item in plans["items"]], plans["unmanaged"]) == (["plan_professional"], "keep")
    fivrec.write(exported.stdout, "client.yaml")
    assert fivrec.run("validate", "client.yaml").code == 0
    assert (fivrec.diff().code, fivrec.diff().changes()) == (0, [])
    run_sql(url, "UPDATE plans SET price = 0.5")
    assert "plans" not in yaml.safe_load(fivrec.run("export", *words).stdout)


def test_what_export_writes_reads_back_as_it_was(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with psycopg.connect(url, autocommit=True) as conn:
        for number, text in enumerate(HARD):
            values = (f"s{number:02}", json.dumps(text))
            conn.execute("INSERT INTO settings (key, value) VALUES (%s, %s)", values)
            conn.execute("INSERT INTO queues (name, description) VALUES (%s, %s)", (text or "empty", text))
        conn.execute(
            "INSERT INTO settings (key, value) SELECT name, '1' FROM queues WHERE name NOT IN ('Sales', E'a\\tb')"
        )
    words = ("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    exported = fivrec.run(*words)
    path = fivrec.write(exported.stdout)
    assert (exported.code, fivrec.run("fmt", "--check", "client.yaml").code) == (0, 0), exported.stdout
    again = fivrec.diff()
    assert (again.code, again.one["changes"]) == (0, []), exported.stdout
    settings = fivrec.run(*words, "-o", "json").json["config"]["settings"]
    assert [settings[f"s{number:02}"] for number in range(len(HARD))] == list(HARD)
    from_text = yaml.safe_load(path.read_text())["config"]["settings"]  # another reader, and YAML 1.1
    assert from_text == settings


def test_settings_that_look_like_secrets_are_named(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    hook = "https://bot:hunter2@chat.example/"
    values = {"smtp_password": "hunter2", "webhook": hook, "api_key": "", "theme": "dark"}
    for name, value in values.items():
        run_sql(url, f"INSERT INTO settings (key, value) VALUES ('{name}', '{json.dumps(value)}')")
    exported = fivrec.run("export", "--database-url", url, "--instance", INSTANCE)
    said = [line.partition(" looks ")[0] for line in exported.stderr.splitlines() if "looks like a secret" in line]
    assert (exported.code, said) == (0, [f'{INSTANCE}: ⚠️ setting "{name}"' for name in ("smtp_password", "webhook")])
    assert "hunter2" not in exported.stderr


def test_an_app_made_instance_takes_its_plans_from_connect(fivrec: Fivrec, seed_database: Secret) -> None:
    run_sql(seed_database.reveal(), "UPDATE instance_config SET connect_api_url = 'https://connect.example.com'")
    words = ("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    exported = fivrec.run(*words, DATABASE_URL=seed_database.reveal())
    assert (exported.code, yaml.safe_load(exported.stdout)["plans"]) == (0, {"source": "connect"}), exported.stderr
    assert "usage reports are off" in exported.stderr


def test_an_app_without_its_config_row_takes_plans_from_connect(fivrec: Fivrec, seed_database: Secret) -> None:
    run_sql(seed_database.reveal(), "DELETE FROM instance_config; DELETE FROM plans")
    words = ("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE)
    exported = fivrec.run(*words, DATABASE_URL=seed_database.reveal())
    assert (exported.code, yaml.safe_load(exported.stdout)["plans"]) == (0, {"source": "connect"}), exported.stderr


def test_after_setup_export_takes_plans_from_connect(fivrec: Fivrec, absent_database: Secret) -> None:
    url = absent_database.reveal()
    words = ("--database-url", "env:DATABASE_URL", "--admin-email", "admin@empresa.com", "--company-name", "Empresa")
    options = ("--instance", INSTANCE, "--admin-password-env", "PW", "--environment", "development")
    done = fivrec.run("setup", *words, *options, DATABASE_URL=url, PW="senha-segura-123")
    assert done.code == 0, done.stderr
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE, DATABASE_URL=url)
    assert (exported.code, yaml.safe_load(exported.stdout)["plans"]) == (0, {"source": "connect"}), exported.stderr
    fivrec.write(exported.stdout, "client.yaml")
    applied = fivrec.run("apply", "client.yaml", "-o", "json", DATABASE_URL=url)
    made = {change["name"] for change in applied.one["changes"] if change["kind"] == "plan"}
    assert (applied.code, made) == (0, {"plan_starter", "plan_professional", "plan_enterprise"}), applied.stderr


def test_the_first_line_names_a_schema_that_is_there(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    files = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--all-databases", "--out", "exported")
    assert f"exported/{INSTANCE}.yaml" in files.stdout.split()
    first = (fivrec.folder / "exported" / f"{INSTANCE}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=manifest.v1.schema.json"
    schema = (fivrec.folder / "exported" / "manifest.v1.schema.json").read_text()
    assert schema == fivrec.run("schema").stdout


@pytest.mark.parametrize("name", ["../evil", "/ABS/evil", "..", "a\nb", "\x1b[31m"])
def test_a_databases_word_leads_to_no_file_outside_of_the_folder(fivrec: Fivrec, url: str, name: str) -> None:
    assert fivrec.apply().code == 0
    name = name.replace("/ABS", str(fivrec.folder))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE instance_config SET instance_id = %s", (name,))
    before = {path for path in fivrec.folder.rglob("*") if "exported" not in path.parts}
    words = ("export", "--database-url", "env:DATABASE_URL", "--all-databases", "--out", "exported", "-o", "json")
    ended = fivrec.run(*words)
    after = {path for path in fivrec.folder.rglob("*") if "exported" not in path.parts}
    assert (ended.code in (5, 65), after) == (True, before)
    assert name not in [one["instance"] for one in ended.json["files"]]
    said = f"{printable(name)}: ❌ no file is written for it: no file can have this name"
    assert said in ended.stderr.splitlines()


def test_the_files_are_one_json_document(fivrec: Fivrec) -> None:
    assert fivrec.apply().code == 0
    words = ("export", "--database-url", "env:DATABASE_URL", "--instance", INSTANCE, "--out", "exported", "-o", "json")
    document = fivrec.run(*words).json
    assert document == {
        "version": 1,
        "command": "export",
        "files": [{"instance": INSTANCE, "path": f"exported/{INSTANCE}.yaml"}],
    }
