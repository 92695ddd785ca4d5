"""Which URLs and addresses Connect may have."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from reconciler.model.kinds.config import canonical_url
from reconciler.support.network import Endpoint, address_problem, endpoint_of, is_loopback, url_hint, url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://connect.fiv-app.com",
        "https://connect.fiv-app.com:8443/base/",
        "https://10.1.2.3",
        "https://192.168.1.9",
        "https://127.0.0.1:8443",
        "https://[::1]:8443",
        "https://[fd12::9]",
        "https://xn--caf-dma.example",
    ],
)
@pytest.mark.parametrize("production", [True, False])
def test_https_to_names_private_and_loopback_addresses_is_fine(url: str, production: bool) -> None:
    assert url_problem(url, production=production) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]", "http://127.9.9.9"])
def test_plain_http_is_for_loopback_outside_production(url: str) -> None:
    assert url_problem(url, production=False) is None
    assert url_problem(url, production=True) == "uses http://, which production does not allow; use https://"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://connect.fiv-app.com", "uses http:// to another machine"),
        ("http://10.0.0.1", "uses http:// to another machine"),
        ("http://127.0.0.1.evil.example", "uses http:// to another machine"),
        ("http://localhost.evil.example", "uses http:// to another machine"),
        ("https://user:canary@host.example", "user name or password"),
        ("https://canary@host.example", "user name or password"),
        ("https://host.example/?key=canary", "query or a fragment"),
        ("https://host.example/#canary", "query or a fragment"),
        ("https://host.example?", "query or a fragment"),
        ("https://host.example:0", "a port or characters"),
        ("https://host.example:99999", "not a URL"),
        ("https://host.example:x", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://host example", "a port or characters"),
        ("https://host\\.example", "a port or characters"),
        ("https://café.example", "a port or characters"),
        ("ftp://host.example", "not an https:// URL"),
        ("file:///etc/passwd", "not an https:// URL"),
        ("https://", "not an https:// URL"),
        ("connect.fiv-app.com", "not an https:// URL"),
        ("", "not an https:// URL"),
        ("https://169.254.169.254/latest", "names a metadata service"),
        ("https://[::ffff:169.254.169.254]", "names a metadata service"),
        ("https://[fd00:ec2::254]", "names a metadata service"),
        ("https://100.100.100.200", "names a metadata service"),
        ("https://metadata.google.internal", "names a metadata service"),
        ("https://169.254.1.1", "names a link-local address"),
        ("https://[fe80::1]", "names a link-local address"),
        ("https://224.0.0.1", "names a multicast address"),
        ("https://0.0.0.0", "names an unspecified address"),
        ("https://[::]", "names an unspecified address"),
    ],
)
def test_other_urls_are_refused_without_being_repeated(url: str, said: str) -> None:
    problem = url_problem(url, production=False)
    assert problem is not None
    assert said in problem
    assert "canary" not in problem


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("93.184.216.34", None),
        ("10.0.0.1", None),
        ("100.64.0.1", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("2606:2800:220:1::1", None),
        ("64:ff9b::5db8:d822", None),
        ("169.254.169.254", "a metadata service"),
        ("::ffff:169.254.169.254", "a metadata service"),
        ("64:ff9b::a9fe:a9fe", "a metadata service"),
        ("2002:a9fe:a9fe::1", "a metadata service"),
        ("fd00:ec2::254", "a metadata service"),
        ("100.100.100.200", "a metadata service"),
        ("169.254.0.1", "a link-local address"),
        ("fe80::1%eth0", "a link-local address"),
        ("239.1.1.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("0.0.0.0", "an unspecified address"),
        ("0.1.2.3", "an unspecified address"),
        ("::", "an unspecified address"),
        ("255.255.255.255", "a reserved address"),
        ("240.0.0.1", "a reserved address"),
    ],
)
def test_resolved_addresses_are_judged_by_what_they_lead_to(address: str, reason: str | None) -> None:
    assert address_problem(ip_address(address)) == reason


def test_a_url_of_scheme_host_and_path_leads_to_its_port() -> None:
    assert endpoint_of("https://h.example/base") == Endpoint("https", "h.example", 443)
    assert endpoint_of("http://127.0.0.1:0?") == Endpoint("http", "127.0.0.1", 0)


@pytest.mark.parametrize(
    "url",
    [
        *("https://h.example/?a=b", "https://h.example/#a", "https://u@h.example", "ftp://h.example", "https://"),
        *("https://h.example:x", "h.example"),
    ],
)
def test_any_other_url_leads_nowhere(url: str) -> None:
    assert endpoint_of(url) is None


def test_loopback_is_seen_through_ipv6() -> None:
    assert [is_loopback(ip_address(text)) for text in ("127.0.0.2", "::1", "::ffff:127.0.0.1", "10.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://café.example/base", "write the host as xn--caf-dma.example"),
        ("https://straße.example:8443", "write the host as xn--strae-oqa.example"),
        ("https://CAFÉ.example", "write the host as xn--caf-dma.example"),
        ("https://user:canary@café.example", None),
        ("https://plain.example", None),
        ("https://\u200b.example", None),
    ],
)
def test_an_international_host_is_hinted_at_in_ascii(url: str, hint: str | None) -> None:
    assert url_hint(url) == hint


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://h", "https://h"),
        ("https://h/", "https://h"),
        ("HTTPS://H:443//", "https://h"),
        ("https://h:8443/", "https://h:8443"),
        ("https://h/Base/", "https://h/Base"),
        ("https://[::1]:443/", "https://[::1]"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("embedded:", "embedded:"),
        ("embedded:panel/", "embedded:panel/"),
        ("https://h:x", "https://h:x"),
        ("", ""),
    ],
)
def test_spellings_of_one_address_are_one(url: str, same: str) -> None:
    assert canonical_url(url) == same
