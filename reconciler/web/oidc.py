"""OpenID Connect on the client's side: authorization code with PKCE, discovery, the provider's keys, the ID token.

Authlib and joserfc implement the protocol, httpx the network. Knows no route, cookie or role.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import field
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from reconciler.connect.errors import ConnectFault
from reconciler.connect.trust import Trust, WiderTrust
from reconciler.model.errors import FivrecError, MissingSetting, UsageError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.asgi_server import is_loopback
from reconciler.support.lean_httpx import httpx

SCOPES = ("openid", "profile", "email")
LEEWAY_S = 30
FRESH_S = 3600
"""Seconds for which discovery and keys are used without reading them again."""

_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Algorithms with a key pair: with a shared secret or `none` anybody could sign."""
_MAX_BYTES = 512 * 1024
_TIMEOUT_S = 10.0
_AT_ONCE = 8
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class SignInRefused(FivrecError):
    """The sign-in was not begun by this server, or its token is not valid for it. The message says why, for the log."""

    code = "sso_refused"


class ProviderUnavailable(FivrecError):
    """The identity provider does not answer, or its answer is not valid OpenID Connect."""

    code = "sso_unavailable"


@dataclass(frozen=True, slots=True)
class Client:
    """This server as the provider knows it. Without a secret it is a public client, protected only by PKCE."""

    issuer: str
    id: str
    secret: Secret | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """What identifies a sign-in that began here when it comes back. `place` is the page that it then leads to."""

    state: str
    nonce: str
    verifier: Secret
    redirect_uri: str
    place: str = "/"


