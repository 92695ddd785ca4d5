"""All missing settings are named at once, with one hint that says each thing once: exit 78."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.support.cli_process import fivrec

MANIFEST = """\
version: 1
instance: a
environment: {env: NODE_ENV}
database: {url: {env: DATABASE_URL}}
admin: {email: a@b.c}
config: {connect_api_url: 'embedded:'}
"""
MISSING = """\
a: environment: the variable NODE_ENV is not set
a: database.url: the variable DATABASE_URL is not set
a: config.connect_api_url: production does not use "embedded:"
a: config.instance_key: the variable FIV_APP_API_KEY is not set
a: admin.password: the variable FIV_ADMIN_PASSWORD is not set
no encryption key: neither FIVREC_ENCRYPTION_KEY nor FIVREC_ENCRYPTION_KEY_FILE is set"""
HINT = (
    "set what is missing, or give the reference a default, or give --allow-embedded, or add generate: true; "
    "set the key that fivrec had before (if it is lost: `fivrec docs keys`); before the first apply make one with "
    "`fivrec key generate` and keep it where only fivrec reads it"
)
KEY = base64.urlsafe_b64encode(bytes(32)).decode()


def error(tmp_path: Path, text: str, **env: str) -> dict[str, str]:
    (tmp_path / "m.yaml").write_text(text)
    ended = fivrec("apply", "m.yaml", "-o", "json", cwd=tmp_path, env=env)
    found: dict[str, str] = json.loads(ended.stdout)["error"]
    assert (ended.code, found["code"]) == (78, "missing_setting")
    return found


def test_all_missing_settings_are_named_with_the_encryption_key(tmp_path: Path) -> None:
    found = error(tmp_path, MANIFEST)
    assert (found["message"], found["hint"]) == (MISSING, HINT)


def test_no_key_is_asked_for_if_all_databases_are_embedded(tmp_path: Path) -> None:
    text = "version: 1\ninstance: a\nenvironment: {file: e.txt}\ndatabase: {url: 'embedded:'}\n"
    found = error(tmp_path, text, FIV_APP_API_KEY="k", FIV_APP_API_URL="https://c.example")
    assert found["message"] == "a: environment: the file e.txt is not there, or empty"


FLEET = """\
version: 1
defaults:
  environment: development
  database: {url: {env: "DB_{{ instance }}"}}
  config: {connect_api_url: 'embedded:'}
instances: {csv: clients.csv}
"""


def test_missing_settings_have_their_row_and_place(tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text("instance\none\ntwo\n")
    found = error(tmp_path, FLEET, DB_one="embedded:", FIV_APP_API_KEY="k")
    assert found["message"].splitlines()[0] == "two (clients.csv:3): database.url: the variable DB_two is not set"
    assert found["problems"] == [
        {
            "path": "m.yaml",
            "line": 4,
            "column": 19,
            "message": "database.url: the variable DB_two is not set",
            "hint": "set what is missing",
            "instance": "two",
            "row": "clients.csv:3",
            "value": "",
        }
    ]


def test_a_key_that_is_there_is_not_missed(tmp_path: Path) -> None:
    found = error(tmp_path, MANIFEST, FIVREC_ENCRYPTION_KEY=KEY)
    assert found["message"] == MISSING.rpartition("\n")[0]


def test_a_malformed_key_is_reported_with_the_rest(tmp_path: Path) -> None:
    found = error(tmp_path, MANIFEST, FIVREC_ENCRYPTION_KEY="hunter2")
    assert found["message"].splitlines()[-1] == "FIVREC_ENCRYPTION_KEY: key 1 is not base64url of 32 bytes"
    assert "hunter2" not in json.dumps(found)


def test_of_embedded_databases_no_key_is_missed(tmp_path: Path) -> None:
    text = MANIFEST.replace("{env: DATABASE_URL}", "'embedded:'").replace("{env: NODE_ENV}", "development")
    found = error(tmp_path, text, FIV_APP_API_KEY="x")
    assert found["message"] == "a: admin.password: the variable FIV_ADMIN_PASSWORD is not set"


def test_a_key_file_that_others_may_read_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "version: 1\ninstance: a\ndatabase: {url: {env: DATABASE_URL}}\n", encoding="utf-8"
    )
    (tmp_path / "keys").write_text("A" * 43, encoding="ascii")
    (tmp_path / "keys").chmod(0o644)
    env = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "FIVREC_ENCRYPTION_KEY_FILE": "keys"}
    ended = fivrec("status", "m.yaml", "-o", "json", env=env, cwd=tmp_path)
    said = "⚠️ the encryption keys in keys can be read by other users: chmod 600 keys\n"
    assert (ended.code, ended.stderr) == (1, said)
    (tmp_path / "keys").chmod(0o600)
    assert fivrec("status", "m.yaml", "-o", "json", env=env, cwd=tmp_path).stderr == ""
