"""Sessions of the fleet's page: pending sign-ins, and who is signed in. Kept only in this process's memory, so that a
session that ended stays ended (docs/decisions/0040-fleet-sessions-in-memory.md)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import field
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.web.oidc import SignIn, SignInRefused
from reconciler.web.roles import Person
from reconciler.web.tokens import LIFE_S, SESSION_S

SIGN_IN_S = 600
"""Seconds that a person may take at the provider."""
MAX_SESSIONS = 10_000
QUIET = "x-fivrec-refresh"
"""The header of requests that the page makes by itself: they don't extend a session."""


@dataclass(slots=True)
class FleetSession:
    """Somebody who is signed in. `provider_session` is the provider's id of the session (sid), if it sent one."""

    person: Person
    provider_session: str | None
    csrf: str
    since: datetime
    used: datetime
    ended: bool = False


@dataclass(slots=True)
class FleetSessions:
    """`digest` is a keyed digest that only this server can compute; `secure`: the server is reached by https."""

    now: Callable[[], datetime]
    digest: Callable[..., str]
    secure: bool = False
    _open: dict[str, FleetSession] = field(default_factory=dict)
    _redeemed: dict[str, datetime] = field(default_factory=dict)

    def begin(self, redirect_uri: str, place: str = "/") -> tuple[SignIn, str]:
        """Begin a sign-in that leads to `place`. Returns also the cookie's value, which the browser has to send with
        the provider's answer."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        kept = base64.urlsafe_b64encode(place.encode()).decode()
        content = f"{int(self.now().timestamp())}.{state}.{nonce}.{verifier}.{kept}"
        begun = SignIn(state, nonce, Secret(verifier), redirect_uri, place)
        return begun, f"{content}.{self.digest('sign-in', content)}"

    def redeem(self, cookie: str, state: str, redirect_uri: str) -> SignIn:
        """Returns the sign-in that the cookie belongs to, once. Raises SignInRefused if it is another's, forged, too
        old or used."""
        content, _, seal = cookie.rpartition(".")
        if not content or not hmac.compare_digest(seal.encode(), self.digest("sign-in", content).encode()):
            raise SignInRefused("this browser began no sign-in")
        at, expected, nonce, verifier, place = content.split(".")
        age = self.now().timestamp() - int(at)
        if not 0 <= age <= SIGN_IN_S:
            raise SignInRefused("the sign-in is too old")
        if not hmac.compare_digest(state.encode(), expected.encode()):
            raise SignInRefused("the state does not match")
        self._forget_redeemed()
        if expected in self._redeemed:
            raise SignInRefused("the state was used")
        self._redeemed[expected] = self.now()
        return SignIn(expected, nonce, Secret(verifier), redirect_uri, base64.urlsafe_b64decode(place).decode())

    def open(self, person: Person, provider_session: str | None) -> str:
        """Begin a session; returns its cookie's value. The oldest one ends if there are too many."""
        self._forget_ended()
        if len(self._open) >= MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        token, now = secrets.token_urlsafe(32), self.now()
        self._open[_key(token)] = FleetSession(person, provider_session, secrets.token_hex(32), now, now)
        return token

    def read(self, request: Request) -> FleetSession | None:
        """The session of this request's cookie. Using it extends it, unless the page made the request by itself."""
        found = self._open.get(_key(request.cookies.get(self.cookie, "")))
        if found is None or not self.is_open(found):
            return None
        if QUIET not in request.headers:
            found.used = self.now()
        return found

    def is_open(self, session: FleetSession) -> bool:
        """Whether it is valid now: used within 15 minutes, begun within 8 hours, not ended."""
        now = self.now()
        in_use = now - session.used <= timedelta(seconds=LIFE_S)
        return not session.ended and in_use and now - session.since <= timedelta(seconds=SESSION_S)

    def end(self, session: FleetSession) -> None:
        session.ended = True
        self._forget_ended()

    def end_of_provider(self, provider_session: str) -> None:
        """End what the provider's session with this id opened (front-channel logout)."""
        for session in self._open.values():
            session.ended = session.ended or session.provider_session == provider_session
        self._forget_ended()

    def is_form(self, session: FleetSession, token: str) -> bool:
        return hmac.compare_digest(session.csrf.encode(), token.encode())

    @property
    def cookie(self) -> str:
        return "__Host-fivrec-fleet" if self.secure else "fivrec-fleet"

    @property
    def sign_in_cookie(self) -> str:
        return "__Host-fivrec-sso" if self.secure else "fivrec-sso"

    def put(self, response: Response, token: str) -> None:
        response.set_cookie(
            self.cookie, token, max_age=SESSION_S, path="/", secure=self.secure, httponly=True, samesite="strict"
        )

    def put_sign_in(self, response: Response, value: str) -> None:
        """Lax: the provider's answer is a navigation from another site."""
        response.set_cookie(
            self.sign_in_cookie, value, max_age=SIGN_IN_S, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def drop(self, response: Response, cookie: str) -> None:
        response.delete_cookie(cookie, path="/", secure=self.secure, httponly=True, samesite="strict")

    def _forget_redeemed(self) -> None:
        """Drop states that are too old to be used."""
        until = self.now() - timedelta(seconds=SIGN_IN_S)
        self._redeemed = {state: at for state, at in self._redeemed.items() if at >= until}

    def _forget_ended(self) -> None:
        self._open = {key: one for key, one in self._open.items() if self.is_open(one)}


def _key(token: str) -> str:
    """What is kept of a cookie, so that a memory dump lets nobody in."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
