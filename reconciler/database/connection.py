"""Connections to PostgreSQL: open them, guard what runs on them, make databases. Knows no table of ours."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads

from reconciler.database.errors import connect_error, missing, not_text, translated
from reconciler.database.rows import loads
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.conninfo import (
    database_identity,
    database_name,
    effective,
    parameters,
)

__all__ = [
    "Connection",
    "Limits",
    "connect",
    "create_database",
    "database_exists",
    "database_identity",
    "database_name",
    "guarded",
    "list_databases",
    "rollback",
    "shut_down",
    "use_iso_dates",
]

Connection: TypeAlias = AsyncConnection[Any]

_MAINTENANCE = ("postgres", "template1")
_CREATE_TRIES = 5
_ROLLBACK_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take.

    `lock_wait_s`: for another run of the instance, and for a row or table lock of the app. `statement_ms`, `idle_ms`,
    `transaction_ms`: the server's own, per statement, between two, and for each half of a transaction that holds the
    lock, reading and writing (PostgreSQL 17 and newer). `total_s`: one reading or writing, whatever the network does.
    `migrate_s`: a writing that migrates big tables. A link that freezes ends a command after total_s and a connection
    attempt: within 30 s.
    """

    lock_wait_s: float = 2
    statement_ms: int = 15_000
    idle_ms: int = 9_000
    transaction_ms: int = 9_000
    connect_s: int = 5
    total_s: float = 20
    migrate_s: float = 600


async def connect(url: Secret, *, limits: Limits, application_name: str, dbname: str | None = None) -> Connection:
    """A connection on which nothing has begun. `dbname` replaces the URL's. DatabaseError: database_unreachable,
    database_missing, database_auth, database_tls, database_insecure, database_url."""
    # psycopg logs errors that it passes over, with their text: a DETAIL, a URL. What counts is raised.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    chosen = parameters(url, connect_s=limits.connect_s, application_name=application_name, dbname=dbname)
    try:
        async with asyncio.timeout(min(limits.total_s, 2 * limits.connect_s)):
            # PgBouncer in transaction mode gives each transaction another server: none keeps prepared statements.
            conn = await AsyncConnection.connect(**chosen, autocommit=True, prepare_threshold=None)
            set_json_loads(loads, conn)
            await use_iso_dates(conn)
    except TimeoutError as exc:
        raise connect_error(errors.ConnectionTimeout("timeout expired"), _where(url, dbname), _user(url)) from exc
    except psycopg.Error as exc:
        raise await _refused(exc, url, limits, dbname) from None  # the cause's text may quote the URL
    return conn


