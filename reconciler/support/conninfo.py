"""The parameters for connecting to PostgreSQL: the URL's, and those that fivrec adds. Makes no connection.

TLS is required except on loopback: sslmode is raised to require if the URL or PGSSLMODE leave it open, and `disable` is
refused. What libpq would take from PG* variables and service files counts too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg.conninfo import timeout_from_conninfo

from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.secret import Secret
from reconciler.support.network import parse_address
from reconciler.support.postgres_url import database_identity, database_of, own_parameters, secrets_in, usable

_CHANCE = ("allow", "prefer", "")
SOCKET: Final = "this machine's socket"
_LEAST_S: Final = 2
"""psycopg's minimum per attempt."""


def effective(url: Secret) -> dict[str, str]:
    """Returns the URL's parameters over those that libpq takes from service files, the environment and its defaults.

    Raises MissingSetting `database_url`, without any part of a secret, if no connection could be made with them.
    """
    try:
        return usable(url.reveal())
    except ValueError as exc:
        hint = "write it as postgresql://user@host:5432/name, special characters as %40 and the like"
        raise MissingSetting(str(exc), code="database_url", hint=hint) from None


def secrets_of(url: Secret) -> tuple[str, ...]:
    """Returns what no message may repeat of a URL and the variables beside it."""
    return secrets_in(effective(url))


def server_identity(url: Secret) -> tuple[str, str, str]:
    """Returns (host, port, database) that the URL leads to, as text; several hosts and ports with commas."""
    found = database_identity(url.reveal())
    if found is None:
        effective(url)  # says why
        raise AssertionError
    ports = dict.fromkeys(found.ports)
    return ",".join(found.hosts), ",".join(ports if len(ports) == 1 else found.ports), found.name


def server_shown(url: Secret) -> str:
    """Returns host and port for messages, spelled as they were given; several hosts and ports with commas."""
    known = effective(url)
    host = known.get("hostaddr") or known.get("host") or SOCKET
    ports = dict.fromkeys(port or "5432" for port in known.get("port", "").split(","))
    return f"{host}:{','.join(ports)}"


def database_name(url: Secret) -> str:
    return database_of(effective(url))


def is_local(known: Mapping[str, str]) -> bool:
    """Whether every address is a Unix socket or loopback."""
    hosts = (known.get("hostaddr") or known.get("host") or "").split(",")
    return all(_is_local_host(host) for host in hosts)


def _is_local_host(host: str) -> bool:
    if host == "" or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    address = parse_address(host.strip("[]"))
    return address is not None and address.is_loopback


def parameters(url: Secret, *, connect_s: int, application_name: str, dbname: str | None = None) -> dict[str, Any]:
    """Returns what to connect with. The URL's settings win, except a TLS mode that is too weak for its host."""
    known = effective(url)
    chosen: dict[str, Any] = own_parameters(url.reveal())
    if not is_local(known):
        chosen["sslmode"] = _sslmode(known.get("sslmode", ""))
        if known.get("sslrootcert") == "system":  # libpq accepts no weaker mode with it
            chosen["sslmode"] = "verify-full"
    fallbacks = {
        "connect_timeout": known.get("connect_timeout") or str(connect_s),
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


def spread(chosen: Mapping[str, Any], places: Sequence[Mapping[str, Any]], seconds: float | None) -> dict[str, Any]:
    """Returns the parameters for attempts at these places (psycopg's, with host names resolved). The attempts share
    `seconds`, if given: otherwise a silent first one would use up the time of the others."""
    found = dict(chosen)
    if all(place.get("hostaddr") for place in places):
        for key in ("host", "hostaddr", "port"):
            values = [str(place.get(key) or "") for place in places]
            if any(values):
                found[key] = ",".join(values)
    if seconds is not None:
        each = max(_LEAST_S, int(seconds // max(len(places), 1)))
        found["connect_timeout"] = str(min(each, int(found["connect_timeout"])))
    return found


def attempts_s(chosen: Mapping[str, Any], places: int) -> float:
    """Returns how long all attempts may take, one after the other, plus a second."""
    return max(places, 1) * timeout_from_conninfo(dict(chosen)) + 1.0


def _sslmode(mode: str) -> str:
    if mode == "disable":
        raise DatabaseError(
            "sslmode=disable is refused for a database that is not on this machine",
            code="database_insecure",
            hint="take sslmode=disable out of the URL or PGSSLMODE; verify-full with sslrootcert is best",
        )
    return "require" if mode in _CHANCE else mode
