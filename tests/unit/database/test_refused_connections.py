"""libpq's messages about a failed connection, translated into ours."""

from __future__ import annotations

import psycopg
import pytest

from reconciler.database.refused_connections import connect_error


@pytest.mark.parametrize(
    ("said", "words", "do"),
    [
        ("SSL error: certificate verify failed", "is not trusted, or has expired", "clock"),
        ('server certificate for "a.example" does not match host name "b.example"', "for another name", "host"),
        ("server does not support SSL, but SSL was required", "no TLS connection could be made", "ssl = on"),
    ],
)
def test_problems_with_a_servers_certificate_are_named(said: str, words: str, do: str) -> None:
    error = connect_error(psycopg.OperationalError(f"connection failed: {said}"), "database d on h:5432", "u")
    assert (error.code, words in error.message, do in error.hint) == ("database_tls", True, True)


def test_a_server_whose_disk_is_full_says_so_at_the_door_too() -> None:
    said = psycopg.OperationalError('connection to server at "h", port 5432 failed: FATAL:  could not write init file')
    error = connect_error(said, "database d on h:5432", "u")
    assert (error.code, error.hint) == ("disk_full", "make room there, then run again")
    assert "could not write init file" in error.message


@pytest.mark.parametrize(
    "said", ["local user with ID 1000650000 does not exist", "could not look up local user ID 1000650000: Success"]
)
def test_a_user_without_a_name_needs_one_in_the_url(said: str) -> None:
    """A container under a random uid: the server was never contacted."""
    error = connect_error(psycopg.OperationalError(f"connection is bad: {said}"), "database d on h:5432", "u")
    assert (error.code, error.hint) == ("database_url", "name one in the database URL, or by PGUSER")
