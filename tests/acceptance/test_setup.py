"""`setup` on an existing instance: its answer is true."""

from __future__ import annotations

import json

import pytest

from reconciler.model.secret import Secret
from tests.support.harness import INSTANCE, Ended, Fivrec, manifest, rows, run_sql

EMAIL = "admin@empresa.com"
FIRST, OTHER = "senha-segura-123", "outra-senha-456"


@pytest.fixture
def url(absent_database: Secret) -> str:
    """A database that setup is to create."""
    return absent_database.reveal()


def setup(bare: Fivrec, url: str, password: str, *more: str) -> Ended:
    words = ("--database-url", "env:DATABASE_URL", "--admin-email", EMAIL, "--company-name", "Empresa")
    return bare.run("setup", *words, "--admin-password-env", "PW", *more, DATABASE_URL=url, PW=password)


def answered(ended: Ended) -> tuple[int, bool, str | None, bool]:
    """Returns the code, success, the answer's password, and whether stderr warns of another one."""
    assert FIRST not in ended.stderr
    assert OTHER not in ended.stderr
    credentials = ended.json["adminCredentials"]
    return ended.code, ended.json["success"], credentials["password"], "another password" in ended.stderr


def test_the_answers_password_is_the_administrators_or_null(bare: Fivrec, url: str) -> None:
    assert answered(setup(bare, url, FIRST, "--show-password")) == (0, True, FIRST, False)
    ((stored,),) = rows(url, "SELECT password FROM users")
    again = setup(bare, url, OTHER, "--show-password")
    assert answered(again) == (0, True, None, True)
    assert "⚠️" in again.stderr
    assert "update_password: always" in again.stderr
    assert answered(setup(bare, url, FIRST, "--show-password")) == (0, True, FIRST, False)
    assert rows(url, "SELECT password FROM users") == [(stored,)]


@pytest.mark.parametrize("words", [(), ("--log-format", "json")])
def test_an_unset_password_is_reported_without_show_password(bare: Fivrec, url: str, words: tuple[str, ...]) -> None:
    setup(bare, url, FIRST)
    again = setup(bare, url, OTHER, *words)
    assert answered(again) == (0, True, None, True)
    if words:
        warned = [event for event in map(json.loads, again.stderr.splitlines()) if event["level"] == "warning"]
        assert [event["operation"] for event in warned] == ["setup"]


def test_a_guards_hint_names_no_option_that_setup_lacks(bare: Fivrec, url: str) -> None:
    assert setup(bare, url, FIRST, "--environment", "development").code == 0
    refused = setup(bare, url, FIRST, "--environment", "production")
    assert (refused.code, refused.json["success"]) == (3, False)
    assert refused.stderr.splitlines()[-1].strip() == (
        "setup has no --accept: keep what is there (--environment), or write a manifest and apply that (fivrec export)"
    )


def test_rows_that_are_there_stay_as_they_are(bare: Fivrec, url: str) -> None:
    setup(bare, url, FIRST)
    run_sql(url, "UPDATE queues SET description = 'Vendas'; UPDATE queues SET is_active = false WHERE name = 'Sales'")
    run_sql(url, "UPDATE users SET name = 'Ana'")
    shown = "SELECT name, description, is_active FROM queues ORDER BY 1"
    again = setup(bare, url, FIRST)
    assert "📋 Default queues are in place" in again.stderr
    assert rows(url, shown) == [("Sales", "Vendas", False), ("Technical Support", "Vendas", True)]
    assert rows(url, "SELECT name FROM users") == [("Ana",)]
    made = rows(url, "SELECT fields FROM fivrec.applied WHERE kind = 'queue' AND name = 'Sales'")
    assert made == [({"description": None, "is_active": True},)]  # as the first run created it


@pytest.mark.parametrize("named", [(), ("--instance", INSTANCE)])
def test_status_shows_that_setup_ran(bare: Fivrec, url: str, named: tuple[str, ...]) -> None:
    """Nothing is configured yet: `setup` makes no row of instance_config."""
    assert setup(bare, url, FIRST, "--actor", "ana", *named).code == 0
    bare.write(manifest())
    ended = bare.run("status", "client.yaml", "-o", "json", DATABASE_URL=url)
    said, run = ended.one, ended.one["last_run"]
    assert (ended.code, said["configured"], said["status"], said["is_locked"]) == (0, False, "unknown", None)
    assert [run[name] for name in ("command", "actor", "outcome")] == ["setup", "ana", "changed"]
    text = bare.run("status", "client.yaml", "--problems", DATABASE_URL=url).stdout
    assert [words in text for words in ("not configured", "setup by ana: changed")] == [True, True]
