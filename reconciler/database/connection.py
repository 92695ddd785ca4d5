"""Connections to PostgreSQL: open them, guard what runs on them, create databases. Knows none of our tables."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_attempts_async, make_conninfo
from psycopg.pq import TransactionStatus

from reconciler.database.column_values import register_loaders
from reconciler.database.errors import masked, not_text, translated
from reconciler.database.pipeline import DEFAULTS, Limits, PipelinedConnection, json_loader
from reconciler.database.refused_connections import connect_error, missing
from reconciler.database.rows import loads
from reconciler.database.scram import Login, login
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.secret import Secret
from reconciler.support.conninfo import (
    SOCKET,
    attempts_s,
    database_name,
    effective,
    parameters,
    secrets_of,
    server_shown,
    spread,
)
from reconciler.support.postgres_url import is_patient, name_in

Connection: TypeAlias = PipelinedConnection

_MAINTENANCE = ("postgres", "template1")
_MAY_BE_KEYS = frozenset({"database_auth", "database_error"})
"""The codes that a login with stale keys may fail with: the server may say it in any language."""

_OLDEST: Final = 140_000
"""Older servers reject the migrations' SQL. PostgreSQL 14 accepts all of it; nothing is tested there."""
_HAS_GRANT_OPTIONS: Final = 160_000

_CREATE_TRIES = 5
_ROLLBACK_S = 5.0
_AT_ONCE_S = 3.0
_UTC = frozenset({"UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich", "Universal", "Zulu"})


async def connect(
    url: Secret, *, application_name: str, limits: Limits = DEFAULTS, dbname: str | None = None
) -> Connection:
    """Open a connection, without a transaction. `dbname` replaces the URL's. Raises DatabaseError database_unreachable,
    database_missing, database_auth, database_tls, database_insecure or database_url."""
    # psycopg logs the text of errors that it ignores, which may hold a DETAIL or a URL. It raises those that matter.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    chosen = parameters(url, connect_s=limits.connect_s, application_name=application_name, dbname=dbname)
    shared_s = None if is_patient(url.reveal()) else min(limits.total_s, 2 * limits.connect_s)
    try:
        async with asyncio.timeout(shared_s) as limit:
            places = await conninfo_attempts_async(
                {key: value for key, value in chosen.items() if key != "target_session_attrs"}
            )
            chosen = spread(chosen, places, shared_s)
            limit.reschedule(asyncio.get_running_loop().time() + max(attempts_s(chosen, len(places)), shared_s or 0))
            known = effective(url)
            own = {key: known[key] for key in ("user", "password") if known.get(key)}
            conn = await _logged_in(chosen, login(chosen | own, places))
            conn.place, conn.limits = where(conn), limits
            if (version := conn.info.server_version) < _OLDEST:
                await conn.close()
                raise _too_old(conn.place, version)
            await use_iso_dates(conn)
    except TimeoutError as exc:
        raise connect_error(errors.ConnectionTimeout("timeout expired"), _where(url, dbname), _user(url)) from exc
    except psycopg.Error as exc:
        raise await _refused(exc, url, limits, dbname) from None  # the cause's text may quote the URL
    return conn


def _too_old(place: str, version: int) -> DatabaseError:
    return DatabaseError(
        f"{place}: PostgreSQL {version // 10_000} lacks what fivrec's schema needs",
        code="database_too_old",
        hint="move the database to PostgreSQL 15 or newer: by pg_upgrade, or pg_dump and pg_restore",
    )


async def _logged_in(chosen: Mapping[str, Any], known: Login | None) -> PipelinedConnection:
    # Behind PgBouncer in transaction mode, each transaction may get another server: prepared statements would be lost.
    settings: dict[str, Any] = {**chosen, "autocommit": True, "prepare_threshold": None, "context": _adapting()}
    if known is None:
        return await PipelinedConnection.connect(**settings)
    if known.keys:
        try:
            return await PipelinedConnection.connect(**(settings | known.keys))
        except psycopg.OperationalError as exc:
            if connect_error(exc, "", "").code not in _MAY_BE_KEYS:
                raise
            known.forget()
    conn = await known.kind().connect(**settings)
    known.learn(conn)
    return conn


