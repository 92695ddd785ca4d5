"""Refused connections in fivrec's words, with the server's own words if it answered.

Never passes on libpq's own text, which may quote the URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg import errors

from reconciler.database.errors import DISK_FULL, NO_CONNECTION, STARTING, masked
from reconciler.model.errors import DatabaseError
from reconciler.model.patterns import late

_SERVICE = late('definition of service "|service file "')
_OTHER_SESSIONS = ("session is read-only", "session is not read-only", "in hot standby mode")
"""What libpq says about a server that target_session_attrs skips."""

_SETTING = late(r"invalid (\w+) value|invalid (SCRAM \w+ key)|weak sslmode")
"""libpq's words before it tries to connect; what follows may quote the value."""

_NAMELESS = "local user"
"""libpq's message if the URL has no user and the uid of the process has no name, as in containers with a random uid."""

_DEMANDS = (
    ("GSSAPI", "gssencmode", "PGGSSENCMODE"),
    ('"min_protocol_version"', "min_protocol_version", "PGMINPROTOCOLVERSION"),
)
"""What libpq says about a setting that can't be met, the setting, and its variable."""

_SERVERS = late(r"(?:^|: )[^\s:]{2,}:  (\S.*)", re.MULTILINE)
"""Finds the server's own words in libpq's text: they follow a severity, in any language, and two spaces."""


class _Refusal(NamedTuple):
    """A server's reason to refuse a session, recognised by English words in its message: libpq doesn't pass on the
    SQLSTATE of a failed connection. `sqlstate` is empty for words of poolers, which use codes of their own."""

    pattern: str
    sqlstate: str
    code: str
    words: str
    hint: str


_LOGIN = (
    "check the user and password of the database URL, and whether the password has expired (rolvaliduntil of pg_roles)"
)
_REFUSALS: Final = (
    _Refusal('role "[^"]*" does not exist', "28000", code="database_auth", words="", hint=_LOGIN),
    _Refusal("password authentication failed", "28P01", code="database_auth", words="", hint=_LOGIN),
    _Refusal(
        "is not permitted to log in",
        "28000",
        code="database_auth",
        words="",
        hint="ALTER ROLE … LOGIN, or take another login in the database URL",
    ),
    _Refusal(
        r"pg_hba\.conf",
        "28000",
        code="database_auth",
        words="the server's pg_hba.conf lets {user} in neither with nor without TLS from here",
        hint="check sslmode and pg_hba.conf",
    ),
    _Refusal("sasl authentication failed|no such user", "", code="database_auth", words="", hint=_LOGIN),
    _Refusal("authentication", "28000", code="database_auth", words="", hint=_LOGIN),
    _Refusal(
        "permission denied for database",
        "42501",
        code="database_denied",
        words="{user} may not connect to the database",
        hint="GRANT CONNECT ON DATABASE … TO the login",
    ),
    _Refusal("is starting up|is shutting down|in recovery mode|not yet accepting connections", "57P03", *STARTING),
    _Refusal("could not write init file|no space left on device", "53100", *DISK_FULL),
    _Refusal(
        "too many connections for role",
        "53300",
        code="too_many_connections",
        words="the login has all the connections that it may have",
        hint="ALTER ROLE … CONNECTION LIMIT, or lower --forks and --keep-connections of what uses this login",
    ),
    _Refusal(
        "too many connections for database",
        "53300",
        code="too_many_connections",
        words="the database has all the connections that it may have",
        hint="ALTER DATABASE … CONNECTION LIMIT, or end what else is connected to it",
    ),
    _Refusal("too many connections|too many clients|remaining connection slots", "53300", *NO_CONNECTION),
    _Refusal(
        "no more connections allowed|max client connections|too many database connections",
        "",
        code="too_many_connections",
        words="the pooler has no free connection",
        hint="lower --forks, or raise the pooler's limit",
    ),
    _Refusal(
        "is not currently accepting connections",
        "55000",
        code="database_unreachable",
        words="the database is closed",
        hint="ALTER DATABASE … ALLOW_CONNECTIONS true, if it is meant to be open",
    ),
)


def connect_error(exc: psycopg.Error, where: str, user: str, secrets: Sequence[str] = ()) -> DatabaseError:
    """Returns the error for a failed connection, by the server's words if it answered, else by libpq's; with code
    `database_error` if the server's words are unknown here. Leaves out libpq's text, which may quote the URL."""
    text = str(exc)
    found = _SERVERS.search(text)
    if found is None:
        return _libpq_error(exc, text, where)
    primary = masked(found[1], secrets)
    if says_missing(primary):
        return missing(where)
    known = next((one for one in _REFUSALS if re.search(one.pattern, primary, re.IGNORECASE)), None)
    if known is None:
        said = f"{where}: the server refused the connection: {primary}"
        return DatabaseError(said, hint="it is the server, or the pooler or cloud in front of it, that says so")
    words = (known.words or "the server does not let {user} in").format(user=user)
    state = f" (SQLSTATE {known.sqlstate})" if known.sqlstate else ""
    return DatabaseError(f"{where}: {words}: {primary}{state}", code=known.code, hint=known.hint)


