"""Every command on a database whose app left odd values: one document of plain JSON, and never a crash."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import psycopg
import pytest

from tests.support.harness import INSTANCE, Fivrec, run_sql

ODD = {
    "a number without end": "1e999",
    "NUL": '{"a": "\\u0000"}',
    "half a surrogate pair": '["\\ud800"]',
    "1,200 levels": "[" * 1200 + "]" * 1200,
    "5,000 digits": "9" * 5000,
}
COLUMNS = (
    "UPDATE instance_config SET enabled_features = %s",
    "UPDATE settings SET value = %s WHERE key = 'locale'",
    "INSERT INTO settings (key, value) VALUES ('mine', %s)",
    "UPDATE plans SET features = %s WHERE id = 'plan_starter'",
    "UPDATE users SET custom_theme = %s",
    "ALTER TABLE queues ADD extra json DEFAULT %s",
)
TYPES = {
    "numbers": "ALTER TABLE plans ALTER price TYPE double precision; UPDATE plans SET price = 'NaN'",
    "times": "UPDATE instance_config SET last_status_check = 'infinity', created_at = '-infinity'",
    "old times": "UPDATE status_check_logs SET created_at = '0044-03-15 BC'",
    "late times": "UPDATE status_check_logs SET created_at = '20000-01-01'; UPDATE users SET created_at = 'infinity'",
    "enabled_features": "ALTER TABLE instance_config ALTER enabled_features DROP DEFAULT, "
    "ALTER enabled_features TYPE text USING 'chat'",
    "is_locked": "ALTER TABLE instance_config ALTER is_locked DROP DEFAULT, "
    "ALTER is_locked TYPE interval USING '1 day'",
    "response_time": "ALTER TABLE status_check_logs ALTER response_time TYPE numeric USING 'NaN'",
    "ids": "ALTER TABLE queues ALTER id DROP DEFAULT; UPDATE queues SET id = '\x01' || name",
}
COMMANDS = (
    ("diff",),
    ("check",),
    ("status",),
    ("logs",),
    ("history",),
    ("usage",),
    ("production-test",),
    ("apply",),
    ("apply", "--deep"),
    ("status",),
    ("key", "rotate"),
)


def plain(text: str) -> Any:
    def refuse(word: str) -> NoReturn:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def run_all(fivrec: Fivrec) -> dict[str, tuple[int, str | None]]:
    """Returns each command's exit code and error."""
    found = {}
    for command in COMMANDS:
        ended = fivrec.run(*command, "client.yaml", "-o", "json")
        assert "Traceback" not in ended.stderr, ended.stderr
        document = plain(ended.stdout)
        (one,) = document["instances"]
        code = (one.get("error") or {}).get("code")
        assert code != "internal", (command, one["error"])
        found[" ".join(command)] = (ended.code, code)
    report = fivrec.run("report", "client.yaml", "--out", "report.html")
    assert report.code in (0, 1, 5), report.stderr  # 5: read, but not compared as a whole
    exported = fivrec.run("export", "--database-url", "env:DATABASE_URL", "--instance", "client-abc-123")
    assert "internal" not in exported.stderr
    return found


@pytest.mark.parametrize("name", ODD)
def test_odd_json_stops_no_command(fivrec: Fivrec, url: str, name: str) -> None:
    assert fivrec.apply().code == 0
    for column in COLUMNS:
        run_sql(url, column.replace("%s", f"$json${ODD[name]}$json$"))
    found = run_all(fivrec)
    assert {command: error for command, (_, error) in found.items() if error} == {}
    assert (found["diff"][0], found["apply"][0], found["check"][0]) == (2, 0, 0)
    assert fivrec.run("diff", "client.yaml").code == 0


@pytest.mark.parametrize("name", TYPES)
def test_odd_types_and_times_end_in_a_foreseen_way(fivrec: Fivrec, url: str, name: str) -> None:
    assert fivrec.apply().code == 0
    run_sql(url, TYPES[name])
    for _, error in run_all(fivrec).values():
        assert error in (None, "column_type", "value_unfit", "not_converged")


def test_the_apps_instance_name_controls_no_terminal_or_pipeline(fivrec: Fivrec, url: str) -> None:
    assert fivrec.apply().code == 0
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE instance_config SET instance_id = %s", ("\x1b[31mx\n::error::x",))
    paths = ("client.yaml", "--color")
    for words in (
        ("apply", *paths),
        ("pull", *paths),
        ("production-test", *paths),
        ("key", "rotate", *paths),
        ("report", *paths, "--out", "page.html"),
        ("export", "--database-url", url, "--instance", INSTANCE, "--color"),
        ("export", "--database-url", url, "--all-databases", "--color"),
    ):
        ended = fivrec.run(*words)
        shown = ended.stdout + ended.stderr
        assert ended.code in ((1,) if words[0] == "report" else (3, 5, 65)), words
        assert "\x1b[31mx" not in shown, words
        assert [line for line in shown.splitlines() if line.lstrip().startswith("::")] == [], words
