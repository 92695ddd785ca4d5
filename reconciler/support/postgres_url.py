"""What a database URL says, without connecting: whether it can be used, whether it holds a secret, which database it
means. libpq's own parser reads it, with libpq's defaults (PG* variables, service files). No message repeats a secret.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from reconciler.model.patterns import late
from reconciler.model.types import SURROGATES, is_embedded
from reconciler.support.network import parse_address

NOT_AN_INSTANCES: Final = frozenset({"postgres", "template0", "template1"})
"""The maintenance database and the templates: what is in a template is copied into every database made later."""

_URL: Final = late("postgres(?:ql)?://(.*)", re.DOTALL)
_CONTROL = late("[\x00-\x1f\x7f]")
_NO_ESCAPE = late("%(?![0-9A-Fa-f]{2})")
_KEY = late(r"(?:^|\s)(\w+)\s*=")
_SHOWN = late(
    "on|off|yes|no|true|false|enabled?|disabled?|required?|strict|any|always|never|verify|full|none|default|"
    "master|slave|leader|replica|primary|secondary|standby|writer|reader|read|write|database|logical|"
    "TLSv?[0-9.]*|SSLv?[0-9.]*|[0-9.]{1,6}",
    re.IGNORECASE,
)
"""Wrong values that may be repeated: a URL is a secret, and any other value may be part of a password."""

MOST_BYTES: Final = 63
"""The longest name. PostgreSQL cuts longer ones, so that two names may mean the same thing."""

_NUMBER = late(r"\s*[+-]?[0-9]{1,9}\s*")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_DERIVED: Final = frozenset({"scram_client_key", "scram_server_key"})
"""As good as the password, although libpq does not mark them as secret."""

_MODES = "disable", "prefer", "require"
_TLS_VERSIONS = "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"
_ONE_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "channel_binding": _MODES,
    "gssencmode": _MODES,
    "load_balance_hosts": ("disable", "random"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "replication": ("false", "off", "no", "0"),
}
_NUMBERS: Final = (
    *("connect_timeout", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
)
_FILES: Final = "passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"
_ANY_CASE: Final = frozenset({"ssl_min_protocol_version", "ssl_max_protocol_version", "replication"})
"""They may be empty, too."""

_TLS: Final = "TLS is chosen by sslmode"
_OF_OTHERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("schema", "currentSchema", "search_path"), "database.schema says where the tables are"),
    **dict.fromkeys(("pgbouncer", "workaround", "pool_mode", "supa"), "fivrec works through PgBouncer without it"),
    **dict.fromkeys(("ssl", "sslaccept", "sslidentity", "useSSL", "uselibpqcompat", "tls"), _TLS),
    **dict.fromkeys(("connectTimeout", "connection_timeout", "timeout", "loginTimeout"), "it is connect_timeout"),
    **dict.fromkeys(("ApplicationName", "charset", "encoding", "timezone", "TimeZone", "server_settings"), ""),
    **dict.fromkeys(("connection_limit", "pool_timeout", "pool_size", "max_overflow", "max", "min", "poolclass"), ""),
    **dict.fromkeys(("pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "async_fallback"), ""),
    **dict.fromkeys(("socket_timeout", "socketTimeout", "command_timeout", "statement_timeout", "lock_timeout"), ""),
    **dict.fromkeys(("statement_cache_size", "prepared_statement_cache_size", "default_query_exec_mode"), ""),
    **dict.fromkeys(("prepareThreshold", "prepared_statements", "binary_parameters", "reWriteBatchedInserts"), ""),
}
"""Parameters of Prisma, SQLAlchemy, asyncpg, node-postgres, JDBC and Go's drivers, with what to do instead."""

_PGSERVICE = threading.Lock()
"""Held by the thread that changes the variable PGSERVICE."""


_held: ContextVar[list[Mapping[str, str]] | None] = ContextVar("libpq's defaults, once asked for", default=None)


@contextmanager
def one_environment() -> Iterator[None]:
    """Within it libpq is asked for its defaults only once: thousands of URLs are read, all with the same defaults."""
    token = _held.set([])
    try:
        yield
    finally:
        _held.reset(token)


