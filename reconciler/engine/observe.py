"""Observe one instance: open its database and ask its Connect, side by side. No transaction is open here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.database.connection import Connection, connect, create_database, drop_new_database, time_zone
from reconciler.database.store import Scope, begin, rollback
from reconciler.engine.run import CONNECT, DATABASE, REPLICA, Run
from reconciler.model.errors import Busy, DatabaseError, FivrecError
from reconciler.model.secret import Secret
from reconciler.model.types import NOT_ASKED, ConnectView, Desired, ErrorInfo, Snapshot, is_embedded

if TYPE_CHECKING:
    from reconciler.connect.client import ConnectClient

MISSING = "database_missing"
OLDEST_TESTED = 15
NEW_DATABASE_S = 20
"""Seconds for which PgBouncer remembers that a database was missing: server_login_retry, 15 s by default."""


def build_scope(desired: Desired) -> Scope:
    """Which rows of the database this instance's manifest may read and write."""
    admin = desired.managed.get("admin")
    resource = admin.resources[0] if admin and admin.resources else None
    queues = desired.managed.get("queue")
    removing = queues if queues is not None and "remove" in (queues.unmanaged, queues.former) else None
    return Scope(
        instance=desired.instance,
        environment=desired.environment.name,
        admin_email=resource.key.name if resource else None,
        admin_renamed_from=resource.renamed_from if resource else None,
        references=removing is not None,
        declared_queues=tuple(resource.key.name for resource in removing.resources) if removing else (),
        test_data="test_data" in desired.managed,
        schema=desired.database.schema,
        trusted=bool(desired.database.embedded),
        moves_admin=desired.moves_admin,
    )


async def read_snapshot(conn: Connection, scope: Scope, *, kinds: frozenset[str] | None = None) -> Snapshot:
    """Read the rows as they are, without keys: secrets stay sealed. Ends the transaction."""
    snapshot = await begin(conn, scope, None, lock=False, kinds=kinds)
    await rollback(conn)
    return snapshot


@asynccontextmanager
async def database(desired: Desired, run: Run) -> AsyncIterator[Connection]:
    """Open a connection for this run alone. Raises DatabaseError `database_missing` if the database is missing but
    could be created."""
    refuse_unmade(desired)
    conn = await open_database(desired.database.url, run)
    try:
        yield conn
    finally:
        await asyncio.shield(release(conn, run))


def refuse_unmade(desired: Desired) -> None:
    """Raises DatabaseError `database_missing` if a dry run found no embedded server; a dry run does not create one."""
    if is_embedded(desired.database.url.reveal()):
        what = f'database "{desired.database_name}"' if desired.instance else "server"
        raise DatabaseError(f"the embedded {what} was never made", hint='run "fivrec apply" first', code=MISSING)


async def open_database(url: Secret, run: Run) -> Connection:
    """Open a connection, which the caller gives back by `release`."""
    if run.pool is not None:
        conn = await run.pool.take(url, limits=run.limits, application_name=run.application_name)
    else:
        conn = await connect(url, limits=run.limits, application_name=run.application_name)
    note_time_zone(conn, run)
    note_server(conn, run)
    return conn


def note_time_zone(conn: Connection, run: Run) -> None:
    """Log, once per run and time zone, that sessions start in a time zone other than UTC. The connection has no open
    transaction.

    fivrec's own transactions use UTC; what the app stores without a zone is in the app's.
    """
    zone = time_zone(conn)
    if zone is None:
        return
    run.warn_once(
        zone,
        f"⚠️ sessions of database {conn.info.dbname} begin in the time zone {zone}, not in UTC: times that the app "
        "stores without a zone, such as lastActivity, are read as UTC and may be hours off "
        "(ALTER DATABASE … SET timezone = 'UTC'; fivrec docs troubleshooting)",
    )


def note_server(conn: Connection, run: Run) -> None:
    """Log, once per run and server, that it is a replica, which may be out of date, or older than those that fivrec is
    tested with. Costs no round trip; a pooler may hide that a server is a replica."""
    place, version = f"{conn.info.host}:{conn.info.port}", conn.info.server_version // 10_000
    if conn.info.parameter_status("in_hot_standby") == "on":
        run.warn_once(
            f"{REPLICA}{place}",
            f"⚠️ {place} is a replica, whose rows may be behind those of its primary (of several hosts in one URL, "
            "target_session_attrs=read-write takes the primary)",
        )
    if version < OLDEST_TESTED:
        run.warn_once(
            f"old {place}",
            f"⚠️ {place} is PostgreSQL {version}, on which fivrec is not tested: move to {OLDEST_TESTED} or newer",
        )


async def release(conn: Connection, run: Run) -> None:
    """Keep the connection for the next run if this one keeps any; else close it. Rolls back an open transaction."""
    if run.pool is not None:
        await run.pool.give(conn)
    else:
        await conn.close()


@asynccontextmanager
async def connect_client(desired: Desired, run: Run) -> AsyncIterator[ConnectClient | None]:
    """Returns a client of Connect for this instance; None if the manifest names no Connect (`setup`)."""
    if desired.connect is None:
        yield None
        return
    from reconciler.connect.client import open_client
    from reconciler.connect.pool import PATIENCE_S, ConnectSettings

    settings = ConnectSettings(
        ca_file=run.ca_file,
        production=desired.environment.name == "production",
        work_dir=run.work_dir,
        retry_after_s=run.retry_after_s,
        patience_s=min(PATIENCE_S, run.timeout_s / 3),
        dry=run.dry,
    )
    embedded = is_embedded(desired.connect.api_url)
    pool = run.connect.pool(run) if run.connect is not None and not embedded else None
    async with open_client(desired.connect, desired.instance, settings, pool) as client:
        yield client


async def fetch_view(desired: Desired, run: Run, if_late: Callable[[ConnectView], None]) -> ConnectView:
    """Ask Connect for status and plans, side by side; errors become part of the view. For `if_late` see
    ConnectClient."""
    async with connect_client(desired, run) as client:
        if client is None:
            return NOT_ASKED
        return await client.fetch_view(plans=desired.plans_from_connect, if_late=if_late)


async def open_both(
    desired: Desired, run: Run, *, keep: Callable[[Connection, ConnectView], None] | None = None
) -> tuple[Connection | None, ConnectView]:
    """Open the database and ask Connect at the same time. Returns None for the connection if the database is missing;
    raises other errors. If time runs out before Connect answered, calls `keep` with the connection and with the view to
    record: a status that came without the plans is followed."""
    view: ConnectView | None = None
    status: list[ConnectView] = []
    opening = asyncio.create_task(_open_or_missing(desired, run))
    try:
        with run.waiting_for(CONNECT):
            view = await fetch_view(desired, run, status.append)
        conn = await opening
        await refuse_lost_turn(run)
    except BaseException:
        opening.cancel()
        done = await asyncio.gather(opening, return_exceptions=True)
        if done and not isinstance(done[0], BaseException) and done[0] is not None:
            if keep is not None and view is None and run.is_late():
                from reconciler.connect.errors import too_slow

                late = ErrorInfo.of(too_slow(run.timeout_s, ""))
                partial_view = replace(status[0], plans_error=late) if status else ConnectView(status_error=late)
                keep(done[0], partial_view)
            else:
                await release(done[0], run)
        raise
    return conn, view


async def refuse_lost_turn(run: Run) -> None:
    """Raises Busy if the turn belongs to another worker now. Called before anything is written: a worker that was
    frozen must not record and report what another one did."""
    if run.turn is not None and run.turn.mine is not None and await run.turn.mine() is False:
        raise Busy("the turn belongs to another worker now")


async def _open_or_missing(desired: Desired, run: Run) -> Connection | None:
    if is_embedded(desired.database.url.reveal()):
        return None  # a dry run before the first apply: its server was never created
    try:
        with run.waiting_for(DATABASE):
            return await open_database(desired.database.url, run)
    except DatabaseError as exc:
        if exc.code == MISSING:
            return None
        raise


def refuse_to_make(desired: Desired) -> None:
    """Raises DatabaseError if the manifest does not let fivrec create a missing database: nothing can be applied, so
    nothing is planned."""
    if desired.database.create:
        return
    raise DatabaseError(
        f'database "{desired.database_name}" is missing',
        hint="create it, or set database.create: true",
        code=MISSING,
    )


async def make_database(desired: Desired, run: Run) -> tuple[Connection, bool]:
    """CREATE DATABASE, then connect. Returns also whether this run created it.

    It happens outside the transaction; if the process dies between the two, the next run heals it.
    """
    refuse_to_make(desired)
    spec = desired.database
    try:
        created = await create_database(spec.url, provision=spec.provision_url, limits=run.limits)
    except DatabaseError as exc:
        declared = desired.document.get("database")
        is_given = isinstance(declared, Mapping) and "provision_url" in declared
        if exc.code != "database_denied" or spec.provision_url or not is_given:
            raise
        raise DatabaseError(exc.message, code=exc.code, hint="set what database.provision_url refers to") from exc
    return await _open_new(desired, run), created


async def _open_new(desired: Desired, run: Run) -> Connection:
    """Connect with retries: PgBouncer makes clients wait that ask again for a database that was missing; with
    `auth_query` it refuses them."""
    patient = replace(run, limits=replace(run.limits, connect_s=NEW_DATABASE_S))
    until = time.monotonic() + NEW_DATABASE_S
    while True:
        try:
            return await open_database(desired.database.url, patient)
        except DatabaseError as exc:
            if "server_login_retry" not in exc.message or time.monotonic() > until:
                raise
            await asyncio.sleep(0.5)


async def unmake_database(conn: Connection, desired: Desired, run: Run) -> Connection | None:
    """Drop the database that this refused run created, if nobody uses it and it is empty. Returns the connection if it
    stays."""
    try:
        dropped = await drop_new_database(conn, desired.database.url, limits=run.limits)
    except FivrecError as exc:
        why = exc.message
    else:
        why = "it is used already"
        if dropped:
            await release(conn, run)
            return None
    said = f"⚠️ the database {desired.database_name}, which this run made, is left: {why}"
    run.log.warning(run.command, said, instance=desired.instance)
    return conn
