"""A database left by fivrec 0.1 is read, checked and upgraded by this version, without a row changing on the way."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from psycopg import errors

from reconciler.database.schema import latest_version
from reconciler.model.secret import Secret
from tests.support.harness import ROOT, Ended, Fivrec, rows
from tests.support.postgres_server import find_program

SETUP_SCRIPT = ROOT / "sql" / "database-setup-script.sql"
LEFT_BY_0_1 = ROOT / "tests" / "fixtures" / "database-0.1.sql"
QUEUES = "queues: [{name: Sales}, {name: Technical Support}]\n"
MANIFEST = f"""\
version: 1
instance: client-abc-123
database: {{url: {{env: DATABASE_URL}}}}
environment: production
config:
  connect_api_url: "embedded:"
  instance_key: {{env: KEY}}
  company_name: Nome da Empresa
  settings: {{locale: pt-BR}}
admin: {{name: Administrador, email: admin@empresa.com, password: {{env: PASSWORD}}}}
{QUEUES}plans: {{source: connect}}
"""
UPGRADE = [("schema", "fivrec", "update", "intent")]
LOCKED = "SELECT status, is_locked FROM instance_config"
APP_ROWS = "SELECT (SELECT json_agg(q ORDER BY name) FROM queues q), (SELECT json_agg(u) FROM users u)"


@pytest.fixture
def old(bare: Fivrec, database: Secret) -> Fivrec:
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        conn.execute(LEFT_BY_0_1.read_text())
    bare.env |= {
        "DATABASE_URL": database.reveal(),
        "FIVREC_ENCRYPTION_KEY": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
        "KEY": "key-of-the-test",
        "PASSWORD": "senha-123",
        "FIVREC_APPLY_ALLOW_EMBEDDED": "1",
        "FIVREC_CHECK_ALLOW_EMBEDDED": "1",
        "FIVREC_DIFF_ALLOW_EMBEDDED": "1",
    }
    bare.write(MANIFEST)
    return bare


def _suspend(old: Fivrec) -> None:
    assert old.run("connect", "set", "client-abc-123", "--key-env", "KEY", "--status", "suspended").code == 0


def _check(old: Fivrec) -> Ended:
    return old.run("check", "client.yaml", "-o", "json")


def test_the_upgrade_is_one_change_and_the_next_apply_none(old: Fivrec) -> None:
    url = old.env["DATABASE_URL"]
    before = rows(url, APP_ROWS)
    planned = old.diff()
    assert (planned.code, planned.changes()) == (2, UPGRADE)
    (version,) = planned.one["changes"][0]["fields"]
    assert (version["before"], version["after"]) == (8, latest_version())
    done = old.apply()
    assert (done.code, done.changes()) == (0, UPGRADE)
    assert (old.apply().changes(), old.diff("--deep").code) == ([], 0)
    assert rows(url, APP_ROWS) == before
    verified = old.run("history", "client.yaml", "--verify")
    assert verified.code == 0
    assert "signatures begin at entry 13" in verified.stdout


def test_a_log_of_0_1_that_the_setup_script_migrated_is_accepted(old: Fivrec) -> None:
    """Its instance key is sealed, and there is no audit key: nothing was removed."""
    psql = find_program("psql") or "psql"
    words = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(SETUP_SCRIPT), old.env["DATABASE_URL"]]
    subprocess.run([psql, *words], check=True)
    done = old.apply()
    assert (done.code, done.changes()) == (0, [])
    assert "if only the setup script brought it up to date, that is right" in done.stderr
    verified = old.run("history", "client.yaml", "--verify")
    assert verified.code == 0
    assert "signatures begin at entry 13" in verified.stdout
    assert "audit key" not in old.apply().stderr


def test_what_0_1_applied_is_never_switched_off(old: Fivrec) -> None:
    old.write(MANIFEST.replace(", {name: Technical Support}", ""))
    done = old.apply()
    assert (done.code, done.changes()) == (0, UPGRADE)
    assert [(item["kind"], item["name"]) for item in done.one["former"]] == [("queue", "Technical Support")]
    assert rows(old.env["DATABASE_URL"], "SELECT count(*) FROM queues WHERE is_active") == [(2,)]


def test_a_check_locks_and_unlocks_before_the_upgrade(old: Fivrec) -> None:
    _suspend(old)
    locked = _check(old)
    assert (locked.code, rows(old.env["DATABASE_URL"], LOCKED)) == (6, [("suspended", True)])
    assert "recorded, but not in the audit log" in locked.stderr
    assert old.run("connect", "set", "client-abc-123", "--status", "active").code == 0
    assert (_check(old).code, rows(old.env["DATABASE_URL"], LOCKED)) == (0, [("active", False)])
    logged = "SELECT count(*) FROM status_check_logs WHERE success AND check_type = 'manual'"
    assert rows(old.env["DATABASE_URL"], logged) == [(3,)]


def test_an_apply_of_a_suspended_one_upgrades_and_locks(old: Fivrec) -> None:
    _suspend(old)
    done = old.apply()
    assert (done.code, done.changes()) == (0, [*UPGRADE, ("status", "client-abc-123", "update", "intent")])
    assert rows(old.env["DATABASE_URL"], LOCKED) == [("suspended", True)]


def test_0_1_can_not_migrate_it_back(old: Fivrec) -> None:
    assert old.apply().code == 0
    script = LEFT_BY_0_1.read_text().split("INSERT INTO public.")[0]
    with psycopg.connect(old.env["DATABASE_URL"]) as conn, pytest.raises(errors.CheckViolation, match="not_by_0_1"):
        conn.execute(script)
    assert (old.diff("--deep").code, old.diff().changes()) == (0, [])


def test_0_1_can_not_record_its_refusal_in_a_signed_log(old: Fivrec) -> None:
    """Its entry would have no signature, and the log would never verify again."""
    assert old.apply().code == 0
    names = "run_id, at, actor, manifest_digest, instance, environment, kind, name, action, cause, source, fields"
    another = f"SELECT 99, 'another', {names}, prev_hash, 'another' FROM fivrec.audit_log WHERE seq = 1"
    with psycopg.connect(old.env["DATABASE_URL"]) as conn, pytest.raises(errors.CheckViolation, match="not_by_0_1"):
        conn.execute(f"INSERT INTO fivrec.audit_log (seq, id, {names}, prev_hash, hash) {another}".encode())


@pytest.mark.parametrize("words", [("status",), ("logs",), ("history",), ("history", "--verify"), ("usage",)])
def test_what_reads_says_that_the_schema_is_old(old: Fivrec, words: tuple[str, ...]) -> None:
    read = old.run(words[0], "client.yaml", *words[1:])
    assert read.code == 0
    said = f"⚠️ an older fivrec migrated this database to schema 8 of {latest_version()}: run `fivrec apply` once"
    assert [line for line in read.stderr.splitlines() if "older" in line] == [f"client-abc-123: {said}"]


READING = [
    *(("status",), ("status", "--problems"), ("logs",), ("history",), ("history", "--verify"), ("usage",), ("diff",)),
    *(("drift",), ("pull",), ("report", "--out", "page.html")),
    ("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123"),
]
WRITING = [
    *(("apply",), ("check",), ("key", "rotate"), ("usage", "--send"), ("production-test",)),
    ("purge", "--environment", "development", "--yes"),
]


@pytest.fixture
def newer(old: Fivrec) -> Fivrec:
    """A database migrated by some future fivrec."""
    for name in ("DRIFT", "PULL", "REPORT", "USAGE", "PRODUCTION_TEST", "KEY_ROTATE"):
        old.env[f"FIVREC_{name}_ALLOW_EMBEDDED"] = "1"
    assert old.apply().code == 0
    recorded = (
        "INSERT INTO fivrec.migrations (version, name, checksum, app_schema) VALUES (99, 'future', 'abc', 'public')"
    )
    with psycopg.connect(old.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute(recorded.encode())
    return old


def test_what_reads_warns_of_a_newer_schema_what_writes_refuses(newer: Fivrec) -> None:
    url = newer.env["DATABASE_URL"]
    records = "SELECT (SELECT count(*) FROM fivrec.audit_log), (SELECT count(*) FROM status_check_logs)"
    before = rows(url, records)
    said = "a newer fivrec migrated this database to schema 99"
    for words in READING:
        ended = newer.run(*_on_the_manifest(words))
        assert (ended.code, said in ended.stdout + ended.stderr) == (0, True), words
    for words in WRITING:
        ended = newer.run(*_on_the_manifest(words))
        assert (ended.code, "schema_newer" in ended.stdout + ended.stderr) == (1, True), words
    assert rows(url, records) == before


def _on_the_manifest(words: tuple[str, ...]) -> tuple[str, ...]:
    if words[0] == "export":
        return words
    place = 2 if words[0] == "key" else 1
    return (*words[:place], "client.yaml", *words[place:])