class Identity(NamedTuple):
    """Which database a URL leads to: equal for two URLs of one database, as far as text and environment show."""

    hosts: tuple[str, ...]
    ports: tuple[str, ...]
    name: str


def form_problem(url: str) -> str | None:
    """Returns why a text can't be used as a database URL, in words that follow "the database URL", or None."""
    if is_embedded(url):
        return "holds a NUL character" if "\x00" in url else None
    return _text_problem(url) or _misleading(url) or _reading_problem(url)


def _text_problem(url: str) -> str | None:
    if SURROGATES.search(url):
        return "is not UTF-8"
    if _CONTROL.search(url):
        return "holds a control character"
    if "://" in url.partition("=")[0] and not _URL.match(url):
        return "is not a postgresql:// URL"
    return None


def _reading_problem(url: str) -> str | None:
    own = _read(url)
    if own is None:
        return _unreadable(url)
    if not own:
        return "is not a postgresql:// URL"
    return next((f"has {words}" for words in _wrong_values(own, quotable=_quotable(url))), None)


def is_cut(name: str) -> bool:
    """Whether PostgreSQL would cut the name."""
    return len(name.encode(errors="replace")) > MOST_BYTES


def instance_problem(url: str) -> str | None:
    """Like `form_problem`, for a URL of an instance's own database."""
    if is_embedded(url):
        return form_problem(url)
    try:
        known = usable(url)
    except ValueError:
        return form_problem(url)  # None if it is the environment's fault
    name = database_of(known)
    if is_cut(name):
        return f"names a database by more than {MOST_BYTES} bytes, which PostgreSQL cuts there"
    return f'names the database "{name}", which is PostgreSQL\'s own' if name in NOT_AN_INSTANCES else None


def environment_problem(url: str) -> str | None:
    """Returns what is wrong with the settings that PG* variables or a service add to this URL, or None."""
    if is_embedded(url):
        return None
    own = _read(url) or {}
    known = _with_defaults(own)
    return _beside(own, known) if any(_wrong_values(known)) else None


def usable(url: str) -> dict[str, str]:
    """Returns the URL's parameters over those that libpq takes from service files, the environment and its defaults.
    Raises ValueError, in words for people, if no connection can be made with the URL."""
    if is_embedded(url):
        return {}
    own = None if _text_problem(url) or _misleading(url) else _read(url)
    known = _with_defaults(own) if own else {}
    if not known or any(_wrong_values(known)):
        if reason := form_problem(url):
            raise ValueError(f"the database URL {reason}")
        if reason := environment_problem(url):
            raise ValueError(reason)
    return known


def _beside(own: Mapping[str, str], known: Mapping[str, str]) -> str | None:
    in_url = set(_wrong_values(own))
    for words in _wrong_values(known):
        if words not in in_url:
            variable = _variables().get(re.split("[ ,=]", words, maxsplit=1)[0], "")
            return f"{variable if os.environ.get(variable) else 'the service file'}: {words}"
    return None


def is_patient(url: str) -> bool:
    """Whether the URL, PGCONNECT_TIMEOUT or a service says how long an attempt may take."""
    own = _read(url) or {}
    if "connect_timeout" in own or os.environ.get("PGCONNECT_TIMEOUT"):
        return True
    return ("service" in own or "PGSERVICE" in os.environ) and "connect_timeout" in _with_defaults(own)


def holds_password(url: str) -> bool:
    """Whether a URL contains a secret: a password, a key's passphrase, an OAuth client's secret."""
    return not is_embedded(url) and any(secrets_in(_read(url) or {}))