class _Adapting:
    """psycopg's AdaptContext without a connection."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)


@cache
def _adapting() -> _Adapting:
    """The loaders of JSON and times. Each connection copies them, which is cheaper than registering them again."""
    context = _Adapting()
    for name in ("json", "jsonb"):
        context.adapters.register_loader(name, json_loader(loads))
    register_loaders(context)
    return context


def time_zone(conn: Connection) -> str | None:
    """Returns the TimeZone that server, database or login set for a session; None if it is UTC. Costs no round trip.

    Also None if PGTZ is set: libpq then asks for that zone, and the one that other sessions get is unknown.
    """
    zone = conn.info.parameter_status("TimeZone") or "UTC"
    return None if os.environ.get("PGTZ") or zone.removeprefix("Etc/") in _UTC else zone


async def use_iso_dates(conn: AsyncConnection[Any]) -> None:
    """Ask for ISO dates if the database or login has another default: psycopg can't read times in other styles."""
    if not (conn.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
        # Not SET LOCAL, as for other settings: PgBouncer keeps this one for each of its clients.
        await conn.execute("SET datestyle TO 'ISO, YMD'")


async def _refused(exc: psycopg.Error, url: Secret, limits: Limits, dbname: str | None) -> DatabaseError:
    """If the error is unclear, ask the server whether the database exists: its messages may not be in English, and
    PgBouncer makes a client wait that comes back for a database which was just found missing."""
    error = connect_error(exc, _where(url, dbname), _user(url), secrets_of(url))
    unexplained = error.code == "database_error" or isinstance(exc, errors.ConnectionTimeout)
    if unexplained and dbname is None and not await _is_listed(url, limits):
        return missing(_where(url, dbname))
    return error


async def _is_listed(url: Secret, limits: Limits) -> bool:
    try:
        return await database_exists(url, limits=limits)
    except DatabaseError:
        return True  # not known to be missing


@contextmanager
def limited(conn: Connection, limits: Limits) -> Iterator[None]:
    """Give the connection other limits for the body."""
    usual, conn.limits = conn.limits, limits
    try:
        yield
    finally:
        conn.limits = usual


@asynccontextmanager
async def with_deadline(conn: Connection, seconds: float | None = None) -> AsyncIterator[None]:
    """Set a deadline for the body, by default the connection's `total_s`, and translate its errors.

    At the deadline the socket is shut down, so that psycopg fails at once; cancelling would wait for a silent server.
    """
    seconds = conn.limits.total_s if seconds is None else seconds
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
        raise translated(exc, where(conn), _secrets(conn)) from _silent(exc)
    except UnicodeError:
        raise not_text(where(conn)) from None  # the cause quotes what it could not read
    finally:
        timer.cancel()


def _secrets(conn: Connection) -> tuple[str, ...]:
    try:
        return (conn.info.password,)
    except psycopg.Error:
        return ()  # it is closed


def _silent(exc: psycopg.Error) -> psycopg.Error:
    """Returns the cause without its text and parameters: a DETAIL quotes whole rows, secrets included."""
    return type(exc)(f"SQLSTATE {exc.sqlstate}" if exc.sqlstate else "connection")


def shut_down(conn: Connection) -> None:
    """Cut the connection: whatever waits on it fails at once, and the server rolls back."""
    if conn.closed:
        return
    try:
        with socket.socket(fileno=os.dup(conn.pgconn.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it is gone already


@asynccontextmanager
async def with_last_words(conn: Connection) -> AsyncIterator[None]:
    """For the pipeline that begins a transaction: if the server closes the connection there, psycopg loses its message
    (from PgBouncer in statement mode, say). So begin once more without a pipeline, and raise what the server says."""
    began = asyncio.get_running_loop().time()
    try:
        yield
    except psycopg.OperationalError as exc:
        # If the link was cut later, say at a deadline, it was not the server's answer to BEGIN.
        if exc.sqlstate is None and asyncio.get_running_loop().time() - began < _AT_ONCE_S:
            said = await _refused_begin(conn)
            if said is not None:
                raise said from None
        raise


async def _refused_begin(lost: Connection) -> psycopg.Error | None:
    """Returns the server's error to a lone BEGIN; None if the server is gone, or accepts it."""
    try:
        settings = {item.keyword.decode(): item.val.decode() for item in lost.pgconn.info if item.val}
        async with asyncio.timeout(_AT_ONCE_S):
            async with await AsyncConnection.connect(make_conninfo(**settings), autocommit=True) as again:
                await again.execute("BEGIN READ ONLY")
                await again.execute("ROLLBACK")
    except psycopg.Error as exc:
        return exc if exc.sqlstate else None
    except (TimeoutError, UnicodeError):
        return None
    return None


async def rollback(conn: Connection) -> None:
    """Roll back the open transaction, if there is one. Closes the connection if that fails."""
    if conn.closed or conn.pgconn.transaction_status == TransactionStatus.IDLE:
        return
    if conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
        await conn.close()  # a statement is still running, and nobody will read its result
        return
    try:
        async with with_deadline(conn, _ROLLBACK_S):
            await conn.rollback()
    except FivrecError:
        await conn.close()


@asynccontextmanager
async def or_rolled_back(conn: Connection) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await rollback(conn)
        raise


async def database_exists(url: Secret, *, limits: Limits = DEFAULTS) -> bool:
    """Whether the server has the URL's database. Asks in a maintenance database, as this one may not exist."""
    async with await _maintenance(url, limits) as conn:
        async with with_deadline(conn):
            # Whoever owns that database decides which `=` comes first on the search_path.
            found = await conn.execute(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_database "
                "WHERE datname OPERATOR(pg_catalog.=) %(name)s::pg_catalog.name)",
                {"name": database_name(url)},
            )
            row = await found.fetchone()
        return bool(row and row[0])


async def list_databases(url: Secret, *, limits: Limits = DEFAULTS) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the databases of the URL's server that this login may connect to, and those that it may not: both sorted,
    without templates."""
    async with await _maintenance(url, limits) as conn, with_deadline(conn):
        found = await conn.execute(
            "SELECT datname, datallowconn AND pg_catalog.has_database_privilege(datname, 'CONNECT') "
            "FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY datname"
        )
        rows = await found.fetchall()
    return tuple(name for name, is_open in rows if is_open), tuple(name for name, is_open in rows if not is_open)


async def create_database(url: Secret, *, provision: Secret | None = None, limits: Limits = DEFAULTS) -> bool:
    """Create the URL's database. Returns False if it exists already, or another run made it meanwhile.

    `provision` is the login that creates it, with the URL's login as owner; by default the URL's login creates it.
    """
    async with await _maintenance(provision or url, limits, own=provision is not None) as conn:
        for attempt in range(_CREATE_TRIES):
            try:
                await _create(conn, url, provision)
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                return False
            except errors.ObjectInUse as exc:
                # Another run is copying the template.
                if attempt == _CREATE_TRIES - 1:
                    raise translated(exc, _where(url)) from _silent(exc)
                await asyncio.sleep(0.2 * (attempt + 1))
            except errors.InsufficientPrivilege as exc:
                raise _may_not_create(conn, exc, url, provision) from _silent(exc)
            except psycopg.Error as exc:
                raise translated(exc, _where(url), secrets_of(provision or url)) from _silent(exc)
            else:
                return True
    return False


async def _create(conn: Connection, url: Secret, provision: Secret | None) -> None:
    """Create it from template0 in UTF8, whatever template1 holds and whatever the server's own encoding is."""
    names = {"name": sql.Identifier(database_name(url)), "owner": sql.Identifier(_user(url))}
    text = "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
    text += " OWNER {owner}" if provision is not None and _user(provision) != _user(url) else ""
    try:
        await conn.execute(sql.SQL(text).format(**names))
    except errors.InvalidParameterValue:  # the server's locale is of another encoding
        await conn.execute(sql.SQL(text + " LOCALE 'C'").format(**names))


def _may_not_create(conn: Connection, exc: psycopg.Error, url: Secret, provision: Secret | None) -> DatabaseError:
    owner, login = _user(url), _user(provision or url)
    hint = f"ALTER ROLE {login} CREATEDB, create the database yourself, or name a login by database.provision_url"
    if provision is not None:
        # A GRANT that is repeated without it leaves SET FALSE as it is.
        options = " WITH SET TRUE" if conn.info.server_version >= _HAS_GRANT_OPTIONS else ""
        hint = f"ALTER ROLE {login} CREATEDB; GRANT {owner} TO {login}{options}"
    said = masked(exc.diag.message_primary or "permission denied", secrets_of(provision or url))
    return DatabaseError(
        f"{_where(url)} does not exist, and {login} may not create it: {said} (SQLSTATE {exc.sqlstate})",
        code="database_denied",
        hint=hint,
    )


async def drop_new_database(conn: Connection, url: Secret, *, limits: Limits = DEFAULTS) -> bool:
    """Drop this connection's database, which this run has just created, and close the connection. Returns False, and
    keeps the database, if it isn't empty or somebody else is connected. The URL's login does it: it is the owner."""
    await rollback(conn)
    name = sql.Identifier(database_name(url))
    maintenance = await _maintenance(url, limits)
    async with maintenance, with_deadline(maintenance):
        # Keep others out first: if the database is found empty then, it stays empty.
        await maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        dropped = False
        try:
            if await _is_unused(conn):
                await conn.close()
                await maintenance.execute(sql.SQL("DROP DATABASE {}").format(name))
                dropped = True
        finally:
            if not dropped:
                await maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    return dropped


async def _is_unused(conn: Connection) -> bool:
    """Whether this session is the only one in its database, and nobody has made anything in it."""
    async with with_deadline(conn):
        found = await conn.execute(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid >= 16384) "
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384) "
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_') "
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
            "AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend')"
        )
        row = await found.fetchone()
    return bool(row and row[0])


async def _maintenance(url: Secret, limits: Limits, *, own: bool = False) -> Connection:
    """Connect to a database to run such statements in: with `own` the one that the URL names, else postgres, else
    template1."""
    names = dict.fromkeys([*([database_name(url)] if own and name_in(url.reveal()) else []), *_MAINTENANCE])
    *first, last = names
    for name in first:
        try:
            return await connect(url, limits=limits, application_name="fivrec", dbname=name)
        except DatabaseError as exc:
            if exc.code not in ("database_missing", "database_denied"):
                raise
    return await connect(url, limits=limits, application_name="fivrec", dbname=last)


def where(conn: Connection) -> str:
    """Returns the connection's database in words, for messages."""
    if conn.closed:
        return conn.place
    return f"database {conn.info.dbname} on {conn.info.host or SOCKET}:{conn.info.port}"


def _where(url: Secret, dbname: str | None = None) -> str:
    return f"database {dbname or database_name(url)} on {server_shown(url)}"


def _user(url: Secret) -> str:
    return effective(url).get("user") or "the login"