_CERTIFICATE: Final = {
    "certificate verify failed": (
        "the server's certificate is not trusted, or has expired",
        "compare its dates with this machine's clock; if they are right, give its CA by sslrootcert",
    ),
    "does not match host name": (
        "the server's certificate is for another name",
        "give the database URL the host that the certificate names",
    ),
}
"""What libpq says about a server's certificate: it says the same of an expired one and of one that nobody knows."""
_NO_TLS: Final = (
    "no TLS connection could be made",
    "the server needs TLS (ssl = on); for verify-full give its CA by sslrootcert",
)


def _libpq_error(exc: psycopg.Error, text: str, where: str) -> DatabaseError:
    """Returns the error for what failed on our side of the wire."""
    if "no password supplied" in text:
        return DatabaseError(f"{where}: the server asks for a password", code="database_auth", hint=_LOGIN)
    if _SERVICE.search(text) or _SETTING.search(text) or _NAMELESS in text:
        return _url_error(where, text)
    if "authentication" in text or "channel binding" in text:
        said = "the server and this client can't agree on a way to log in"
        hint = "check require_auth and channel_binding of the database URL, and PGREQUIREAUTH and PGCHANNELBINDING"
        return DatabaseError(f"{where}: {said}", code="database_auth", hint=hint)
    if (demand := _demand_error(text, where)) is not None:
        return demand
    if "SSL" in text or "certificate" in text or "root.crt" in text:
        said, hint = next((words for part, words in _CERTIFICATE.items() if part in text), _NO_TLS)
        return DatabaseError(f"{where}: {said}", code="database_tls", hint=hint)
    return DatabaseError(
        f"{where}: can't be reached{_why(exc, text)}",
        code="database_unreachable",
        hint="check that the server runs there, and the host and port of the database URL",
    )


def _demand_error(text: str, where: str) -> DatabaseError | None:
    """Returns the error if a server answers, but doesn't meet what the URL or a variable demands; else None."""
    if any(words in text for words in _OTHER_SESSIONS):
        said = "no server there matches target_session_attrs"
        hint = (
            "while a standby takes over, run again when it has; else name a server that fits it, "
            "or take target_session_attrs out of the URL or PGTARGETSESSIONATTRS"
        )
        return DatabaseError(f"{where}: {said}", code="database_unreachable", hint=hint)
    for words, setting, variable in _DEMANDS:
        if words in text:
            said = f"{where}: {setting} asks for what this server, or this client, does not offer"
            hint = f"take {setting} out of the URL, or {variable} out of the environment"
            return DatabaseError(said, code="database_unreachable", hint=hint)
    return None


def _url_error(where: str, text: str) -> DatabaseError:
    """Names a service, which is no secret; the path of its file, or a value, may be one."""
    if _NAMELESS in text:
        said = f"{where}: no user is named, and the one that this process runs as has no name"
        return DatabaseError(said, code="database_url", hint="name one in the database URL, or by PGUSER")
    if setting := _SETTING.search(text):
        said = f"libpq does not take the value of {setting[1] or setting[2] or 'sslnegotiation with this sslmode'}"
        hint = "correct it in the database URL, or in the PG… variable that it comes from"
        return DatabaseError(f"{where}: {said}", code="database_url", hint=hint)
    named = re.search('definition of service "([^"]*)" not found', text)
    said = f'the service "{named[1]}" is in no service file' if named else "no service file can be read"
    return DatabaseError(
        f"{where}: {said}",
        code="database_url",
        hint="see ~/.pg_service.conf, or what PGSERVICEFILE names; the service comes from the URL or PGSERVICE",
    )


def says_missing(text: str) -> bool:
    return ('database "' in text and "does not exist" in text) or "no such database" in text


def missing(where: str) -> DatabaseError:
    return DatabaseError(
        f"{where} does not exist",
        code="database_missing",
        hint="create it, or set database.create to true and run `fivrec apply`",
    )


def _why(exc: psycopg.Error, text: str) -> str:
    if isinstance(exc, errors.ConnectionTimeout) or "timeout expired" in text:
        return ": no answer in time"
    for reason in ("Connection refused", "No such file or directory", "Network is unreachable", "No route to host"):
        if reason in text:
            return f": {reason.lower()}"
    if "resolve" in text or "Name or service not known" in text or "name resolution" in text:
        return ": the host's name can't be resolved"
    return ""
