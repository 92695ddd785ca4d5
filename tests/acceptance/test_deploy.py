"""docs/deploy.md and docs/going-live.md, command by command, on databases that are new or made by the app."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg

from reconciler.model.secret import Secret
from tests.support.harness import PASSWORD, ROOT, Fivrec, manifest, rows, run_sql

DEPLOY, GOING_LIVE = ROOT / "docs" / "deploy.md", ROOT / "docs" / "going-live.md"


def shell_blocks(heading: str, page: Path = DEPLOY) -> list[str]:
    """Returns the shell blocks of one section."""
    section = page.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def shell(fivrec: Fivrec, script: str) -> tuple[int, str]:
    """Run the script as a user types it, with this version as `fivrec`."""
    folder = fivrec.folder / "bin"
    folder.mkdir(exist_ok=True)
    shim = folder / "fivrec"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m reconciler "$@"\n')
    shim.chmod(0o755)
    environment = fivrec.environment({})
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=fivrec.folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_drill_runs_as_written_and_touches_nothing_else(fivrec: Fivrec) -> None:
    (drill,) = shell_blocks("A drill first")
    code, said = shell(fivrec, drill.replace("  # ends with", '; echo "ended: $?"  # ends with'))
    assert (code, re.findall(r"^ended: (\d)$", said, re.MULTILINE)) == (0, ["6", "0"]), said
    assert not (fivrec.folder / ".fivrec").exists()
    absent = fivrec.diff()
    assert ("database", "create") in [(kind, action) for kind, _, action, _ in absent.changes()]


APP_ROWS = ("users", "plans", "instance_config", "status_check_logs")


def snapshot(url: str) -> dict[str, list[tuple[object, ...]]]:
    columns = {
        "instance_config": "instance_id, connect_api_url, check_interval_minutes",
        "users": "id, email, password, role",
    }
    return {name: rows(url, f"SELECT {columns.get(name, 'id')} FROM {name} ORDER BY 1") for name in APP_ROWS}


def test_the_procedure_for_an_existing_instance_ends_in_sync(fivrec: Fivrec, seed_database: Secret) -> None:
    url = seed_database.reveal()
    fivrec.env["DATABASE_URL"] = url
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE instance_config SET connect_api_url = %s", (fivrec.env["FIV_APP_API_URL"],))
    before = snapshot(url)
    exporting, applying = shell_blocks("An existing instance")
    assert [line.split()[0] for line in exporting.splitlines()] == ["mkdir", "fivrec", "fivrec"]
    code, said = shell(fivrec, exporting)
    assert code == 2, said  # diff is the last command, and finds changes
    assert {"+ schema/", "~ config/"} <= set(re.findall(r"[+~] (?:schema|config)/", said)), said
    assert snapshot(url) == before
    early = fivrec.run("check", "clients/client-abc-123.yaml", "-o", "json")
    name = url.rpartition("/")[2]
    said = f'Instance not configured: "client-abc-123" was never applied to {name}, whose row is'
    assert (early.code, early.one["error"]["message"][: len(said)]) == (1, said)
    code, said = shell(fivrec, f"set -e\n{applying}")
    assert code == 0, said
    after = snapshot(url)
    assert after["users"] == before["users"]
    assert set(before["plans"]) <= set(after["plans"])
    assert set(before["status_check_logs"]) < set(after["status_check_logs"])
    again = fivrec.run("diff", "clients/client-abc-123.yaml", "-o", "json")
    assert (again.code, again.one["changes"]) == (0, []), again.stdout


def test_the_key_is_made_once_and_never_overwritten(fivrec: Fivrec) -> None:
    (made,) = shell_blocks("Once, before the first instance")
    folder = fivrec.folder / "repository"
    folder.mkdir()
    script = f"cd repository\n{made}"
    assert shell(fivrec, script)[0] == 0
    key = (fivrec.folder / "fivrec.key").read_text()
    assert (len(key.strip()), (fivrec.folder / "fivrec.key").stat().st_mode & 0o777) == (44, 0o600)
    assert "cannot overwrite" in shell(fivrec, script)[1]
    assert (fivrec.folder / "fivrec.key").read_text() == key


def test_the_procedure_for_a_new_instance_runs_as_written(fivrec: Fivrec, url: str) -> None:
    fivrec.env["NODE_ENV"] = "production"
    exported, written, holds, second, _ = shell_blocks("A new instance")
    assert {*re.findall(r"export (\w+)", exported)} <= fivrec.env.keys()
    codes = written.replace("\n", '; echo "ended: $?"\n')
    code, said = shell(fivrec, codes)
    assert re.findall(r"^ended: (\d+)$", said, re.MULTILINE) == ["0", "0", "2", "0"], said
    code, said = shell(fivrec, f"git init -q .\nset -e\n{holds}")
    assert (code, "client-abc-123  production   active  paid" in said) == (0, True), said
    assert rows(url, "SELECT email, role, environment FROM users") == [("admin@empresa.com", "admin", "production")]
    assert shell(fivrec, second)[0] == 0
    other = (fivrec.folder / "clients/client-def-456.yaml").read_text()
    for name in ("DATABASE_URL_CLIENT_DEF_456", "FIV_APP_API_KEY_CLIENT_DEF_456"):
        assert name in other


def test_an_instance_made_by_setup_can_be_exported(fivrec: Fivrec, url: str) -> None:
    *_, in_one_go = shell_blocks("A new instance")
    script = in_one_go.replace("fivrec setup", "fivrec setup --show-password")
    code, said = shell(fivrec, script)
    assert (code, f'"password": "{PASSWORD}"' in said) == (0, True), said
    fivrec.env["FIV_ADMIN_PASSWORD"] = "another-password"
    code, said = shell(fivrec, script)
    assert (code, '"password": null' in said, "⚠️" in said) == (0, True, True), said
    fivrec.env["FIV_ADMIN_PASSWORD"] = PASSWORD
    kept = rows(url, "SELECT id, email, password, environment FROM users")
    exporting, applying = shell_blocks("An existing instance")
    assert shell(fivrec, exporting)[0] == 2  # diff is the last command: Connect is not configured yet
    code, said = shell(fivrec, f"set -e\n{applying}")
    assert (code, rows(url, "SELECT id, email, password, environment FROM users")) == (0, kept), said
    again = fivrec.run("diff", "clients/client-abc-123.yaml", "--strict")
    assert again.code == 0, again.stdout


def test_going_live_goes_as_its_page_says(fivrec: Fivrec, url: str) -> None:
    before = manifest(a="environment: production|environment: development")
    fivrec.write(before, "clients/client-abc-123.yaml")
    assert shell(fivrec, "fivrec apply clients/client-abc-123.yaml")[0] == 0
    run_sql(url, "INSERT INTO clients (name, environment) VALUES ('test', 'development')")
    (rehearse,), (look,), (apply,), (purge,) = (
        shell_blocks(heading, GOING_LIVE)
        for heading in ("Rehearse", "Say production", "Apply", "Remove the test data later")
    )
    assert shell(fivrec, rehearse)[0] == 0
    fivrec.write(manifest(), "clients/client-abc-123.yaml")
    code, said = shell(fivrec, look)
    accept = re.search(r"--accept (\w+)", said)
    assert (code, accept is not None) == (2, True), said
    assert accept is not None
    code, said = shell(fivrec, "set -e\n" + re.sub(r"--accept \w+", accept[0], apply))
    assert (code, "client-abc-123  production   active" in said) == (0, True), said
    assert rows(url, "SELECT count(*) FROM clients") == [(1,)]
    code, said = shell(fivrec, purge.replace("purge", "purge --yes"))
    assert (code, rows(url, "SELECT count(*) FROM clients")) == (0, [(0,)]), said


def test_own_servers_go_as_the_readme_says(fivrec: Fivrec, url: str) -> None:
    page, heading = ROOT / "README.md", "Your own PostgreSQL and Connect"
    (script,) = shell_blocks(heading, page)
    exported = re.findall(r"(\w+)=", "".join(line for line in script.splitlines() if line.startswith("export ")))
    shown = re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1], re.DOTALL)
    fivrec.write((ROOT / "manifests/client.yaml").read_text(encoding="utf-8"), "manifests/client.yaml")
    del fivrec.env["FIVREC_ENCRYPTION_KEY"]
    fivrec.env |= {"NODE_ENV": "production", "FIVREC_ENCRYPTION_KEY_FILE": "fivrec.key"}
    assert set(exported) - {"sslmode"} == {*fivrec.env} - {"SSL_CERT_FILE"}
    written = "".join(f"{line}\n" for line in script.splitlines() if not line.startswith("export "))
    written = written.replace(".venv/bin/", "")
    code, said = shell(fivrec, written)
    assert (code, "\nin sync\n" in said) == (0, False), said
    assert rows(url, "SELECT email, environment FROM users") == [("admin@empresa.com", "production")]
    (looked,) = (line for line in written.splitlines() if "fivrec diff" in line)
    code, said = shell(fivrec, looked)
    assert (code, said.endswith("\nin sync\n")) == (0, True), said
    missing = {"DATABASE_URL": None, "FIV_APP_API_KEY": None}
    assert fivrec.run("apply", "manifests/client.yaml", **missing).stderr == shown[0]