async def use_iso_dates(conn: Connection) -> None:
    """psycopg reads no times in another style, which a database or a login may have as its default."""
    if not (conn.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
        # Not local, as others are: PgBouncer keeps this setting for each of its clients.
        await conn.execute("SET datestyle TO 'ISO, YMD'")


async def _refused(exc: psycopg.Error, url: Secret, limits: Limits, dbname: str | None) -> DatabaseError:
    """Where the words do not tell, the server is asked whether the database is there: it may speak another language
    than English, and PgBouncer lets those wait who come back for one that it just found missing."""
    error = connect_error(exc, _where(url, dbname), _user(url))
    untold = error.code == "database_error" or isinstance(exc, errors.ConnectionTimeout)
    if untold and dbname is None and not await _is_listed(url, limits):
        return missing(_where(url, dbname))
    return error


async def _is_listed(url: Secret, limits: Limits) -> bool:
    try:
        return await database_exists(url, limits=limits)
    except DatabaseError:
        return True  # not known to be missing


@asynccontextmanager
async def with_deadline(conn: Connection, seconds: float) -> AsyncIterator[None]:
    """Give what runs within a deadline, and its errors our words.

    At the deadline the socket is shut down: psycopg then fails at once, where cancelling would wait for a server
    that is silent.
    """
    expired = False

    def cut() -> None:
        nonlocal expired
        expired = True
        shut_down(conn)

    timer = asyncio.get_running_loop().call_later(seconds, cut)
    try:
        yield
    except psycopg.Error as exc:
        if expired:
            raise DatabaseError(
                f"{where(conn)}: no answer within {seconds:g} s",
                code="database_timeout",
                hint="check the network and the server's load, then run again",
            ) from _silent(exc)
        raise translated(exc, where(conn)) from _silent(exc)
    except UnicodeError:
        raise not_text(where(conn)) from None  # the cause quotes what it could not read
    finally:
        timer.cancel()


def _silent(exc: psycopg.Error) -> psycopg.Error:
    """The cause without its text and parameters: a DETAIL quotes whole rows, secrets included."""
    return type(exc)(f"SQLSTATE {exc.sqlstate}" if exc.sqlstate else "connection")


def shut_down(conn: Connection) -> None:
    """Cut the connection: what waits on it fails at once, and the server rolls back."""
    if conn.closed:
        return
    try:
        with socket.socket(fileno=os.dup(conn.pgconn.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it is gone already


async def rollback(conn: Connection) -> None:
    """End the transaction, if one is open, and leave nothing of it. A connection that can't is closed."""
    if conn.closed or conn.pgconn.transaction_status == TransactionStatus.IDLE:
        return
    if conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
        await conn.close()  # it was left in the middle of something: nobody will hear its end
        return
    try:
        async with with_deadline(conn, _ROLLBACK_S):
            await conn.rollback()
    except FivrecError:
        await conn.close()


async def database_exists(url: Secret, *, limits: Limits | None = None) -> bool:
    """Whether the server has the URL's database. Asks the maintenance database, as the one asked for may not be."""
    async with await _maintenance(url, limits or Limits()) as conn:
        async with with_deadline(conn, (limits or Limits()).total_s):
            found = await conn.execute(
                "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s)", {"name": database_name(url)}
            )
            row = await found.fetchone()
        return bool(row and row[0])


async def list_databases(url: Secret, *, limits: Limits | None = None) -> tuple[str, ...]:
    """The databases of the URL's server that may be connected to, sorted; templates are left out."""
    async with await _maintenance(url, limits or Limits()) as conn, with_deadline(conn, (limits or Limits()).total_s):
        found = await conn.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate "
            "AND has_database_privilege(datname, 'CONNECT') ORDER BY datname"
        )
        return tuple(row[0] for row in await found.fetchall())


async def create_database(url: Secret, *, limits: Limits | None = None) -> bool:
    """Create the URL's database; False where it was there already, or another run made it meanwhile."""
    name = database_name(url)
    async with await _maintenance(url, limits or Limits()) as conn:
        for attempt in range(_CREATE_TRIES):
            try:
                await conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                return False
            except errors.ObjectInUse as exc:
                # The template is being copied by another run.
                if attempt == _CREATE_TRIES - 1:
                    raise translated(exc, _where(url)) from _silent(exc)
                await asyncio.sleep(0.2 * (attempt + 1))
            except errors.InsufficientPrivilege as exc:
                raise DatabaseError(
                    f"{_where(url)} does not exist, and {_user(url)} may not create it",
                    code="database_denied",
                    hint=f"ALTER ROLE {_user(url)} CREATEDB, or create the database yourself",
                ) from _silent(exc)
            except psycopg.Error as exc:
                raise translated(exc, _where(url)) from _silent(exc)
            else:
                return True
    return False


async def _maintenance(url: Secret, limits: Limits) -> Connection:
    first, second = _MAINTENANCE
    try:
        return await connect(url, limits=limits, application_name="fivrec", dbname=first)
    except DatabaseError as exc:
        if exc.code != "database_missing":
            raise
    return await connect(url, limits=limits, application_name="fivrec", dbname=second)


def where(conn: Connection) -> str:
    """The database of a connection, in words for people."""
    if conn.closed:
        return "the database"
    return f"database {conn.info.dbname} on {_shown(conn.info.host)}"


def _where(url: Secret, dbname: str | None = None) -> str:
    host, port, name = database_identity(url)
    return f"database {dbname or name} on {_shown(host)}:{port}"


def _shown(host: str) -> str:
    return host or "this machine's socket"


def _user(url: Secret) -> str:
    return effective(url).get("user") or "the login"
