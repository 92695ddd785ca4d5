"""Signing in at an identity provider that lies: anything forged, replayed or meant for somebody else is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from tests.support.identity_provider import CLIENT_ID, IdentityProvider, identity_provider, signed_by_secret, unsigned
from tests.support.serving import now
from tests.support.signed_in import Site, signed_in_site


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with identity_provider() as one:
        yield one


@pytest.fixture
async def site(database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider) -> AsyncIterator[Site]:
    async with signed_in_site(database, keys, tmp_path, provider) as one:
        yield one


def claim(name: str, value: Any) -> Callable[[IdentityProvider], None]:
    def lie(provider: IdentityProvider) -> None:
        provider.forge = lambda claims, _: claims.update({name: value})

    return lie


def without(name: str) -> Callable[[IdentityProvider], None]:
    def lie(provider: IdentityProvider) -> None:
        provider.forge = lambda claims, _: claims.pop(name)

    return lie


def another_key(provider: IdentityProvider) -> None:
    provider.published = [RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})]


def unknown_key(provider: IdentityProvider) -> None:
    provider.published = [RSAKey.generate_key(2048, {"kid": "k2", "use": "sig", "alg": "RS256"})]


def no_signature(provider: IdentityProvider) -> None:
    provider.sign = unsigned


def by_the_public_key(provider: IdentityProvider) -> None:
    """The classic attack: HS256 with the public key as its secret."""
    public = provider.key.as_pem(private=False).decode()
    provider.sign = lambda header, claims: signed_by_secret(header, claims, public)


def by_the_client_id(provider: IdentityProvider) -> None:
    provider.sign = lambda header, claims: signed_by_secret(header, claims, CLIENT_ID * 3)


def changed_after_signing(provider: IdentityProvider) -> None:
    from joserfc import jwt

    def sign(header: dict[str, Any], claims: dict[str, Any]) -> str:
        ours = jwt.encode(header, claims, provider.key).split(".")
        theirs = jwt.encode(header, {**claims, "groups": ["ops"], "sub": "root"}, provider.key).split(".")
        return ".".join((ours[0], theirs[1], ours[2]))

    provider.sign = sign


TOKENS: dict[str, Callable[[IdentityProvider], None]] = {
    "another audience": claim("aud", "another-app"),
    "no audience": without("aud"),
    "several audiences, no azp": claim("aud", [CLIENT_ID, "another-app"]),
    "authorized party is another": claim("azp", "another-app"),
    "another issuer": claim("iss", "https://evil.example"),
    "issuer with a slash more": lambda provider: claim("iss", f"{provider.issuer}/")(provider),
    "no issuer": without("iss"),
    "another nonce": claim("nonce", "replayed"),
    "no nonce": without("nonce"),
    "expired": claim("exp", int(time.time()) - 3600),
    "no expiry": without("exp"),
    "expiry is no number": claim("exp", "tomorrow"),
    "not valid yet": claim("nbf", int(time.time()) + 3600),
    "issued in the future": claim("iat", int(time.time()) + 3600),
    "nobody": without("sub"),
    "subject is a number": claim("sub", 7),
    "another access token": claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
    "another key under the same id": another_key,
    "an unknown key": unknown_key,
    "unsigned": no_signature,
    "HS256 by the public key": by_the_public_key,
    "HS256 by the client id": by_the_client_id,
    "changed after signing": changed_after_signing,
    "no token at all": lambda provider: setattr(provider, "sign", lambda _, __: "junk"),
    "an encrypted token's form": lambda provider: setattr(provider, "sign", lambda _, __: "a.b.c.d.e"),
}


@pytest.mark.parametrize("lie", TOKENS.values(), ids=TOKENS.keys())
async def test_a_forged_id_token_is_refused(
    site: Site, provider: IdentityProvider, lie: Callable[[IdentityProvider], None]
) -> None:
    lie(provider)
    assert await refused(site, lambda: site.sign_in("ops"))


async def test_an_honest_sign_in_sees_the_fleet(site: Site) -> None:
    answer = await site.sign_in("staff")
    assert answer.status_code == 200
    assert 'content="0;url=/"' in answer.text
    page = await site.client.get("/")
    assert (page.status_code, "Ana Souza" in page.text) == (200, True)


async def test_a_sign_in_leads_to_the_page_that_was_asked_for(site: Site, provider: IdentityProvider) -> None:
    provider.claims["groups"] = ["staff"]
    for wanted, place in (("/instances/other", "/instances/other"), ("https://evil.example/", "/")):
        door = await site.client.get("/login", params={"next": wanted})
        begin = unescape(door.text.partition('class="go" href="')[2].partition('"')[0])
        answer = await site.come_back(provider.authorize((await site.client.get(begin)).headers["location"]))
        assert f'content="0;url={place}"' in answer.text
        site.client.cookies.clear()
    begun = await site.client.get("/sso/login?next=//evil.example/")
    assert 'content="0;url=/"' in (await site.come_back(provider.authorize(begun.headers["location"]))).text


async def test_answers_of_others_and_twice_are_refused(site: Site, provider: IdentityProvider) -> None:
    async def answer() -> dict[str, str]:
        return provider.authorize(await site.begin())

    ways: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
        "no state": lambda given: {"code": given["code"]},
        "another state": lambda given: {**given, "state": "x" * 43},
        "no code": lambda given: {"state": given["state"]},
        "an invented code": lambda given: {**given, "code": "invented"},
        "another issuer's answer": lambda given: {**given, "iss": "https://evil.example"},
        "an error": lambda given: {"state": given["state"], "error": "access_denied"},
        "an error beside a code": lambda given: {**given, "error": "access_denied"},
    }
    for name, way in ways.items():
        given = way(await answer())
        assert await refused(site, lambda given=given: site.come_back(given)), name

    given = await answer()
    text = f"/sso/callback?state={given['state']}&code=a&code={given['code']}"
    assert await refused(site, lambda: site.client.get(text))


async def test_a_sign_in_is_redeemed_once_by_its_browser(
    site: Site, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = provider.authorize(await site.begin())
    cookie = site.client.cookies["fivrec-sso"]
    site.client.cookies.clear()
    assert await refused(site, lambda: site.come_back(given))  # another browser: login CSRF

    for forged in (cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), f"9{cookie}", "", "a.b.c.d.e", "...."):
        site.client.cookies.set("fivrec-sso", forged)
        assert await refused(site, lambda: site.come_back(given)), forged

    site.client.cookies.set("fivrec-sso", cookie)
    assert (await site.come_back(given)).status_code == 200
    site.client.cookies.clear()
    site.client.cookies.set("fivrec-sso", cookie)
    fresh = provider.authorize(await _old_url(site, given))
    assert await refused(site, lambda: site.come_back({**fresh, "state": given["state"]}))  # the state again
    begun = await site.begin()
    assert await refused(site, lambda: site.come_back({**provider.authorize(begun), "code": given["code"]}))


async def test_a_code_that_was_stolen_fails_for_lack_of_its_verifier(site: Site, provider: IdentityProvider) -> None:
    stolen = provider.authorize(await site.begin())["code"]
    own = provider.authorize(await site.begin())
    assert await refused(site, lambda: site.come_back({**own, "code": stolen}))


async def test_a_sign_in_that_took_too_long_is_refused(
    database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider
) -> None:
    clock = Clock()
    async with signed_in_site(database, keys, tmp_path, provider, clock=clock) as site:
        given = provider.authorize(await site.begin())
        clock.ahead = timedelta(minutes=11)
        assert await refused(site, lambda: site.come_back(given))


async def test_a_provider_that_names_its_answers_has_to_name_them(site: Site, provider: IdentityProvider) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    given = provider.authorize(await site.begin())
    assert await refused(site, lambda: site.come_back(given))
    given = provider.authorize(await site.begin())
    assert (await site.come_back({**given, "iss": provider.issuer})).status_code == 200


async def test_discovery_of_another_issuer_or_over_http_is_refused(site: Site, provider: IdentityProvider) -> None:
    for metadata in (
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ):
        provider.metadata = metadata
        assert (await site.client.get("/sso/login")).status_code == 503


async def test_a_provider_that_is_down_is_reported_and_comes_back(site: Site, provider: IdentityProvider) -> None:
    provider.down = True
    answer = await site.client.get("/sso/login")
    assert (answer.status_code, "identity provider does not answer" in answer.text) == (503, True)
    provider.down = False
    assert (await site.sign_in("ops")).status_code == 200


async def test_new_keys_of_the_provider_are_taken_up(site: Site, provider: IdentityProvider) -> None:
    assert (await site.sign_in("ops")).status_code == 200
    provider.key = RSAKey.generate_key(2048, {"kid": "k2", "use": "sig", "alg": "RS256"})
    assert (await site.sign_in("ops")).status_code == 200
    provider.key = RSAKey.generate_key(2048, {"kid": "k2", "use": "sig", "alg": "RS256"})  # the same key id
    assert (await site.sign_in("ops")).status_code == 200


async def test_people_without_a_group_that_has_a_role_are_refused(site: Site) -> None:
    for groups in ((), ("sales",), ("OPS",), ("ops ",)):
        answer = await site.sign_in(*groups)
        assert (answer.status_code, "fivrec-fleet" in site.client.cookies) == (403, False), groups


async def test_an_address_counts_as_a_group_only_if_verified(
    database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider
) -> None:
    async with signed_in_site(database, keys, tmp_path, provider, claim="email") as site:
        for verified, status in ((False, 403), ("true", 403), (None, 403), (True, 200)):
            provider.claims |= {"email": "ops", "email_verified": verified}
            assert (await site.sign_in()).status_code == status, verified


async def test_a_client_secret_goes_in_the_header_and_pkce_beside_it(
    database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider
) -> None:
    async with signed_in_site(database, keys, tmp_path, provider, secret=Secret("s3:cret")) as site:
        assert (await site.sign_in("ops")).status_code == 200
        authorization, form = provider.asked[0]
        assert authorization.startswith("Basic ")
        assert sorted(form) == ["code", "code_verifier", "grant_type", "redirect_uri"]


async def test_cookies_are_http_only_and_bound(site: Site, provider: IdentityProvider) -> None:
    begun = await site.client.get("/sso/login")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(begun.headers["set-cookie"].split("; "))
    answer = await site.come_back(provider.authorize(begun.headers["location"]))
    fleet = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("fivrec-fleet="))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(fleet.split("; "))


async def test_a_session_ends_unused_and_after_eight_hours(
    database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider
) -> None:
    clock = Clock()
    async with signed_in_site(database, keys, tmp_path, provider, clock=clock) as site:
        await site.sign_in("ops")
        clock.ahead += timedelta(minutes=10)
        assert await is_in(site, refresh=True)  # a refresh by the page itself does not count as use
        clock.ahead += timedelta(minutes=6)
        assert not await is_in(site)
        await site.sign_in("ops")
        for _ in range(47):
            clock.ahead += timedelta(minutes=10)
            assert await is_in(site)
        clock.ahead += timedelta(minutes=11)
        assert not await is_in(site)


async def test_signing_out_ends_copies_of_the_cookie(site: Site) -> None:
    await site.sign_in("ops")
    copy = site.client.cookies["fivrec-fleet"]
    assert (await site.client.post("/logout", data={"csrf": "0" * 64})).status_code == 403
    assert (await site.client.post("/logout", data={"csrf": await site.csrf()})).status_code == 200
    site.client.cookies.set("fivrec-fleet", copy)
    assert not await is_in(site)


async def test_a_logout_without_issuer_ends_its_session(site: Site, provider: IdentityProvider) -> None:
    """As Entra ID sends it: with only a sid."""
    provider.claims["sid"] = "s-1"
    await site.sign_in("ops")
    await site.client.get("/sso/logout?sid=s-1")
    assert not await is_in(site)


async def test_the_providers_logout_ends_its_sessions_alone(site: Site, provider: IdentityProvider) -> None:
    provider.claims["sid"] = "s-1"
    await site.sign_in("ops")
    for query in (
        "",
        "?sid=s-2",
        "?iss=&sid=s-1",
        "?iss=https://evil.example&sid=s-1",
        f"?iss={provider.issuer}&sid=s-2",
    ):
        await site.client.get(f"/sso/logout{query}")
        assert await is_in(site), query
    await site.client.get(f"/sso/logout?iss={provider.issuer}&sid=s-1")
    assert not await is_in(site)


SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # claim; then more of the ID token, of the discovery document, and of the response
    "Keycloak": (
        "groups",
        {"groups": ["ops"], "typ": "ID", "azp": CLIENT_ID, "acr": "1", "sid": "s", "email_verified": False},
        {
            "authorization_response_iss_parameter_supported": True,
            "id_token_signing_alg_values_supported": ["PS384", "RS384", "EdDSA", "ES384", "HS256", "RS256"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "tls_client_auth"],
            "frontchannel_logout_supported": True,
        },
        {"session_state": "s"},
    ),
    "Entra ID": (
        "roles",
        {"roles": ["ops"], "ver": "2.0", "tid": "t", "oid": "o", "uti": "u", "rh": "r", "preferred_username": "a@b"},
        {
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "tenant_region_scope": "EU",
            "kerberos_endpoint": "https://login.microsoftonline.com/t/kerberos",
        },
        {"session_state": "s"},
    ),
    "Google": (
        "hd",
        {"hd": "ops", "azp": CLIENT_ID, "email": "ana@ops", "email_verified": True, "picture": "https://x"},
        {"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]},
        {"scope": "openid email", "authuser": "0", "hd": "ops", "prompt": "consent"},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
async def test_tokens_and_answers_as_real_providers_shape_them(
    name: str, database: Secret, keys: KeyRing, tmp_path: Path, provider: IdentityProvider
) -> None:
    """Beside the signing key are one for encryption, one with a certificate, and one of an unknown curve."""
    claim, claims, provider.metadata, answer = SHAPES[name]
    public = RSAKey.generate_key(2048, {"kid": "e"}).as_dict(private=False)
    provider.beside = [
        {**public, "use": "enc", "alg": "RSA-OAEP"},
        {**public, "kid": "x", "use": "sig", "x5t": "abc", "x5c": ["MII"], "cloud_instance_name": "x"},
        {"kty": "EC", "crv": "P-999", "kid": "n", "x": "AA", "y": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "m", "pub": "AA"},
    ]
    provider.claims = {"sub": "u-1", "name": "Ana Souza", **claims}
    secret = Secret("s3cret/+")
    async with signed_in_site(database, keys, tmp_path, provider, claim=claim, secret=secret) as site:
        given = site.provider.authorize(await site.begin())
        iss = {"iss": provider.issuer} if name == "Keycloak" else {}
        assert (await site.come_back({**given, **iss, **answer})).status_code == 200
        assert await is_in(site)


async def refused(site: Site, act: Callable[[], Awaitable[Any]]) -> bool:
    """Whether the attempt was refused with one uninformative sentence, and there is no session."""
    answer = await act()
    said = "This sign-in is not valid." in answer.text
    return answer.status_code == 403 and said and not site.client.cookies.get("fivrec-fleet") and not await is_in(site)


async def is_in(site: Site, *, refresh: bool = False) -> bool:
    headers = {"X-Fivrec-Refresh": "1"} if refresh else {}
    return (await site.client.get("/fleet/instances", headers=headers)).status_code == 200


async def _old_url(site: Site, given: dict[str, str]) -> str:
    """Returns the URL of a new consent that is not this browser's, as an attacker would have."""
    kept = dict(site.client.cookies)
    url = await site.begin()
    site.client.cookies.clear()
    for name, value in kept.items():
        site.client.cookies.set(name, value)
    return url


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead
