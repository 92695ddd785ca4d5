"""One instance's ends: its database and its Connect, opened side by side. No transaction is open here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.database.store import Scope
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError
from reconciler.model.secret import Secret
from reconciler.model.types import NOT_ASKED, ConnectView, Desired

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from reconciler.connect.client import ConnectClient

MISSING = "database_missing"
NEW_DATABASE_S = 20
"""PgBouncer asks for a database that was missing again after its server_login_retry: 15 s by default."""


def build_scope(desired: Desired) -> Scope:
    """What of the database this instance's manifest may read and write."""
    admin = desired.managed.get("admin")
    resource = admin.resources[0] if admin and admin.resources else None
    queues = desired.managed.get("queue")
    removing = queues if queues is not None and queues.unmanaged == "remove" else None
    return Scope(
        instance=desired.instance,
        environment=desired.environment.name,
        admin_email=resource.key.name if resource else None,
        admin_renamed_from=resource.renamed_from if resource else None,
        references=removing is not None,
        declared_queues=tuple(resource.key.name for resource in removing.resources) if removing else (),
        test_data="test_data" in desired.managed,
        moves_admin=desired.moves_admin,
    )


@asynccontextmanager
async def database(desired: Desired, run: Run) -> AsyncIterator[AsyncConnection]:
    """A connection of this run's own. DatabaseError `database_missing` where the database could be made."""
    if desired.database.url.reveal().startswith("embedded:"):  # a dry run: its server was never made
        message = f'the embedded database "{desired.database_name}" was never made'
        raise DatabaseError(message, hint='run "fivrec apply" first', code=MISSING)
    conn = await open_database(desired.database.url, run)
    try:
        yield conn
    finally:
        await asyncio.shield(release(conn, run))


async def open_database(url: Secret, run: Run) -> AsyncConnection:
    """A connection to be given back by `release`."""
    if run.pool is not None:
        return await run.pool.take(url, limits=run.limits, application_name=run.application_name)
    from reconciler.database.connection import connect

    return await connect(url, limits=run.limits, application_name=run.application_name)


async def release(conn: AsyncConnection, run: Run) -> None:
    """Keep the connection for the next run, where this one keeps any; else close it. What is open rolls back."""
    if run.pool is not None:
        await run.pool.give(conn)
    else:
        await conn.close()


@asynccontextmanager
async def connect_client(desired: Desired, run: Run) -> AsyncIterator[ConnectClient | None]:
    """Connect as this instance; None where the manifest names none (`setup`)."""
    if desired.connect is None:
        yield None
        return
    from reconciler.connect.client import ConnectSettings, open_client

    settings = ConnectSettings(
        ca_file=run.ca_file,
        production=desired.environment.name == "production",
        work_dir=run.work_dir,
        retry_after_s=run.retry_after_s,
    )
    async with open_client(desired.connect, desired.instance, settings, run.connect_pool) as client:
        yield client


async def fetch_view(desired: Desired, run: Run) -> ConnectView:
    """Ask Connect for status and plans, side by side; faults are part of the view."""
    async with connect_client(desired, run) as client:
        if client is None:
            return NOT_ASKED
        return await client.fetch_view(plans=desired.plans_from_connect)


async def open_both(desired: Desired, run: Run) -> tuple[AsyncConnection | None, ConnectView]:
    """The database and Connect's word, at once. None where the database is missing; other errors are raised."""
    opening = asyncio.create_task(_open_or_missing(desired, run))
    try:
        view = await fetch_view(desired, run)
        return await opening, view
    except BaseException:
        opening.cancel()
        done = await asyncio.gather(opening, return_exceptions=True)
        if done and not isinstance(done[0], BaseException) and done[0] is not None:
            await release(done[0], run)
        raise


async def _open_or_missing(desired: Desired, run: Run) -> AsyncConnection | None:
    if desired.database.url.reveal().startswith("embedded:"):
        return None  # a dry run before the first apply: its server was never made
    try:
        return await open_database(desired.database.url, run)
    except DatabaseError as exc:
        if exc.code == MISSING:
            return None
        raise


def refuse_to_make(desired: Desired) -> None:
    """A missing database that the manifest does not let fivrec make: nothing can be applied, so nothing is planned."""
    if desired.database.create:
        return
    raise DatabaseError(
        f'database "{desired.database_name}" is missing',
        hint="create it, or set database.create: true",
        code=MISSING,
    )


async def make_database(desired: Desired, run: Run) -> tuple[AsyncConnection, bool]:
    """CREATE DATABASE, then connect; and whether it was this run that made it.

    It is outside of the transaction; a crash between is healed by the next run.
    """
    refuse_to_make(desired)
    from reconciler.database.connection import create_database

    created = await create_database(desired.database.url, limits=run.limits)
    patient = replace(run, limits=replace(run.limits, connect_s=NEW_DATABASE_S))
    return await open_database(desired.database.url, patient), created
