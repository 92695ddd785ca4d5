"""`fivrec setup` refuses what no database would accept, before it creates one."""

from __future__ import annotations

import pytest

from tests.support.cli_process import fivrec

WORDS = {
    "--database-url": "postgresql://u:p@127.0.0.1:1/d",
    "--admin-email": "admin@empresa.com",
    "--admin-password-env": "PW",
    "--company-name": "Empresa",
    "--admin-name": "Ana",
}


def setup(option: str, value: str) -> tuple[int, str, str]:
    words = [word for pair in {**WORDS, option: value}.items() for word in pair]
    ended = fivrec("setup", *words, env={"PW": "senha-segura"})
    return ended.code, ended.stdout, ended.stderr


@pytest.mark.parametrize("option", ["--admin-email", "--company-name", "--admin-name"])
@pytest.mark.parametrize("odd", ["\udcff", "\x1b"])
def test_characters_that_cannot_be_stored_are_usage_errors(option: str, odd: str) -> None:
    said = f"error [usage]: {option} holds a character that cannot be stored\n  take it out\n"
    assert setup(option, f"x{odd}@empresa.com") == (64, "", said)


def test_an_invalid_database_url_is_reported_without_showing_it() -> None:
    code, _, stderr = setup("--database-url", "postgresql://u:hunter2\udcff@127.0.0.1/d")
    assert (code, "error [database_url]: the database URL is not UTF-8" in stderr) == (78, True)
    assert "hunter2" not in stderr
