"""Tokens and their keys, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.database.accounts import Account
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec
from reconciler.support.crypto.key_files import generate_key
from reconciler.web.token_keys import load_token_keys
from reconciler.web.tokens import SESSION_S, Grant, TokenRejected, Tokens

DESIRED = Desired("acme", EnvironmentSpec("production"), DatabaseSpec(Secret("postgresql://h/d")), None, {})
ACCOUNT = Account("u1", "Ana", "ana@empresa.com", Secret("$2b$04$x"), "admin")


class Clock:
    """A clock set by the test."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.at


def tokens(clock: Clock, *words: str) -> Tokens:
    return Tokens(load_token_keys({"FIVREC_JWT_KEY": ",".join(words or (generate_key(),))}, None), clock)


def test_a_cached_token_is_checked_again_once_it_expires() -> None:
    clock = Clock()
    made = tokens(clock)
    now = clock.at
    clock.at = now - timedelta(minutes=14)
    token = made.issue_bearer(DESIRED, ACCOUNT)
    clock.at = now
    assert made.read_bearer(token, DESIRED) is made.read_bearer(token, DESIRED)
    clock.at = now + timedelta(minutes=2)  # the time at which a known token is checked again
    assert made.read_bearer(token, DESIRED) is not made.read_bearer(token, DESIRED)
    clock.at = now - timedelta(minutes=16)
    old = made.issue_bearer(DESIRED, ACCOUNT)
    clock.at = now
    with pytest.raises(TokenRejected):
        made.read_bearer(old, DESIRED)


def test_a_session_ends_eight_hours_after_login_despite_renewal() -> None:
    clock = Clock()
    made = tokens(clock)
    since = clock.at - timedelta(seconds=SESSION_S + 1)
    young = made.issue_session((Grant("acme", "u1", "m"),), since=clock.at)
    assert made.read_session(young).grants == (Grant("acme", "u1", "m"),)
    with pytest.raises(TokenRejected):
        made.read_session(made.issue_session((Grant("acme", "u1", "m"),), since=since))


def test_a_session_never_outgrows_its_cookies() -> None:
    from dataclasses import replace

    from starlette.requests import Request
    from starlette.responses import Response

    from reconciler.web.service import Service
    from reconciler.web.sessions import MAX_GRANTS, put_cookie, read_session, with_grant

    made = tokens(Clock())
    service = Service({}, None, made)  # type: ignore[arg-type]
    value, account = "", replace(ACCOUNT, id="00000000-0000-4000-8000-000000000000")
    for number in range(100):
        session = made.read_session(value) if value else None
        value = with_grant(service, session, replace(DESIRED, instance=f"{number:02}" + "x" * 61), account)
    assert len(made.read_session(value).grants) == MAX_GRANTS
    response = Response()
    put_cookie(service, Request({"type": "http", "headers": []}), response, value)
    cookies = [line.partition(";")[0] for line in response.headers.getlist("set-cookie")]
    assert (max(map(len, cookies)) < 4096, len(cookies)) == (True, 3)
    head = [(b"cookie", "; ".join(cookies).encode())]
    session = read_session(service, Request({"type": "http", "headers": head}))
    assert session is not None
    assert len(session.grants) == MAX_GRANTS


def test_a_new_key_in_front_ends_no_session_and_no_form() -> None:
    first, second = generate_key(), generate_key()
    old, new = tokens(Clock(), first), tokens(Clock(), second, first)
    assert new.matches_mark(old.mark(ACCOUNT), ACCOUNT)
    assert new.is_digest(old.digest("form", "a", "b"), "form", "a", "b")
    assert new.read_bearer(old.issue_bearer(DESIRED, ACCOUNT), DESIRED).user_id == ACCOUNT.id
    assert not tokens(Clock(), second).matches_mark(old.mark(ACCOUNT), ACCOUNT)


def test_a_passwords_mark_changes_with_it_and_reveals_nothing() -> None:
    made = tokens(Clock())
    other = Account(ACCOUNT.id, ACCOUNT.name, ACCOUNT.email, Secret("$2b$04$y"), "admin")
    assert made.matches_mark(made.mark(ACCOUNT), ACCOUNT)
    assert not made.matches_mark(made.mark(ACCOUNT), other)
    assert not made.matches_mark("é", ACCOUNT)
    assert made.mark(ACCOUNT) != tokens(Clock()).mark(ACCOUNT)


@pytest.mark.parametrize("environ", [{}, {"FIVREC_JWT_KEY": "x" * 31}, {"FIVREC_JWT_KEY_FILE": "/nowhere/key"}])
def test_without_a_key_that_is_long_enough_nothing_is_served(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(MissingSetting):
        load_token_keys(environ, tmp_path if environ else None)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_a_damaged_key_file_of_the_embedded_server_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jwt.key").write_bytes(content)
    with pytest.raises(MissingSetting, match=r"jwt\.key holds no key"):
        load_token_keys({}, tmp_path)


def test_keys_come_from_files_and_one_is_made_once_if_embedded(tmp_path: Path) -> None:
    one, two = generate_key(), generate_key()
    (tmp_path / "keys").write_text(f"{two}\n")
    both = load_token_keys({"FIVREC_JWT_KEY": one, "FIVREC_JWT_KEY_FILE": str(tmp_path / "keys")}, None)
    assert [key.material.reveal() for key in both.keys] == [one, two]
    made = load_token_keys({}, tmp_path)
    assert made.made == tmp_path / "jwt.key"
    again = load_token_keys({}, tmp_path)
    assert (again.keys, again.made) == (made.keys, None)
    assert made.keys[0].material.reveal() not in repr(made)