def secrets_in(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the values that must not be shown."""
    secret = secret_parameters()
    return tuple(value for key, value in settings.items() if value and key in secret)


@cache
def secret_parameters() -> frozenset[str]:
    """Returns the parameters whose values must not be shown, according to the installed libpq."""
    return _DERIVED | {one.name for one in _parameters() if one.secret}


def database_identity(url: str) -> Identity | None:
    """Returns None for the embedded server, which has a database per instance, and for a URL that can't be read."""
    own = None if is_embedded(url) or _misleading(url) else _read(url)
    if not own:
        return None
    known = _with_defaults(own)
    hosts = (known.get("hostaddr") or known.get("host") or "").split(",")
    ports = [port or "5432" for port in (known.get("port") or "").split(",")]
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return Identity(tuple(_plain_host(host) for host in hosts), tuple(ports), database_of(known))


def _with_defaults(own: Mapping[str, str]) -> dict[str, str]:
    return {**(_defaults_with(own["service"]) if own.get("service") else _defaults()), **own}


def database_of(known: Mapping[str, str]) -> str:
    """Returns the database's name from effective parameters: libpq uses the user's name if there is none."""
    return known.get("dbname") or known.get("user") or ""


def name_in(url: str) -> str:
    """Returns the database's name in the URL alone; "" if it has none, or can't be read."""
    return (_read(url) or {}).get("dbname", "")


def own_parameters(url: str) -> dict[str, str]:
    """Returns the URL's own parameters as libpq reads them; none if it can't."""
    return dict(_read(url) or {})


@lru_cache(maxsize=512)
def _read(url: str) -> Mapping[str, str] | None:
    """Returns the URL's own parameters as libpq reads them, or None if it can't."""
    from psycopg import Error, pq

    try:
        return {
            item.keyword.decode(): item.val.decode() for item in pq.Conninfo.parse(url.encode()) if item.val is not None
        }
    except (Error, UnicodeError):
        return None


def _defaults() -> Mapping[str, str]:
    """Returns what libpq uses if a URL says nothing, including the service of PGSERVICE."""
    held = _held.get()
    if held is None:
        return _defaults_now()
    if not held:
        held.append(_defaults_now())
    return held[0]


def _defaults_now() -> Mapping[str, str]:
    if os.environ.get("PGSERVICE"):
        return _ask_defaults()  # they come from a file, and files change
    return _known_defaults(tuple(map(os.environ.get, ("PGREQUIRESSL", *_variables().values()))))


@lru_cache(maxsize=8)
def _known_defaults(_: tuple[str | None, ...]) -> Mapping[str, str]:
    """Returns the defaults for variables with these values."""
    return _ask_defaults()


def _ask_defaults() -> dict[str, str]:
    from psycopg import pq

    return {
        item.keyword.decode(): item.val.decode(errors="surrogateescape")
        for item in pq.Conninfo.get_defaults()
        if item.val is not None
    }


@cache
def _variables() -> dict[str, str]:
    return {one.name: one.variable for one in _parameters() if one.variable}


def _defaults_with(service: str) -> Mapping[str, str]:
    """Like `_defaults`, for a service that the URL names: libpq resolves a service only through PGSERVICE."""
    with _PGSERVICE:
        before = os.environ.get("PGSERVICE")
        os.environ["PGSERVICE"] = service
        try:
            return _ask_defaults()
        finally:
            del os.environ["PGSERVICE"]
            if before is not None:
                os.environ["PGSERVICE"] = before


def _misleading(url: str) -> str | None:
    """Returns what is wrong with a URL that libpq reads differently than it looks: for libpq the user part ends at the
    first @ and contains no slash. What was meant as a password would become a host, a port or a database, and be shown.
    """
    found = _URL.match(url)
    if found is None:
        return None
    head, _, path = found[1].partition("/")
    user, at, places = head.partition("@")
    if "@" in places.partition("?")[0] or "@" in path.partition("?")[0]:
        return "has an @ too many before its parameters: in a user or password write @ as %40 and / as %2F"
    if at and "?" in user.partition(":")[0]:
        return "has parameters before an @: write a / before the ?, and a ? in a user or password as %3F"
    return None


def _unreadable(url: str) -> str:
    if not _URL.match(url) and "=" not in url:
        return "is not a postgresql:// URL"
    if _NO_ESCAPE.search(url) and _URL.match(url):
        return "can't be read: it has a % that is no escape such as %40"
    _, mark, query = url.partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)] if mark else _KEY.findall(url)
    other = next((name for name in names if name in _OF_OTHERS), None)
    if other is not None:
        instead = f": {_OF_OTHERS[other]}" if _OF_OTHERS[other] else ""
        return f"has the parameter {other}, which is another tool's{instead}"
    import difflib

    known = [one.name for one in _parameters()]
    unknown = [name[:100] for name in names if name not in known][:10]
    close = [found for name in unknown for found in difflib.get_close_matches(name, known, 1)]
    # An unknown name is not repeated: it may be part of a password.
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"can't be read: it has a parameter that PostgreSQL does not know{guess}, or a stray character"


