"""When a login uses SCRAM keys, and how these are derived."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import pytest
from psycopg import pq

from reconciler.database import scram
from reconciler.database.pipeline import PipelinedConnection
from reconciler.database.scram import Login, ObservedConnection, Salt, keys, login

SALT = Salt(b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
ONE_PLACE = [{"host": "db"}]
URL = {"user": "u", "password": "pencil", "host": "db", "dbname": "a"}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "_logins", {})
    monkeypatch.setattr(scram, "_traces", iter(range(1000)))
    monkeypatch.setattr(pq, "version", lambda: 180_000)  # psycopg before 3.3 brings libpq 17


def opened(salt: Salt | None) -> ObservedConnection:
    conn: ObservedConnection = object.__new__(ObservedConnection)
    conn.salt = salt
    return conn


def test_keys_are_those_of_the_example_in_the_rfc() -> None:
    found = {name: b64decode(value) for name, value in keys("pencil", SALT).items()}
    # RFC 7677, 3: the proofs of client and server.
    first = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    said = first + "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    server = hmac.digest(found["scram_server_key"], said.encode(), "sha256")
    mine = hmac.digest(sha256(found["scram_client_key"]).digest(), said.encode(), "sha256")
    proof = bytes(key ^ part for key, part in zip(found["scram_client_key"], mine, strict=True))
    assert b64encode(server) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


def test_two_equal_salts_yield_keys_after_an_unobserved_login() -> None:
    known = Login("pencil")
    assert known.kind() is PipelinedConnection
    known.learn(object.__new__(PipelinedConnection))
    for _ in range(2):
        assert not known.keys
        assert known.kind() is ObservedConnection
        known.learn(opened(SALT))
    assert known.keys == keys("pencil", SALT)


@pytest.mark.parametrize("second", [None, SALT._replace(value=b"another"), SALT._replace(rounds=4097)])
def test_a_server_with_another_salt_or_none_still_gets_the_password(second: Salt | None) -> None:
    known = Login("pencil")
    known.kind()
    known.learn(opened(SALT))
    for salt in (second, SALT, SALT):
        known.learn(opened(salt))
    assert (known.keys, known.kind()) == ({}, PipelinedConnection)


def test_keys_that_were_refused_once_are_not_learned_again() -> None:
    known = Login("pencil")
    for _ in range(2):
        known.learn(opened(SALT))
    assert known.keys
    known.forget()
    known.learn(opened(SALT))
    known.learn(opened(SALT))
    assert (known.keys, known.kind()) == ({}, PipelinedConnection)


def test_a_server_asking_for_endless_rounds_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "keys", lambda *_: pytest.fail("hashed"))
    known = Login("pencil")
    known.kind()
    for _ in range(3):
        known.learn(opened(SALT._replace(rounds=600_001)))
    assert (known.keys, known.kind()) == ({}, PipelinedConnection)


def test_a_login_that_keeps_failing_is_not_observed_without_end() -> None:
    known = Login("pencil")
    kinds = [known.kind() for _ in range(1000)]
    assert (kinds.count(ObservedConnection), kinds[-1]) == (9, PipelinedConnection)


def test_the_number_of_observed_logins_per_process_is_limited() -> None:
    kinds = [known.kind() for known in (Login("pencil") for _ in range(2000)) for _ in range(2)]
    assert (kinds.count(ObservedConnection), kinds[-1]) == (1000, PipelinedConnection)


def test_a_login_is_the_same_in_all_its_databases_and_no_other() -> None:
    one = login(URL, ONE_PLACE)
    assert one is not None
    assert login(URL | {"dbname": "b", "application_name": "x", "connect_timeout": "3"}, ONE_PLACE) is one
    for part in ({"user": "v"}, {"password": "pencils"}, {"host": "other"}, {"port": "5433"}, {"sslmode": "require"}):
        assert login(URL | part, ONE_PLACE) is not one


@pytest.mark.parametrize(
    ("parts", "places"),
    [
        ({"password": None}, 1),
        ({"password": "senha-é"}, 1),  # would be normalized before hashing
        ({"scram_client_key": "x"}, 1),
        ({}, 2),  # psycopg would go on to the second server
    ],
)
def test_no_keys_are_used_that_could_lead_elsewhere(parts: dict[str, Any], places: int) -> None:
    assert login({key: value for key, value in (URL | parts).items() if value}, ONE_PLACE * places) is None


def test_an_older_libpq_gets_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pq, "version", lambda: 170_006)
    assert login(URL, ONE_PLACE) is None


def test_the_login_used_longest_ago_is_forgotten_first() -> None:
    first = login(URL, ONE_PLACE)
    for number in range(scram.MOST - 1):
        login(URL | {"user": f"u{number}"}, ONE_PLACE)
    assert login(URL, ONE_PLACE) is first
    login(URL | {"user": "one too many"}, ONE_PLACE)
    assert (login(URL, ONE_PLACE) is first, len(scram._logins)) == (True, scram.MOST)
