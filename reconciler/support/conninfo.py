"""A database URL taken apart: where it leads, and the parameters that fivrec connects with. Makes no connection.

Off loopback TLS is a must: sslmode is raised to require where the URL or PGSSLMODE leave it to chance, and `disable`
is refused. What libpq would take from PG* variables and service files counts as well.
"""

from __future__ import annotations

import ipaddress
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret

_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_CHANCE = ("allow", "prefer", "")
_PGSERVICE = threading.Lock()
"""Of whoever changes that variable."""


def parse(url: Secret) -> dict[str, Any]:
    """The URL's own parameters. DatabaseError without its text: a broken URL may hold a password anywhere."""
    try:
        return conninfo_to_dict(url.reveal())
    except (ProgrammingError, UnicodeEncodeError):  # the second: bytes that are no UTF-8
        raise DatabaseError(
            "the database URL can't be read",
            code="database_url",
            hint="write it as postgresql://user@host:5432/name, special characters as %40 and the like",
        ) from None


def unreadable(url: str) -> str | None:
    """Why libpq can't read a URL that has the form of one (`form_problem`), or None. The words repeat nothing of it."""
    try:
        conninfo_to_dict(url)
    except (ProgrammingError, UnicodeEncodeError):
        known = "a parameter that PostgreSQL does not know, or a stray character"
        return f"can't be read: it has {'a % that is no escape such as %40' if _NO_ESCAPE.search(url) else known}"
    return None


def effective(url: Secret) -> dict[str, str]:
    """The URL's parameters over those that libpq takes from service files, the environment and its own defaults."""
    own = {key: str(value) for key, value in parse(url).items()}
    return {**(_defaults_with(own["service"]) if "service" in own else _defaults()), **own}


def _defaults() -> dict[str, str]:
    """What libpq takes where a URL says nothing, with what PGSERVICE stands for."""
    return {item.keyword.decode(): item.val.decode() for item in pq.Conninfo.get_defaults() if item.val is not None}


def _defaults_with(service: str) -> dict[str, str]:
    """As `_defaults`, for a service that the URL names: libpq tells what one stands for by PGSERVICE alone."""
    with _PGSERVICE:
        before = os.environ.get("PGSERVICE")
        os.environ["PGSERVICE"] = service
        try:
            return _defaults()
        finally:
            del os.environ["PGSERVICE"]
            if before is not None:
                os.environ["PGSERVICE"] = before


def database_identity(url: Secret) -> tuple[str, str, str]:
    """(host, port, database) that the URL leads to: equal for two URLs of one database, as far as text can tell."""
    known = effective(url)
    host = (known.get("hostaddr") or known.get("host") or "").lower()
    host = "127.0.0.1" if host in ("localhost", "::1") else host
    return host, known.get("port") or "5432", _name(known)


def database_name(url: Secret) -> str:
    return _name(effective(url))


def _name(known: Mapping[str, str]) -> str:
    return known.get("dbname") or known.get("user") or ""


def is_local(known: Mapping[str, str]) -> bool:
    """Whether every address is a Unix socket or loopback."""
    hosts = (known.get("hostaddr") or known.get("host") or "").split(",")
    return all(_is_local_host(host) for host in hosts)


def _is_local_host(host: str) -> bool:
    if host == "" or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parameters(url: Secret, *, connect_s: int, application_name: str, dbname: str | None = None) -> dict[str, Any]:
    """What to connect with. Settings of the URL stand, but for a TLS mode that is too weak for where it leads."""
    known = effective(url)
    chosen: dict[str, Any] = parse(url)
    if not is_local(known):
        chosen["sslmode"] = _sslmode(known.get("sslmode", ""))
    fallbacks = {
        "connect_timeout": str(connect_s),
        "gssencmode": "disable",  # asking for GSSAPI first costs a round trip
        "keepalives": "1",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }
    if known.get("gssencmode") == "require":
        del fallbacks["gssencmode"]
    for key, value in fallbacks.items():
        chosen.setdefault(key, value)
    chosen["application_name"] = application_name
    # All text is Unicode here, whatever encoding the database has, or a role or PGCLIENTENCODING asks for.
    chosen["client_encoding"] = "UTF8"
    if dbname is not None:
        chosen["dbname"] = dbname
    return chosen


def _sslmode(mode: str) -> str:
    if mode == "disable":
        raise DatabaseError(
            "sslmode=disable is refused for a database that is not on this machine",
            code="database_insecure",
            hint="take sslmode=disable out of the URL or PGSSLMODE; verify-full with sslrootcert is best",
        )
    return "require" if mode in _CHANCE else mode
