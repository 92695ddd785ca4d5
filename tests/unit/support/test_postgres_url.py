"""What a database URL says, in both of libpq's forms, without a connection."""

from __future__ import annotations

import pytest

from reconciler.support.postgres_url import Identity, database_identity, form_problem, holds_password

IDENTITIES = {
    "postgresql://u:p@Host:5433/d?sslmode=require": Identity(("host",), ("5433",), "d"),
    "postgres://u@127.0.0.1/d": Identity(("localhost",), ("5432",), "d"),
    "postgresql://[::1]:5432/d": Identity(("localhost",), ("5432",), "d"),
    "postgresql://u@/d?host=/run/postgresql": Identity(("/run/postgresql",), ("5432",), "d"),
    "postgresql://a:1,b:2/d": Identity(("a", "b"), ("1", "2"), "d"),
    "postgresql://u%40x@h": Identity(("h",), ("5432",), "u@x"),
    "host=localhost dbname='d d' user=u": Identity(("localhost",), ("5432",), "d d"),
    "host = h port=5433 dbname=d\\ e": Identity(("h",), ("5433",), "d e"),
}


@pytest.mark.parametrize("url", IDENTITIES)
def test_means_a_database(url: str) -> None:
    assert (form_problem(url), database_identity(url)) == (None, IDENTITIES[url])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h/d",
        "postgresql://u@h/d?password=p",
        "postgresql://u@h/d?pass%77ord=p",
        "postgresql://u@h/d?sslpassword=p",
        "host=h password=p",
        "host=h password = 'p p'",
    ],
)
def test_holds_a_password(url: str) -> None:
    assert holds_password(url)


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgresql://u:@h/d", "host=h passfile=x", "embedded:", ""])
def test_holds_none(url: str) -> None:
    assert not holds_password(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "mysql://h/d",
        "postgresql://h:port/d",
        "host=h x",
        "host=h\n",
        "http://h?a=b",
        "postgresql://u:\udcff@h/d",
    ],
)
def test_is_no_database_url(url: str) -> None:
    assert form_problem(url) is not None


@pytest.mark.parametrize("url", ["embedded:", "embedded:some/folder"])
def test_the_embedded_server_has_no_identity(url: str) -> None:
    assert (form_problem(url), database_identity(url)) == (None, None)
