"""fleet_sessions: sign-ins that are redeemed once, sessions that end, cookies that stay with their host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from starlette.requests import Request
from starlette.responses import Response

from reconciler.web.fleet_sessions import QUIET, SIGN_IN_S, FleetSessions
from reconciler.web.oidc import SignInRefused
from reconciler.web.roles import Person, Role
from reconciler.web.tokens import LIFE_S, SESSION_S
from tests.support.examples import NOON

ANA = Person("Ana", "1", "https://idp.example", Role.VIEWER)
BACK = "https://fivrec.example/sso"


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(("key", *parts)).encode()).hexdigest()


@dataclass
class Clock:
    at: datetime = NOON
    sessions: FleetSessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = FleetSessions(lambda: self.at, digest)

    def wait(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def is_in(self, token: str, *headers: tuple[bytes, bytes]) -> bool:
        cookie = (b"cookie", f"{self.sessions.cookie}={token}".encode())
        return self.sessions.read(Request({"type": "http", "headers": [cookie, *headers]})) is not None


def set_cookies(*, secure: bool) -> list[str]:
    sessions, response = FleetSessions(lambda: NOON, digest, secure), Response()
    sessions.put(response, "t")
    sessions.put_sign_in(response, "s")
    return response.headers.getlist("set-cookie")


def test_with_https_cookies_are_bound_to_the_host_and_to_https() -> None:
    assert set_cookies(secure=True) == [
        f"__Host-fivrec-fleet=t; HttpOnly; Max-Age={SESSION_S}; Path=/; SameSite=strict; Secure",
        f"__Host-fivrec-sso=s; HttpOnly; Max-Age={SIGN_IN_S}; Path=/; SameSite=lax; Secure",
    ]
    assert set_cookies(secure=False) == [
        f"fivrec-fleet=t; HttpOnly; Max-Age={SESSION_S}; Path=/; SameSite=strict",
        f"fivrec-sso=s; HttpOnly; Max-Age={SIGN_IN_S}; Path=/; SameSite=lax",
    ]


def test_a_sign_in_is_redeemed_once_and_in_time() -> None:
    clock = Clock()
    begun, cookie = clock.sessions.begin(BACK, "/i/a")
    clock.wait(SIGN_IN_S)
    assert clock.sessions.redeem(cookie, begun.state, BACK) == begun
    with pytest.raises(SignInRefused, match="the state was used"):
        clock.sessions.redeem(cookie, begun.state, BACK)
    clock.wait(1)
    with pytest.raises(SignInRefused, match="too old"):
        clock.sessions.redeem(cookie, begun.state, BACK)


@pytest.mark.parametrize("index", range(6))
def test_any_edit_of_a_sign_ins_cookie_is_refused(index: int) -> None:
    clock = Clock()
    begun, cookie = clock.sessions.begin(BACK)
    parts = cookie.split(".")
    parts[index] = f"{int(parts[0]) + 1}" if index == 0 else f"{parts[index]}A"
    with pytest.raises(SignInRefused, match="this browser began no sign-in"):
        clock.sessions.redeem(".".join(parts), begun.state, BACK)


def test_a_sign_in_of_the_future_or_with_anothers_state_is_refused() -> None:
    clock = Clock()
    begun, cookie = clock.sessions.begin(BACK)
    other, _ = clock.sessions.begin(BACK)
    with pytest.raises(SignInRefused, match="does not match"):
        clock.sessions.redeem(cookie, other.state, BACK)
    clock.wait(-1)
    with pytest.raises(SignInRefused, match="too old"):
        clock.sessions.redeem(cookie, begun.state, BACK)


def test_a_session_ends_unused_after_15_minutes_and_after_8_hours() -> None:
    clock = Clock()
    unused, used = clock.sessions.open(ANA, None), clock.sessions.open(ANA, None)
    for _ in range(SESSION_S // LIFE_S):
        clock.wait(LIFE_S)
        assert clock.is_in(used)
    clock.wait(1)
    assert (clock.is_in(used), clock.is_in(unused)) == (False, False)


def test_what_the_page_asks_by_itself_extends_no_session() -> None:
    clock = Clock()
    token = clock.sessions.open(ANA, None)
    clock.wait(LIFE_S)
    assert clock.is_in(token, (QUIET.encode(), b"1"))
    clock.wait(1)
    assert not clock.is_in(token)


def test_a_sign_out_at_the_provider_ends_its_own_sessions_alone() -> None:
    clock = Clock()
    tokens = [clock.sessions.open(ANA, known) for known in ("sid", "sid", "other", None)]
    clock.sessions.end_of_provider("sid")
    assert [clock.is_in(token) for token in tokens] == [False, False, True, True]
