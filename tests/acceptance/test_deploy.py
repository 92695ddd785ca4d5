"""docs/deploy.md: its procedure for an existing instance, command by command, on a database that the app made."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import psycopg

from reconciler.model.secret import Secret
from tests.support.harness import ROOT, Fivrec, rows

DEPLOY = ROOT / "docs" / "deploy.md"


def shell_blocks(heading: str) -> list[str]:
    """The shell blocks of one section."""
    section = DEPLOY.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def shell(fivrec: Fivrec, script: str) -> tuple[int, str]:
    """Run as a user types it; `fivrec` is this one."""
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
    assert code == 2, said  # diff is the last command, and there is something to do
    assert {"+ schema/", "~ config/"} <= set(re.findall(r"[+~] (?:schema|config)/", said)), said
    assert snapshot(url) == before
    early = fivrec.run("check", "clients/client-abc-123.yaml", "-o", "json")
    name = url.rpartition("/")[2]
    said = f"Instance not configured: fivrec was never applied to {name}, which the app made"
    assert (early.code, early.one["error"]["message"], snapshot(url)) == (1, said, before)
    code, said = shell(fivrec, f"set -e\n{applying}")
    assert code == 0, said
    after = snapshot(url)
    assert after["users"] == before["users"]
    assert set(before["plans"]) <= set(after["plans"])
    assert set(before["status_check_logs"]) < set(after["status_check_logs"])
    again = fivrec.run("diff", "clients/client-abc-123.yaml", "-o", "json")
    assert (again.code, again.one["changes"]) == (0, []), again.stdout
