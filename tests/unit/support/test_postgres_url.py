"""What libpq's parser finds in a database URL of either form, without a connection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from psycopg import pq

from reconciler.support.postgres_url import (
    Identity,
    database_identity,
    environment_problem,
    form_problem,
    holds_password,
    instance_problem,
    one_environment,
)

since_libpq_18 = pytest.mark.skipif(pq.version() < 180_000, reason="this libpq refuses the parameter")

IDENTITIES = {
    "postgresql://u:p@Host:5433/d?sslmode=require": Identity(("host",), ("5433",), "d"),
    "postgres://u@127.0.0.1/d": Identity(("127.0.0.1",), ("5432",), "d"),
    "postgresql://[::1]:5432/d": Identity(("127.0.0.1",), ("5432",), "d"),
    "postgresql://[2001:DB8:0::1]/d": Identity(("2001:db8::1",), ("5432",), "d"),
    "postgresql://u@db.example.com./d": Identity(("db.example.com",), ("5432",), "d"),
    "postgresql://u@/d?host=/nowhere/postgresql": Identity(("/nowhere/postgresql",), ("5432",), "d"),
    "postgresql://a:1,b:2/d": Identity(("a", "b"), ("1", "2"), "d"),
    "postgresql://a,b/d?port=6432": Identity(("a", "b"), ("6432", "6432"), "d"),
    "postgresql://u%40x@h": Identity(("h",), ("5432",), "u@x"),
    "postgresql:///d?user=me@tenant&host=h": Identity(("h",), ("5432",), "d"),
    "host=localhost dbname='d d' user=u": Identity(("127.0.0.1",), ("5432",), "d d"),
    "host = h port=5433 dbname=d\\ e": Identity(("h",), ("5433",), "d e"),
}
VARIABLES = ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSSLMODE", "PGSERVICE", "PGHOSTADDR", "PGTARGETSESSIONATTRS")


@pytest.fixture(autouse=True)
def no_libpq_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("url", IDENTITIES)
def test_means_a_database(url: str) -> None:
    assert (form_problem(url), database_identity(url)) == (None, IDENTITIES[url])


@pytest.mark.parametrize(
    ("variables", "one", "other"),
    [
        ({"PGHOST": "localhost"}, "postgresql://u@localhost/app", "postgresql://u@/app"),
        ({"PGPORT": "6432"}, "postgresql://u@h:6432/app", "host=h dbname=app"),
        ({"PGUSER": "app"}, "postgresql://u@h/app", "postgresql://h"),
        ({"PGDATABASE": "app"}, "postgresql://u@h/app", "postgresql://u@h"),
        ({"PGHOSTADDR": "::1"}, "postgresql://localhost/app", "postgresql://u@h/app"),
    ],
)
def test_variables_make_two_urls_one_database(
    variables: dict[str, str], one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_identity(one) != database_identity(other)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert database_identity(one) == database_identity(other)


def test_a_service_and_a_url_can_be_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "services").write_text("[far]\nhost=db.example.com\nport=5433\ndbname=app\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert database_identity("service=far") == database_identity("postgresql://u@DB.example.com:5433/app")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h/d",
        "postgresql://u@h/d?password=p",
        "postgresql://u@h/d?pass%77ord=p",
        "postgresql://u@h/d?sslpassword=p",
        pytest.param("postgresql://u@h/d?oauth_client_secret=p", marks=since_libpq_18),
        pytest.param("postgresql://u@h/d?scram_client_key=p", marks=since_libpq_18),
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
        "postgresql+psycopg://h/d",
        "postgresql://h:port/d",
        "host=h x",
        "host=h\n",
        "http://h?a=b",
        "postgresql://u:\udcff@h/d",
        "postgresql://u@h/d?sslkeylogfile=keys.log",
        "postgresql://u@h/d?sslkey=/proc/self/cwd/engine.so:1",
        "postgresql://u@h/d?sslkey=..%2Fengine.so:1",
        "dbname=postgresql://u:p@h/d",
        "host=u:p@h dbname=d",
    ],
)
def test_is_no_database_url(url: str) -> None:
    assert form_problem(url) is not None
    assert database_identity(url) is None or "SEKRET" not in str(database_identity(url))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://fiv:Pa55@SEKRET@db.example:5432/x",
        "postgres://fiv:Pa55@SEKRET@db.example",
        "postgresql://fiv:Pa55@@SEKRET/x",
        "postgresql://fiv:Pa55/SEKRET@db.example:5432/x",
        "postgresql://fiv:55/SEKRET@db.example:5432/x",
        "postgresql://fiv:Pa55@SEK/RET@db.example/x",
        "postgresql://a.example,fiv:Pa55@SEKRET@db.example/x",
        "postgresql://SEKRET?host=db@db.example/x",
        "postgresql://fiv:SEKRET",
        "postgresql://fiv:55?word=SEKRET/55@db.example/x",
        "host=db@SEKRET@x dbname=d",
    ],
)
def test_a_url_read_otherwise_than_it_looks_is_refused(url: str) -> None:
    said = form_problem(url)
    assert said is not None
    assert not any(part in said for part in ("SEK", "RET", "Pa55", "fiv", "db.example"))


@pytest.mark.parametrize("url", ["postgresql:///d?user=me@tenant", "postgresql://u:p%40x@h/d?user=me@tenant"])
def test_an_at_among_the_parameters_is_one(url: str) -> None:
    assert form_problem(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@h/d?sslmode=on", 'has sslmode "on", which is not one of disable, allow, prefer, require, '),
        ("postgresql://u@h:99999/d", 'has port "99999", which is not a port: 1 to 65535'),
        ("postgresql://u@h:0/d", 'has port "0", which is not a port: 1 to 65535'),
        (
            "postgresql://u@h/d?target_session_attrs=leader",
            'has target_session_attrs "leader", which is not one of any, ',
        ),
        ("postgresql://u@h/d?connect_timeout=Pa55", "has connect_timeout, which is not a whole number"),
        ("postgresql://u@h/d?sslmode=Pa55", "has sslmode, which is not one of disable, allow, prefer, require, "),
        ("postgresql://u@h/d?connect_timeout=2.5", 'has connect_timeout "2.5", which is not a whole number'),
        ("postgresql://u@h/d?channel_binding=yes", 'has channel_binding "yes", which is not one of disable, '),
        ("postgresql://u@h/d?replication=database", 'has replication "database", which is not one of false, '),
        ("postgresql://u@h/d?hostaddr=db", "has hostaddr, which is not an IP address"),
        ("postgresql://a:1,b:2,c/d?port=1,2", "has port, 2 of them for 3 hosts"),
        (
            "postgresql://u@h/d?sslrootcert=system&sslmode=require",
            "has sslrootcert=system, which only works with sslmode=",
        ),
        ("postgresql://u@h/d?sslmode=VERIFY-FULL", "has sslmode, which is not one of disable, allow, prefer, require"),
        ("postgresql://u@h/d?target_session_attrs=ANY", "has target_session_attrs"),
        ("postgresql://u@h/d?schema=app", "has the parameter schema, which is another tool's: database.schema says"),
        ("postgresql://u@h/d?pgbouncer=true", "has the parameter pgbouncer, which is another tool's: fivrec works "),
        ("postgresql://u:p@h/d?sslmode=require&connection_limit=1", "has the parameter connection_limit, which is "),
        ("host=h dbname=d schema=app", "has the parameter schema, which is another tool's"),
        ("postgresql://u@h/d?ssl_mode=require", "can't be read: it has a parameter that PostgreSQL does not know (did"),
    ],
)
def test_what_libpq_would_refuse_is_named(url: str, said: str) -> None:
    assert (form_problem(url) or "").startswith(said)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/d?ssl=true",
        "postgresql://u@h/d?ssl_min_protocol_version=tlsv1.2",
        "postgresql://u@h/d?connect_timeout=0&keepalives=1&replication=0&ssl_max_protocol_version=",
        "postgresql://u@h/d?sslkey=pkcs11:pkcs11:object%3Dkey;pin-source%3Dfile:/etc/pin",
        "postgresql://a,b,c/d?hostaddr=10.0.0.1,10.0.0.2,10.0.0.3&port=1,2,3",
    ],
)
def test_what_libpq_takes_is_taken(url: str) -> None:
    assert form_problem(url) is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PGSSLMODE", "on", 'PGSSLMODE: sslmode "on", which is not one of '),
        ("PGPORT", "99999", 'PGPORT: port "99999", which is not a port'),
        ("PGCONNECT_TIMEOUT", "soon", "PGCONNECT_TIMEOUT: connect_timeout, which is not a whole number"),
        ("PGTARGETSESSIONATTRS", "leader", 'PGTARGETSESSIONATTRS: target_session_attrs "leader"'),
        ("PGHOST", "u:Pa55@h", "PGHOST: host with an @ or a URL in it"),
        ("PGDATABASE", "postgresql://u:Pa55@h/d", "PGDATABASE: dbname with a URL in it"),
    ],
)
def test_a_variable_that_libpq_would_refuse_is_named(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    found = environment_problem("postgresql:///?user=u")
    assert (found or "").startswith(said)
    assert "Pa55" not in str(found)
    assert environment_problem("embedded:") is None
    assert (
        environment_problem("postgresql://u@h:1/d?sslmode=require&target_session_attrs=any&connect_timeout=9") is None
    )


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u@h/postgres", "postgres"),
        ("postgresql://u@h/template1", "template1"),
        ("host=h dbname=template0", "template0"),
        ("postgresql://postgres@h", "postgres"),
    ],
)
def test_postgresqls_own_databases_are_no_instances(url: str, name: str) -> None:
    assert form_problem(url) is None
    assert instance_problem(url) == f'names the database "{name}", which is PostgreSQL\'s own'
    assert instance_problem("postgresql://u@h/app") is None


def test_a_name_that_postgresql_would_cut_is_refused() -> None:
    said = "names a database by more than 63 bytes, which PostgreSQL cuts there"
    assert instance_problem(f"postgresql://u@h/{'x' * 64}") == said
    assert instance_problem(f"postgresql://u@h/{'%C3%A9' * 32}") == said
    assert instance_problem(f"postgresql://u@h/{'x' * 63}") is None


@pytest.mark.parametrize("url", ["embedded:", "embedded:some/folder"])
def test_the_embedded_server_has_no_identity(url: str) -> None:
    assert (form_problem(url), instance_problem(url), database_identity(url)) == (None, None, None)
    assert instance_problem(f"{url}\x00") == "holds a NUL character"


def test_a_variable_that_changes_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for host in ("one", "two", "one"):
        monkeypatch.setenv("PGHOST", host)
        found.append(database_identity("postgresql://u@/d"))
    assert [one and one.hosts for one in found] == [("one",), ("two",), ("one",)]


def test_a_service_file_that_changes_counts_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services, found = tmp_path / "services", []
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSERVICE", "main")
    for host in ("one", "two"):
        services.write_text(f"[main]\nhost={host}\n")
        found.append(database_identity("postgresql://u@/d"))
    assert [one and one.hosts for one in found] == [("one",), ("two",)]


@pytest.mark.parametrize("name", ["passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"])
def test_no_pipe_stands_for_a_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe, link, regular = tmp_path / "pipe", tmp_path / "link", tmp_path / "regular"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    regular.touch()
    said = f"{name}, which is neither a regular file nor {os.devnull}"
    for special in (pipe, link):
        assert form_problem(f"postgresql://u@h/d?{name}={special}") == f"has {said}"
    for fine in (regular, tmp_path, tmp_path / "missing", os.devnull):
        assert form_problem(f"postgresql://u@h/d?{name}={fine}") is None
    variable = f"PG{name.upper()}"
    monkeypatch.setenv(variable, str(pipe))
    assert environment_problem("postgresql://u@h/d") == f"{variable}: {said}"


def test_within_one_environment_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "one")
    with one_environment():
        first = database_identity("postgresql://u@/d")
        monkeypatch.setenv("PGHOST", "two")
        second = database_identity("postgresql://u@/d")
    after = database_identity("postgresql://u@/d")
    assert [one and one.hosts for one in (first, second, after)] == [("one",), ("one",), ("two",)]
