"""`fivrec psql`: runs psql in one instance's database, with the password in no argument."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.support.harness import INSTANCE, Fivrec, manifest, rows

SHOW = r"""
import os, sys, json
print(json.dumps({"arguments": sys.argv[1:], "password": os.environ.get("PGPASSWORD")}))
"""


def _use_fake_psql(fivrec: Fivrec) -> None:
    """Install a psql that prints how it was called."""
    path = fivrec.write(f"#!/usr/bin/env python3\n{SHOW}", "bin/psql")
    path.chmod(0o755)
    fivrec.env["PATH"] = f"{path.parent}:{fivrec.environment({})['PATH']}"


def test_psql_reads_the_instances_database(fivrec: Fivrec) -> None:
    assert fivrec.apply("-q").code == 0
    ended = fivrec.run("psql", "client.yaml", "--", "-Atc", "SELECT name FROM queues ORDER BY 1")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "Sales\nTechnical Support\n", "")


def test_psqls_exit_code_and_stdin_are_passed_through(fivrec: Fivrec) -> None:
    assert fivrec.apply("-q").code == 0
    ended = fivrec.run("psql", "client.yaml", "--", "-v", "ON_ERROR_STOP=1", "-qAt", stdin="SELECT 1;\nSELECT nope;\n")
    assert (ended.code, ended.stdout) == (3, "1\n")


def test_the_password_is_in_no_argument_of_psql(fivrec: Fivrec) -> None:
    _use_fake_psql(fivrec)
    password = urlsplit(fivrec.env["DATABASE_URL"]).password
    assert password
    ended = fivrec.run("psql", "client.yaml", "--", "--help", "-x")
    (conninfo, *more), sent = ended.json["arguments"], ended.json["password"]
    assert (more, sent, password in conninfo) == (["--help", "-x"], password, False)
    assert f"dbname={urlsplit(fivrec.env['DATABASE_URL']).path[1:]}" in conninfo


def test_psql_opens_one_instance_of_a_fleet(fivrec: Fivrec) -> None:
    _use_fake_psql(fivrec)
    other = manifest("client-2", url="env: DATABASE_URL|env: OTHER_URL")
    fivrec.write(other, "other.yaml")
    fivrec.env["OTHER_URL"] = "postgresql://someone@127.0.0.1:1/other"
    refused = fivrec.run("psql", ".")
    assert refused.code == 64
    assert "choose one by --limit: client-abc-123, client-2" in refused.stderr
    chosen = fivrec.run("psql", ".", "-l", "client-2")
    assert "dbname=other" in chosen.json["arguments"][0]


def test_a_broken_manifest_stops_psql_and_is_reported_once(fivrec: Fivrec) -> None:
    ended = fivrec.run("psql", "client.yaml", "nope.yaml", "--", "-c", "SELECT 1")
    said = "error [manifest_invalid]: nope.yaml: cannot be read: no such file or directory (check the path)\n"
    assert (ended.code, ended.stdout, ended.stderr) == (65, "", said)


def test_psql_opens_the_embedded_database(bare: Fivrec) -> None:
    bare.write((Path(__file__).parents[2] / "manifests/client.yaml").read_text(encoding="utf-8"))
    before = bare.run("psql", "client.yaml", "--", "-c", "SELECT 1")
    assert (before.code, "was never made" in before.stderr) == (1, True)
    assert bare.run("apply", "client.yaml", "-q").code == 0
    ended = bare.run("psql", "client.yaml", "--", "-Atc", "SELECT current_database()")
    assert (ended.code, ended.stdout) == (0, "fivapp_client-abc-123\n")


def test_a_missing_psql_is_reported_with_what_to_install(fivrec: Fivrec) -> None:
    ended = fivrec.run("psql", "client.yaml", PATH="/nowhere")
    assert (ended.code, "error [psql_missing]: psql is not installed" in ended.stderr) == (78, True)


def test_an_emergency_unlock_stays_as_docs_operating_says(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply("-q").code == 0
    fivrec.connect_set("--status", "suspended")
    assert fivrec.run("check", "client.yaml", "-q").code == 6
    assert rows(url, "SELECT is_locked FROM instance_config") == [(True,)]
    ignore = f"ignore:\n  - {{field: status/{INSTANCE}/is_locked, until: 2999-12-31, reason: a mistake}}\n"
    fivrec.write(manifest() + ignore)
    unlock = f"UPDATE instance_config SET is_locked = false WHERE instance_id = '{INSTANCE}'"
    assert fivrec.run("psql", "client.yaml", "--", "-qc", unlock).code == 0
    assert (fivrec.run("check", "client.yaml", "-q").code, fivrec.apply("-q").code) == (6, 0)
    assert rows(url, "SELECT is_locked, status FROM instance_config") == [(False, "suspended")]