class _Parameter(NamedTuple):
    name: str
    variable: str
    secret: bool


@cache
def _parameters() -> tuple[_Parameter, ...]:
    """Returns the parameters of the installed libpq."""
    from psycopg import pq

    return tuple(
        _Parameter(one.keyword.decode(), (one.envvar or b"").decode(), one.dispchar == b"*")
        for one in pq.Conninfo.get_defaults()
    )


def _quotable(url: str) -> bool:
    """Whether what libpq reads as a port certainly is one: without an @, it may be a password."""
    return not _URL.match(url) or "@" in url


def _wrong_values(settings: Mapping[str, str], *, quotable: bool = True) -> Iterator[str]:
    """Yields words about each setting that libpq would refuse, which begin with its name."""
    for name, allowed in _ONE_OF.items():
        value = settings.get(name)
        if value is None or value in allowed or (not value and name in _ANY_CASE):
            continue
        if name in _ANY_CASE and value.lower() in {one.lower() for one in allowed}:
            continue
        yield f"{name}{_quoted(value)}, which is not one of {', '.join(allowed)}"
    for name in _NUMBERS:
        if name in settings and not _NUMBER.fullmatch(settings[name]):
            yield f"{name}{_quoted(settings[name])}, which is not a whole number"
    yield from _wrong_places(settings, quotable=quotable)
    yield from _wrong_files(settings)
    if settings.get("sslrootcert") == "system" and settings.get("sslmode", "prefer") not in ("prefer", "verify-full"):
        yield "sslrootcert=system, which only works with sslmode=verify-full"


def _wrong_files(settings: Mapping[str, str]) -> Iterator[str]:
    for name in _FILES:
        if name in settings and _could_block(settings[name]):
            yield f"{name}, which is neither a regular file nor {os.devnull}"
    if settings.get("sslkeylogfile"):
        yield "sslkeylogfile, which would write the connection's keys to a file"
    engine, colon, _ = settings.get("sslkey", "").partition(":")
    if colon and "/" in engine:  # OpenSSL would load that file as its own code
        yield "sslkey, which names an engine by a path"


def _could_block(path: str) -> bool:
    """Whether a pipe or device is there: libpq opens it in a call that neither a timeout nor a signal ends."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or path == os.devnull)


def _wrong_places(settings: Mapping[str, str], *, quotable: bool) -> Iterator[str]:
    hosts, addresses, ports = ((settings.get(name) or "").split(",") for name in ("host", "hostaddr", "port"))
    for host in hosts:
        if "@" in host[1:] or "://" in host:
            yield "host with an @ or a URL in it, which no host has"
    if "://" in settings.get("dbname", ""):
        yield "dbname with a URL in it, which is not read as one"
    for port in ports:
        if port and not (port.strip().isdecimal() and 1 <= int(port) <= 65535):  # noqa: PLR2004 (the highest port)
            shown = _quoted(port) if quotable and port.strip().isdecimal() else ""
            yield f"port{shown}, which is not a port: 1 to 65535"
    for address in addresses:
        if address and parse_address(address) is None:
            yield "hostaddr, which is not an IP address"
    places = len(addresses) if settings.get("hostaddr") else len(hosts)
    if settings.get("hostaddr") and settings.get("host") and len(hosts) != len(addresses):
        yield f"host and hostaddr, which do not name as many: {len(hosts)} and {len(addresses)}"
    elif len(ports) > 1 and len(ports) != places and ("host" in settings or "hostaddr" in settings):
        yield f"port, {len(ports)} of them for {places} {'host' if places == 1 else 'hosts'}"


def _quoted(value: str) -> str:
    return f' "{value}"' if _SHOWN.fullmatch(value) else ""


def _plain_host(host: str) -> str:
    """Returns a host in one spelling: all names of loopback are one; a final dot and a socket's links don't count."""
    if host.startswith("/"):
        return os.path.realpath(host)
    bare = host.strip("[]").lower().removesuffix(".")
    address = parse_address(bare)
    plain = str(address) if address is not None else bare
    return "127.0.0.1" if plain in _LOOPBACK else plain
