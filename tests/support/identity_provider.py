"""An OpenID Connect provider on a socket of this process; a test can make its tokens, keys and responses lie."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.listening import listening

CLIENT_ID = "fivrec-test"


@dataclass
class IdentityProvider:
    """`claims` are the person's; `beside` are further keys to publish. `forge` may change a token's claims and header;
    `sign` replaces the signing."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "name": "Ana Souza", "groups": ["ops"]})
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"}))
    published: list[RSAKey] | None = None
    beside: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    forge: Callable[[dict[str, Any], dict[str, Any]], None] = lambda _, __: None
    sign: Callable[[dict[str, Any], dict[str, Any]], str] | None = None
    down: bool = False
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def authorize(self, url: str) -> dict[str, str]:
        """Grant consent. Returns the parameters that the browser brings back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.claims
        }  # fmt: skip
        header = {"alg": "RS256", "kid": self.key.kid}
        self.forge(claims, header)
        return self.sign(header, claims) if self.sign else jwt.encode(header, claims, self.key)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _discovery(self, _: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }
        return JSONResponse({**found, **self.metadata})

    async def _keys(self, _: Request) -> Response:
        keys = self.published if self.published is not None else [self.key]
        return JSONResponse({"keys": [*self.beside, *(key.as_dict(private=False) for key in keys)]})

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        self.asked.append((request.headers.get("authorization", ""), form))
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or create_s256_code_challenge(form.get("code_verifier", "")) != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "opaque", "token_type": "Bearer", "id_token": self.token(asked)})


def signed_by_secret(header: dict[str, Any], claims: dict[str, Any], secret: str) -> str:
    """Signs by HS256 by hand: the library refuses to use a public key's text as the secret."""
    content = ".".join(_part(json.dumps(part).encode()) for part in ({**header, "alg": "HS256"}, claims))
    return f"{content}.{_part(hmac.digest(secret.encode(), content.encode(), 'sha256'))}"


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join((*(_part(json.dumps(part).encode()) for part in ({**header, "alg": "none"}, claims)), ""))


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@asynccontextmanager
async def identity_provider() -> AsyncIterator[IdentityProvider]:
    provider = IdentityProvider()
    async with listening(provider.app()) as url:
        provider.issuer = url
        yield provider
