"""Tokens: issued after a login, read at every call (JWT, RFC 7519; only HS256). Knows no database."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from reconciler.database.accounts import Account
from reconciler.model.errors import FivrecError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.web.token_keys import TokenKey, TokenKeys

ISSUER = "fivrec"
LIFE_S = 15 * 60
LEEWAY_S = 30
SESSION_S = 8 * 60 * 60
"""How long a browser's session can be renewed, counted from the login."""

_ALGORITHM = "HS256"
_MAX_LENGTH = 24 * 1024
_KNOWN = 1024
_MARK = 16
_CLAIMS = ("iss", "aud", "sub", "jti", "iat", "exp")
_HEADER = {"alg", "kid", "typ"}


class TokenRejected(FivrecError):
    """Not a valid token of this server. The reason is for the log only: the client does not see it."""

    code = "token_rejected"


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token of the API says: who, and the password that it was issued for."""

    user_id: str
    jti: str
    mark: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """An account of one instance with which a browser's session was opened."""

    instance: str
    user_id: str
    mark: str


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session: its accounts, one per instance. `since`: the first login."""

    grants: tuple[Grant, ...]
    jti: str
    since: datetime

    @property
    def over_at(self) -> datetime:
        """When the last token to which it may be renewed expires."""
        return self.since + timedelta(seconds=SESSION_S + LIFE_S + LEEWAY_S)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Signs and reads tokens. `_known` saves verifying the signatures of tokens that were read before with the same
    keys; their times are checked each time."""

    keys: TokenKeys
    now: Callable[[], datetime]
    _known: dict[tuple[str, ...], Bearer] = field(default_factory=dict)

    def issue_bearer(self, desired: Desired, account: Account) -> str:
        claims = {"sub": account.id, "pwd": self.mark(account), "jti": _new_id()}
        return self._signed(claims, build_audience(desired))

    def read_bearer(self, token: str, desired: Desired) -> Bearer:
        place = (token, desired.instance, *(key.id for key in self.keys.keys))
        known = self._known.get(place)
        if known is not None and self.now() < known.expires_at:
            return known
        claims = self._read(token, build_audience(desired))
        bearer = Bearer(_text(claims, "sub"), _text(claims, "jti"), _text(claims, "pwd"), _time(claims["exp"]))
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[place] = bearer
        return bearer

    def issue_session(self, grants: tuple[Grant, ...], *, since: datetime | None = None, jti: str = "") -> str:
        """A session's token; a renewed one keeps its jti, so that signing out ends the whole session."""
        of = [[grant.instance, grant.user_id, grant.mark] for grant in grants]
        since = since or self.now()
        claims = {"sub": "session", "of": of, "since": int(since.timestamp()), "jti": jti or _new_id()}
        return self._signed(claims, f"{ISSUER}:page")

    def read_session(self, token: str) -> Session:
        claims = self._read(token, f"{ISSUER}:page")
        since = _time(claims.get("since"))
        if (self.now() - since).total_seconds() > SESSION_S:
            raise TokenRejected("the session is over")
        grants = tuple(Grant(*map(str, item)) for item in claims.get("of", ()))
        return Session(grants, _text(claims, "jti"), since)

    def mark(self, account: Account) -> str:
        """A digest that tells whether the password is still the one that a token was issued for: a new password ends
        all tokens."""
        return self.digest("password", account.id, account.password.reveal())[:_MARK]

    def digest(self, *parts: str) -> str:
        """A keyed digest that only this server can compute, by the first key."""
        return _digest(self.keys.keys[0], parts)

    def is_digest(self, given: str, *parts: str, length: int | None = None) -> bool:
        """Whether any of the keys made it, as for tokens: a new first key ends nothing."""
        known = (_digest(key, parts)[:length] for key in self.keys.keys)
        return sum(hmac.compare_digest(given.encode(), one.encode()) for one in known) > 0  # compare with all of them

    def matches_mark(self, mark: str, account: Account) -> bool:
        return self.is_digest(mark, "password", account.id, account.password.reveal(), length=_MARK)

    def _signed(self, claims: Mapping[str, Any], audience: str) -> str:
        key, now = self.keys.keys[0], int(self.now().timestamp())
        whole = {"iss": ISSUER, "aud": audience, "iat": now, "exp": now + LIFE_S, **claims}
        return jwt.encode(whole, _bytes(key.material.reveal()), algorithm=_ALGORITHM, headers={"kid": key.id})

    def _read(self, token: str, audience: str) -> dict[str, Any]:
        if len(token) > _MAX_LENGTH:
            raise TokenRejected("too long")
        try:
            header = jwt.get_unverified_header(token)
            key = self.keys.by_id(header.get("kid"))
            if key is None or header.get("alg") != _ALGORITHM or not set(header) <= _HEADER:
                raise TokenRejected("its header is not one of this server")
            claims = jwt.decode(
                token,
                _bytes(key.material.reveal()),
                algorithms=[_ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": list(_CLAIMS), "strict_aud": True},
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError) as exc:
            raise TokenRejected(type(exc).__name__) from None  # the cause's text may quote the token
        if not 0 < (_time(claims["exp"]) - _time(claims["iat"])).total_seconds() <= LIFE_S:
            raise TokenRejected("it lives too long")
        return claims


def build_audience(desired: Desired) -> str:
    """A token of one instance and environment is not valid in another."""
    return f"{ISSUER}:{desired.environment.name}:{desired.instance}"


def _digest(key: TokenKey, parts: tuple[str, ...]) -> str:
    content = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.digest(_bytes(key.material.reveal()), b"fivrec\0" + content, "sha256").hex()


def _new_id() -> str:
    return secrets.token_urlsafe(16)


def _bytes(material: str) -> bytes:
    return material.encode("utf-8", "surrogateescape")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenRejected(f"{name} is missing")
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, int):
        raise TokenRejected("a time is missing")
    return datetime.fromtimestamp(value, UTC)
