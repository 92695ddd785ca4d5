"""What a database URL says, without connecting: its form, whether it holds a password, which database it means. Pure.

Both of libpq's forms are read: postgresql://… and key=value (PostgreSQL documentation, 34.1.1).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from reconciler.model.types import SURROGATES, is_embedded

_SCHEMES: Final = ("postgresql", "postgres")
_SECRET_KEYS: Final = frozenset({"password", "sslpassword", "passphrase"})
_PAIR = re.compile(r"\s*([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


class Identity(NamedTuple):
    """Which database a URL means, as far as the URL itself says."""

    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    name: str


def form_problem(url: str) -> str | None:
    """Why a text is no database URL, or None. The words never repeat the text: it may hold a password."""
    if is_embedded(url):
        return "holds a NUL character" if "\x00" in url else None
    if SURROGATES.search(url):
        return "is not UTF-8"
    if any(ord(char) < ord(" ") or char == "\x7f" for char in url):
        return "holds a control character"
    return None if _settings(url) is not None else "is no postgresql:// URL"


def holds_password(url: str) -> bool:
    settings = None if is_embedded(url) else _settings(url)
    return settings is not None and any(settings.get(key) for key in _SECRET_KEYS)


def database_identity(url: str) -> Identity | None:
    """None for the embedded server, which keeps a database an instance, and for what is no URL."""
    settings = None if is_embedded(url) else _settings(url)
    if settings is None:
        return None
    names = (settings.get("hostaddr") or settings.get("host", "")).lower().split(",")
    hosts = tuple("localhost" if host in _LOOPBACK else host for host in names)
    ports = tuple(port or "5432" for port in settings.get("port", "").split(","))
    return Identity(hosts, ports, settings.get("dbname") or settings.get("user", ""))


def _settings(url: str) -> dict[str, str] | None:
    scheme, colon, _ = url.partition("://")
    if colon and scheme in _SCHEMES:
        return _settings_of_url(url)
    return None if colon and "=" not in scheme else _settings_of_pairs(url)


def _settings_of_url(url: str) -> dict[str, str] | None:
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return None
    userinfo, _, places = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    pairs = [_host_and_port(place) for place in places.split(",")]
    if parts.fragment or not all(port.isdigit() or not port for _, port in pairs):
        return None
    settings = {
        "user": unquote(user),
        "password": unquote(password),
        "host": ",".join(host for host, _ in pairs),
        "port": ",".join(port for _, port in pairs),
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    return {key: value for key, value in settings.items() if value.strip(",")} | dict(query)


def _host_and_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, rest = place.partition("]")
        return host + "]", rest.removeprefix(":")
    host, _, port = place.partition(":")
    return unquote(host), port


def _settings_of_pairs(text: str) -> dict[str, str] | None:
    settings: dict[str, str] = {}
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        pair = _PAIR.match(stripped, position)
        if pair is None:
            return None
        value = pair[2][1:-1] if pair[2].startswith("'") else pair[2]
        settings[pair[1]] = re.sub(r"\\(.)", r"\1", value)
        position = pair.end()
    return settings or None
