"""Database URLs: where they lead, and that TLS is mandatory for other machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.secret import Secret
from reconciler.support.conninfo import (
    attempts_s,
    database_name,
    parameters,
    server_identity,
    server_shown,
    spread,
)
from reconciler.support.postgres_url import is_patient

REMOTE = "postgresql://u:canary@db.fiv-connect.com/fivapp_a"


@pytest.fixture(autouse=True)
def no_libpq_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSSLMODE", "PGSERVICE", "PGHOSTADDR"):
        monkeypatch.delenv(name, raising=False)


def sslmode(url: str) -> str | None:
    return parameters(Secret(url), connect_s=5, application_name="x").get("sslmode")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (REMOTE, "require"),
        (f"{REMOTE}?sslmode=prefer", "require"),
        (f"{REMOTE}?sslmode=allow", "require"),
        (f"{REMOTE}?sslmode=verify-full", "verify-full"),
        ("postgresql://u@10.0.0.5/a", "require"),
        ("postgresql://u@127.0.0.1,db.example.com/a", "require"),
        ("host=localhost hostaddr=10.0.0.5 dbname=a", "require"),
        ("postgresql://u@127.0.0.1/a", None),
        ("postgresql://u@[::1]:5432/a", None),
        ("postgresql://u@localhost/a?sslmode=disable", "disable"),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/a", None),
        ("postgresql:///a", None),
    ],
)
def test_away_from_this_machine_tls_is_required(url: str, expected: str | None) -> None:
    assert sslmode(url) == expected


def test_the_environment_counts_as_much_as_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert sslmode("postgresql:///a") == "verify-ca"
    monkeypatch.setenv("PGSSLMODE", "disable")
    with pytest.raises(DatabaseError, match="sslmode=disable"):
        sslmode("postgresql:///a")


@pytest.mark.parametrize(("mode", "expected"), [("", "require"), ("sslmode=verify-full", "verify-full")])
@pytest.mark.parametrize("named_by", ["the URL", "PGSERVICE"])
def test_a_service_counts_as_what_its_file_says(
    named_by: str, mode: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text(f"[far]\nhost=db.example.com\nport=5433\n{mode}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    if named_by == "PGSERVICE":
        monkeypatch.setenv("PGSERVICE", "far")
    url = "postgresql:///a" if named_by == "PGSERVICE" else "postgresql:///a?service=far"
    assert sslmode(url) == expected
    assert server_identity(Secret(url)) == ("db.example.com", "5433", "a")
    assert os.environ.get("PGSERVICE") == ("far" if named_by == "PGSERVICE" else None)


def test_disabling_tls_away_from_this_machine_is_refused() -> None:
    with pytest.raises(DatabaseError) as raised:
        sslmode(f"{REMOTE}?sslmode=disable")
    assert raised.value.code == "database_insecure"


def test_no_options_are_sent_and_settings_of_the_url_stand() -> None:
    chosen = parameters(Secret(f"{REMOTE}?connect_timeout=9"), connect_s=5, application_name="fivrec apply 1")
    assert "options" not in chosen
    assert chosen["connect_timeout"] == "9"
    assert chosen["application_name"] == "fivrec apply 1"


def test_the_identity_is_host_port_and_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_identity(Secret(REMOTE)) == ("db.fiv-connect.com", "5432", "fivapp_a")
    assert server_identity(Secret("postgresql://u@localhost/a")) == ("127.0.0.1", "5432", "a")
    monkeypatch.setenv("PGDATABASE", "from_env")
    assert database_name(Secret("postgresql://u@h")) == "from_env"
    monkeypatch.delenv("PGDATABASE")
    assert database_name(Secret("postgresql://u@h")) == "u"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u@[::1]:5433/a", "::1:5433"),
        ("postgresql://u@localhost/a", "localhost:5432"),
        ("postgresql://u@A.example.com.,b:1/a", "A.example.com.,b:5432,1"),
        ("postgresql://u@a:1,b:1/a", "a,b:1"),
        ("postgresql://u@%2Frun%2Fpg/a", "/run/pg:5432"),
    ],
)
def test_messages_show_the_server_as_it_was_given(url: str, shown: str) -> None:
    assert server_shown(Secret(url)) == shown


@pytest.mark.parametrize(
    "url", ["postgresql://u:canary@h:port/x?canary=1", "canary canary", "postgresql://u:can%ary@h/x"]
)
def test_a_broken_url_is_never_quoted(url: str) -> None:
    with pytest.raises(MissingSetting) as raised:
        parameters(Secret(url), connect_s=5, application_name="x")
    assert raised.value.code == "database_url"
    assert "canary" not in f"{raised.value}{raised.value.hint}{raised.value.__cause__}"


def test_several_places_share_the_time_and_each_gets_some() -> None:
    chosen = parameters(Secret("postgresql://u@a,b,c:5433/x"), connect_s=5, application_name="x")
    places = [{"host": host, "hostaddr": f"10.0.0.{n}", "port": "5432"} for n, host in enumerate("abc")]
    found = spread(chosen, places, 10)
    assert (found["host"], found["hostaddr"], found["port"], found["connect_timeout"]) == (
        "a,b,c",
        "10.0.0.0,10.0.0.1,10.0.0.2",
        "5432,5432,5432",
        "3",
    )
    assert attempts_s(found, 3) == 10.0
    assert spread(chosen, places * 4, 10)["connect_timeout"] == "2"
    assert spread(chosen, places[:1], 10)["connect_timeout"] == "5"


@pytest.mark.parametrize("variable", [None, "PGCONNECT_TIMEOUT"])
def test_a_connect_timeout_that_was_asked_for_counts(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv(variable, "40")
    url = Secret("postgresql://u@a,b/x" if variable else "postgresql://u@a,b/x?connect_timeout=40")
    chosen = parameters(url, connect_s=5, application_name="x")
    assert (is_patient(url.reveal()), chosen["connect_timeout"], attempts_s(chosen, 2)) == (True, "40", 81.0)
    assert spread(chosen, [], None)["connect_timeout"] == "40"
