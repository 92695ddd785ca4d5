"""oidc: which addresses of an identity provider are asked."""

from __future__ import annotations

import pytest

from reconciler.model.errors import UsageError
from reconciler.web.oidc import check_issuer, is_safe_url


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://id.example/realms/fiv", True),
        ("http://127.0.0.1:8080/", True),
        ("http://localhost/", True),
        ("http://id.example/", False),
        ("http://127.0.0.1.id.example/", False),
        ("ftp://127.0.0.1/", False),
        ("https://ana@id.example/", False),
        ("https://@id.example/", False),
        ("https:///realms", False),
        ("id.example", False),
    ],
)
def test_a_provider_is_asked_by_https_or_on_this_machine(url: str, safe: bool) -> None:
    assert is_safe_url(url) is safe
    if safe:
        check_issuer(url)
    else:
        with pytest.raises(UsageError):
            check_issuer(url)


@pytest.mark.parametrize("rest", ["?a=b", "#a"])
def test_an_issuer_has_no_query_and_no_fragment(rest: str) -> None:
    with pytest.raises(UsageError):
        check_issuer(f"https://id.example/{rest}")