@dataclass(slots=True)
class Provider:
    """The identity provider. `now` is the clock used for tokens."""

    client: Client
    now: Callable[[], datetime]
    _found: Mapping[str, Any] = field(default_factory=dict)
    _found_at: float = 0.0
    _keys: KeySet | None = None
    _keys_at: float = 0.0
    _trust: Trust | WiderTrust | None = None
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def authorization_url(self, begun: SignIn) -> str:
        """The address that the browser is sent to. Raises ProviderUnavailable if discovery fails."""
        found = await self._discovered()
        url: str = prepare_grant_uri(
            found["authorization_endpoint"],
            self.client.id,
            "code",
            redirect_uri=begun.redirect_uri,
            scope=list(SCOPES),
            state=begun.state,
            nonce=begun.nonce,
            code_challenge=create_s256_code_challenge(begun.verifier.reveal()),
            code_challenge_method="S256",
        )
        return url

    async def redeem(self, begun: SignIn, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """The ID token's claims for the provider's answer. Raises SignInRefused, ProviderUnavailable."""
        found = await self._discovered()
        self._check_answer(found, begun, answer)
        token = await self._exchange(found, begun, answer["code"])
        return await self._verified(found, begun, token)

    async def end_session_url(self, back_to: str) -> str | None:
        """The address at which the session at the provider ends (RP-initiated logout); None if it has none."""
        try:
            endpoint = (await self._discovered()).get("end_session_endpoint")
        except ProviderUnavailable:
            return None
        if not isinstance(endpoint, str) or not is_safe_url(endpoint):
            return None
        mark = "&" if "?" in endpoint else "?"
        return f"{endpoint}{mark}client_id={quote_plus(self.client.id)}&post_logout_redirect_uri={quote_plus(back_to)}"

    def _check_answer(self, found: Mapping[str, Any], begun: SignIn, answer: Mapping[str, str]) -> None:
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise SignInRefused("the state does not match")
        issuer = answer.get("iss")  # RFC 9207: an answer of another provider, mixed up with this one's
        if issuer is None and found.get("authorization_response_iss_parameter_supported") is True:
            raise SignInRefused("the answer names no issuer")
        if issuer is not None and issuer != self.client.issuer:
            raise SignInRefused("the answer is from another issuer")
        if "error" in answer:
            raise SignInRefused("the provider refused")  # its message is not repeated: anybody can send it
        if not answer.get("code"):
            raise SignInRefused("the answer has no code")

    async def _exchange(self, found: Mapping[str, Any], begun: SignIn, code: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.redirect_uri,
            "code_verifier": begun.verifier.reveal(),
        }
        auth: tuple[str, str] | None = None
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if self.client.secret is not None and "client_secret_basic" in methods:
            auth = (quote_plus(self.client.id), quote_plus(self.client.secret.reveal()))  # RFC 6749, 2.3.1
        else:
            form["client_id"] = self.client.id
            if self.client.secret is not None:
                form["client_secret"] = self.client.secret.reveal()
        status, token = await self._ask("POST", found["token_endpoint"], data=form, auth=auth)
        if status == 401 or token.get("error") in ("invalid_client", "unauthorized_client"):  # noqa: PLR2004
            raise ProviderUnavailable("the identity provider refuses this server's client id or secret")
        if 400 <= status < 500:  # noqa: PLR2004 (the client's errors: a code that is used, old or invented)
            raise SignInRefused("the provider does not take the code")
        if status != 200 or not isinstance(token.get("id_token"), str):  # noqa: PLR2004
            raise ProviderUnavailable("the identity provider gave no ID token", hint="is the scope openid allowed?")
        return token

    async def _verified(self, found: Mapping[str, Any], begun: SignIn, token: Mapping[str, Any]) -> Mapping[str, Any]:
        said = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = sorted(_ALGORITHMS & {item for item in said if isinstance(item, str)})
        if not algorithms:
            raise ProviderUnavailable("the identity provider signs by none of the algorithms with a key pair")
        text = token["id_token"]
        try:
            decoded = self._decoded(text, algorithms, await self._key_set(found))
        except (JoseError, ValueError, TypeError):
            # An unknown key, or another one under the same id: the provider may have changed its keys.
            decoded = self._decoded_or_refused(text, algorithms, await self._key_set(found, again=True))
        return self._validated(decoded, begun, token.get("access_token"))

    def _validated(self, decoded: jwt.Token, begun: SignIn, access_token: object) -> Mapping[str, Any]:
        """Returns the claims, after checking issuer, audience, times, nonce and at_hash (OpenID Connect Core,
        3.1.3.7)."""
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "value": self.client.issuer},
                "aud": {"essential": True, "value": self.client.id},
                "sub": {"essential": True},
            },
            params={"nonce": begun.nonce, "client_id": self.client.id, "access_token": access_token},
        )
        try:
            claims.validate(now=int(self.now().timestamp()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError) as exc:
            raise SignInRefused(f"the ID token's claims: {type(exc).__name__}") from None
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise SignInRefused("the ID token names nobody")
        return dict(claims)

    def _decoded_or_refused(self, text: str, algorithms: list[str], keys: KeySet) -> jwt.Token:
        try:
            return self._decoded(text, algorithms, keys)
        except (JoseError, ValueError, TypeError) as exc:
            raise SignInRefused(f"the ID token's signature: {type(exc).__name__}") from None  # its text may quote it

    @staticmethod
    def _decoded(text: str, algorithms: list[str], keys: KeySet) -> jwt.Token:
        if text.count(".") != 2:  # noqa: PLR2004 (a signed token has three parts; an encrypted one is not asked for)
            raise ValueError("not a signed token")
        return jwt.decode(text, keys, algorithms=algorithms)

    async def _discovered(self) -> Mapping[str, Any]:
        clock = asyncio.get_running_loop().time()
        if self._found and clock - self._found_at < FRESH_S:
            return self._found
        status, found = await self._ask("GET", f"{self.client.issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != 200 or found.get("issuer") != self.client.issuer:  # noqa: PLR2004
            raise ProviderUnavailable(
                "the identity provider's discovery document is not that of --oidc-issuer",
                hint="give the issuer exactly as the document has it, with or without the slash at its end",
            )
        if not all(isinstance(found.get(name), str) and is_safe_url(found[name]) for name in _ENDPOINTS):
            raise ProviderUnavailable("the identity provider's discovery document lacks an endpoint by https")
        self._found, self._found_at = found, clock
        return found

    async def _key_set(self, found: Mapping[str, Any], *, again: bool = False) -> KeySet:
        clock = asyncio.get_running_loop().time()
        if self._keys is not None and not again and clock - self._keys_at < FRESH_S:
            return self._keys
        status, document = await self._ask("GET", found["jwks_uri"])
        try:
            keys = KeySet(_known_keys(document["keys"]))
        except (JoseError, ValueError, TypeError, KeyError) as exc:
            raise ProviderUnavailable(f"the identity provider's keys can't be read (HTTP {status})") from exc
        self._keys, self._keys_at = keys, clock
        return keys

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object. No redirect is followed: it could send a secret elsewhere."""
        try:
            async with self._places, asyncio.timeout(_TIMEOUT_S), self._http() as http:
                status, body = await _read(http.stream(method, url, headers={"Accept": "application/json"}, **more))
            document = json.loads(body)
        except (httpx.HTTPError, TimeoutError, OSError, MissingSetting, ConnectFault) as exc:
            raise ProviderUnavailable(
                f"the identity provider does not answer: {type(exc).__name__}", hint="try again in a moment"
            ) from exc
        except (ValueError, RecursionError):
            document = None
        return status, document if isinstance(document, dict) else {}

    def _http(self) -> httpx.AsyncClient:
        # The CA file is for Connect, and may not contain the provider's CA: the system's count too.
        if self._trust is None:
            own = Trust(self.client.ca_file)
            self._trust = own if self.client.ca_file is None else WiderTrust(own, lambda: None)
        return httpx.AsyncClient(verify=self._trust.context(), timeout=_TIMEOUT_S, follow_redirects=False)


def _known_keys(given: Iterable[Any]) -> list[Key]:
    """The keys that are understood: RFC 7517, 5 says to ignore others, such as those of a newer curve."""
    found: list[Key] = []
    for item in given:
        with suppress(JoseError, ValueError, TypeError, KeyError):
            found.append(JWKRegistry.import_key(item))
    if not found:
        raise ValueError("no key that is understood")
    return found


async def _read(opened: AbstractAsyncContextManager[httpx.Response]) -> tuple[int, bytes]:
    async with opened as response:
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _MAX_BYTES:
                raise ProviderUnavailable("the identity provider's answer is too long")
        return response.status_code, body


def is_safe_url(url: str) -> bool:
    """Whether the address uses https; http is allowed only on this machine."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def check_issuer(issuer: str) -> None:
    """Raises UsageError if tokens and secrets would travel unencrypted."""
    if not is_safe_url(issuer) or urlsplit(issuer).query or urlsplit(issuer).fragment:
        raise UsageError(
            f'--oidc-issuer "{issuer}" is not an https URL without query',
            hint="for example https://id.example/realms/fiv",
        )
