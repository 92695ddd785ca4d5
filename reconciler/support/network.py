"""Which URLs and network addresses Fi.V Connect may have. Pure: nothing is resolved here.

A manifest must not be able to point fivrec, which sends instance keys, at a cloud's metadata service or at a neighbour
on the link. Private addresses are allowed: panels often run inside a company's own network.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from reconciler.model.records import dataclass

METADATA_ADDRESSES = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})
METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "metadata"})
_NAT64 = IPv6Network("64:ff9b::/96")
USUAL_PORTS = {"https": 443, "http": 80}
_LOCALHOST = frozenset({"localhost", "localhost."})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL's parts as a connection needs them."""

    scheme: str
    host: str
    port: int


@lru_cache(maxsize=64)  # the instances of a fleet name one or a few
def url_problem(url: str, *, production: bool) -> str | None:
    """Returns what is wrong with a Connect URL, or None. Never repeats the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    problem = None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        problem = "is not an https:// URL with a host"
    elif "@" in parts.netloc:
        problem = "holds a user name or password; the instance key is sent in headers"
    elif parts.query or parts.fragment or url.endswith(("?", "#")):
        problem = "has a query or a fragment"
    elif port == 0 or not _is_plain(url):
        problem = "has a port or characters that no address has"
    return problem or _host_problem(parts, parts.hostname or "", production=production)


def url_hint(url: str) -> str | None:
    """Returns how to write a URL's host in ASCII, if that is what is wrong with it. Shows only the URL's host."""
    host = urlsplit(url).hostname if "@" not in url and "\\" not in url else None
    if not host or host.isascii():
        return None
    import idna  # httpx has it

    try:
        return f"write the host as {idna.encode(host, uts46=True).decode('ascii')}"
    except idna.IDNAError:
        return None


def endpoint_of(url: str) -> Endpoint | None:
    """Returns where a URL leads; None if it is not an https:// or http:// URL with a host and at most a path."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return None
    if parts.scheme not in USUAL_PORTS or not host or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    return Endpoint(parts.scheme, host, USUAL_PORTS[parts.scheme] if port is None else port)


def _host_problem(parts: SplitResult, host: str, *, production: bool) -> str | None:
    literal = parse_address(host)
    reason = "a metadata service" if host in METADATA_NAMES else literal and address_problem(literal)
    if reason:
        return f"names {reason}"
    if parts.scheme == "https":
        return None
    if not (is_loopback(literal) if literal is not None else host in _LOCALHOST):
        return "uses http:// to another machine; use https://"
    return "uses http://, which production does not allow; use https://" if production else None


@lru_cache(maxsize=64)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def address_problem(address: IPv4Address | IPv6Address) -> str | None:
    """Returns why a resolved address is refused, in words that follow "resolves to", or None."""
    inner = _inner(address)
    if str(inner) in METADATA_ADDRESSES:
        return "a metadata service"
    if inner.is_link_local:
        return "a link-local address"
    if inner.is_multicast:
        return "a multicast address"
    if inner.is_unspecified or (isinstance(inner, IPv4Address) and inner.packed[0] == 0):
        return "an unspecified address"
    if isinstance(inner, IPv4Address) and inner.is_reserved:
        return "a reserved address"
    return None


def is_loopback(address: IPv4Address | IPv6Address) -> bool:
    return _inner(address).is_loopback


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Returns the IPv4 address inside an IPv6 one (mapped, 6to4, NAT64), else the address without its zone."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or IPv6Address(address.packed)


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and not any(mark in url for mark in ' \\"<>')
