"""Tokens and their keys, without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from reconciler.database.accounts import Account
from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import DatabaseSpec, Desired, EnvironmentSpec
from reconciler.support.crypto.key_files import generate_key
from reconciler.web.token_keys import load_token_keys
from reconciler.web.tokens import LIFE_S, SESSION_S, Grant, TokenRejected, Tokens

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


KEY = 2 * generate_key()  # long enough for HS512


def forged(made: Tokens, header: Mapping[str, object], algorithm: str = "HS256", **changes: object) -> str:
    """A token that the right key signed, but that this server would not issue; None leaves a claim out."""
    issued = made.issue_bearer(DESIRED, ACCOUNT)
    claims = {**jwt.decode(issued, options={"verify_signature": False}), **changes}
    whole = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(whole, KEY.encode(), algorithm, {"kid": made.keys.keys[0].id, **header})


def test_a_token_signed_by_the_key_with_the_usual_claims_is_read() -> None:
    made = tokens(Clock(), KEY)
    assert made.read_bearer(forged(made, {}), DESIRED).user_id == ACCOUNT.id


@pytest.mark.parametrize("header", [{"kid": "other"}, {"kid": ""}, {"jku": "https://evil.example"}, {"crit": ["exp"]}])
def test_a_token_with_another_header_is_rejected(header: dict[str, object]) -> None:
    made = tokens(Clock(), KEY)
    with pytest.raises(TokenRejected):
        made.read_bearer(forged(made, header), DESIRED)


def test_a_token_of_another_algorithm_is_rejected() -> None:
    made = tokens(Clock(), KEY)
    with pytest.raises(TokenRejected):
        made.read_bearer(forged(made, {}, "HS512"), DESIRED)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "jti", "iat", "exp", "pwd"])
def test_a_token_without_one_of_its_claims_is_rejected(claim: str) -> None:
    made = tokens(Clock(), KEY)
    with pytest.raises(TokenRejected):
        made.read_bearer(forged(made, {}, **{claim: None}), DESIRED)


@pytest.mark.parametrize("lives_s", [LIFE_S + 1, 0, -1])
def test_a_token_that_lives_longer_than_issued_ones_is_rejected(lives_s: int) -> None:
    clock = Clock()
    made, now = tokens(clock, KEY), int(clock.at.timestamp())
    with pytest.raises(TokenRejected):
        made.read_bearer(forged(made, {}, iat=now, exp=now + lives_s), DESIRED)


def test_a_token_counts_in_its_own_instance_and_environment_alone() -> None:
    made = tokens(Clock(), KEY)
    token, session = made.issue_bearer(DESIRED, ACCOUNT), made.issue_session((Grant("acme", "u1", "m"),))
    for other in (replace(DESIRED, instance="other"), replace(DESIRED, environment=EnvironmentSpec("development"))):
        with pytest.raises(TokenRejected):
            made.read_bearer(token, other)
    with pytest.raises(TokenRejected):
        made.read_bearer(session, DESIRED)
    with pytest.raises(TokenRejected):
        made.read_session(token)


def test_a_session_ends_eight_hours_after_login_despite_renewal() -> None:
    clock = Clock()
    made = tokens(clock)
    since = clock.at - timedelta(seconds=SESSION_S + 1)
    young = made.issue_session((Grant("acme", "u1", "m"),), since=clock.at)
    assert made.read_session(young).grants == (Grant("acme", "u1", "m"),)
    with pytest.raises(TokenRejected):
        made.read_session(made.issue_session((Grant("acme", "u1", "m"),), since=since))


def test_a_session_never_outgrows_its_cookies() -> None:
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


def test_a_variable_that_holds_no_key_makes_none(tmp_path: Path) -> None:
    with pytest.raises(MissingSetting):
        load_token_keys({"FIVREC_JWT_KEY": ", "}, tmp_path)
    assert list(tmp_path.iterdir()) == []


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
