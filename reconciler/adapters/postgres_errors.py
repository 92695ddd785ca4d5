"""PostgreSQL's errors in fivrec's words. Holds no DETAIL, no URL, no value: those may carry secrets."""

from __future__ import annotations

import psycopg
from psycopg import errors

from reconciler.errors import DatabaseError, FivrecError, Refused

SCHEMA_MISSING = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.UndefinedFunction,
)
"""What a statement meets in a database whose schema is missing or stale."""

_QUOTABLE = ("25", "3D", "40", "42", "53", "55", "57", "58")
"""Classes of SQLSTATE whose primary message names objects and states, never values."""

_NOT_ISOLATED = "FV001"
"""Raised by fivrec.set_isolation alone, in words of its own that name roles, policies and views."""

_KNOWN: tuple[tuple[type[psycopg.Error] | tuple[type[psycopg.Error], ...], str, str, str], ...] = (
    (errors.LockNotAvailable, "lock_timeout", "another session holds a lock that is needed", "run again later"),
    (errors.QueryCanceled, "statement_timeout", "a statement took too long and was stopped", "run again later"),
    (
        (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout),
        "idle_timeout",
        "the server ended a transaction that stood idle, or took too long",
        "run again; nothing of it was written",
    ),
    (
        errors.ReadOnlySqlTransaction,
        "database_read_only",
        "the server takes no writes",
        "use the primary's address: this is a replica, or default_transaction_read_only is on",
    ),
    (errors.DiskFull, "disk_full", "the server's disk is full", "make room there, then run again"),
    (
        errors.TooManyConnections,
        "too_many_connections",
        "the server has no free connection",
        "lower --forks, raise max_connections, or put PgBouncer before it",
    ),
    (errors.CannotConnectNow, "database_unreachable", "the server is starting or stopping", "run again later"),
    (
        (errors.AdminShutdown, errors.CrashShutdown),
        "database_unreachable",
        "the server ended the connection",
        "run again",
    ),
    (
        (errors.SerializationFailure, errors.DeadlockDetected),
        "database_conflict",
        "another session changed the same rows",
        "run again",
    ),
    (
        SCHEMA_MISSING,
        "schema_missing",
        "the database's tables are missing or older than this fivrec",
        "run `fivrec apply` once",
    ),
)


def translated(exc: psycopg.Error, where: str) -> FivrecError:
    """The error as fivrec shows it. `where` names the database, e.g. `database fivapp_a on 127.0.0.1`."""
    if isinstance(exc, errors.UniqueViolation) and _is_email(exc):
        return DatabaseError(
            f"{where}: another user, perhaps of the other environment, has the administrator's email",
            code="admin_email_taken",
            hint="declare another email, or remove that user: users.email is unique in both environments",
        )
    if exc.sqlstate == _NOT_ISOLATED:
        said = exc.diag.message_primary or "isolation: enforced can't be had here"
        return Refused(f"{where}: {said}", code="isolation_refused", hint=exc.diag.message_hint or "")
    for kinds, code, message, hint in _KNOWN:
        if isinstance(exc, kinds):
            return DatabaseError(f"{where}: {message}{_object(exc)}", code=code, hint=hint)
    if isinstance(exc, errors.InsufficientPrivilege):
        primary = exc.diag.message_primary or "permission denied"
        return DatabaseError(
            f"{where}: {primary}", code="database_denied", hint="GRANT the login what it needs, or use the owner"
        )
    if exc.sqlstate is None and isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return DatabaseError(
            f"{where}: the connection was lost", code="database_unreachable", hint="check the network, run again"
        )
    return _other(exc, where)


def _other(exc: psycopg.Error, where: str) -> DatabaseError:
    state = exc.sqlstate or "-----"
    said = exc.diag.message_primary if state[:2] in _QUOTABLE else type(exc).__name__
    return DatabaseError(
        f"{where}: PostgreSQL refused: {said} (SQLSTATE {state}){_object(exc)}",
        hint="the server's log has the details",
    )


def _object(exc: psycopg.Error) -> str:
    """The table, column and constraint concerned, where PostgreSQL names them."""
    diag = exc.diag
    table = f"{diag.schema_name}.{diag.table_name}" if diag.schema_name != "public" else diag.table_name
    named = [part for part in (diag.table_name and table, diag.column_name, diag.constraint_name) if part]
    return f" ({', '.join(named)})" if named else ""


def _is_email(exc: psycopg.Error) -> bool:
    return exc.diag.table_name == "users" and "email" in (exc.diag.constraint_name or "")


def connect_error(exc: psycopg.Error, where: str, user: str) -> DatabaseError:  # noqa: PLR0911 (a table of causes)
    """A failed connection, told apart by libpq's text, which carries no SQLSTATE; code `database_error` where its
    words are in another language. The text itself stays out: it may quote the URL."""
    text = str(exc)
    if "password authentication failed" in text or "no password supplied" in text or "authentication" in text:
        return DatabaseError(
            f"{where}: the server does not let {user} in",
            code="database_auth",
            hint="check the user and password of the database URL",
        )
    if "pg_hba.conf" in text:
        return DatabaseError(
            f"{where}: the server's pg_hba.conf lets {user} in neither with nor without TLS from here",
            code="database_auth",
            hint="check sslmode and pg_hba.conf",
        )
    if says_missing(text):
        return missing(where)
    if "SSL" in text or "certificate" in text or "root.crt" in text:
        return DatabaseError(
            f"{where}: no TLS connection could be made",
            code="database_tls",
            hint="the server needs TLS (ssl = on); for verify-full give its CA by sslrootcert",
        )
    if "too many connections" in text or "remaining connection slots" in text or "too many clients" in text:
        return DatabaseError(
            f"{where}: the server has no free connection",
            code="too_many_connections",
            hint="lower --forks, raise max_connections, or put PgBouncer before it",
        )
    if "FATAL" in text:
        return DatabaseError(f"{where}: the server refused the connection", hint="the server's log says why")
    return DatabaseError(
        f"{where}: can't be reached{_why(exc, text)}",
        code="database_unreachable",
        hint="check that the server runs there, and the host and port of the database URL",
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
