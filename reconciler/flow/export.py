"""Read a live database, and write the manifest that it amounts to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.core.export import environment_of, manifest_of, suffix_of
from reconciler.database import store
from reconciler.database.connection import connect, list_databases
from reconciler.database.status_queries import read_history
from reconciler.flow.instance import open_database
from reconciler.flow.run import Run
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.types import Desired, EnvironmentName, Source, Value

if TYPE_CHECKING:
    from psycopg import AsyncConnection

SOURCES: tuple[Source, Source] = ("manifest", "connect")


async def export(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value]:
    """The manifest of one instance. Without `environment`, the one that was last applied, else production."""
    conn = await open_database(desired.database.url, run)
    try:
        return await _manifest(conn, desired.instance, run, environment=environment, plans=plans)
    finally:
        await conn.close()


async def export_server(desired: Desired, run: Run, *, plans: Source | None) -> tuple[dict[str, Value], ...]:
    """The manifests of all instances on a server, sorted by name; databases that hold none are left out."""
    found: list[dict[str, Value]] = []
    for name in await list_databases(desired.database.url, limits=run.limits):
        conn = await connect(
            desired.database.url, limits=run.limits, application_name=run.application_name, dbname=name
        )
        try:
            owner = await _owner(conn, run)
            if owner is not None:
                suffix = suffix_of(owner)
                found.append(await _manifest(conn, owner, run, environment=None, plans=plans, suffix=suffix))
        finally:
            await conn.close()
    return tuple(sorted(found, key=lambda document: str(document["instance"])))


async def _owner(conn: AsyncConnection, run: Run) -> str | None:
    """The instance that a database belongs to; None where it is none of Fi.V App."""
    snapshot = await store.begin(
        conn, store.Scope("", "production", references=False), None, lock=False, limits=run.limits
    )
    await store.rollback(conn)
    return snapshot.owner


async def _manifest(
    conn: AsyncConnection,
    instance: str,
    run: Run,
    *,
    environment: EnvironmentName | None,
    plans: Source | None,
    suffix: str = "",
) -> dict[str, Value]:
    scope = store.Scope(instance, environment or "production", references=False)
    snapshot = await store.begin(conn, scope, None, lock=False, limits=run.limits)
    known = environment_of(snapshot)
    if environment is None and known is not None and known != scope.environment:
        await store.rollback(conn)
        scope = replace(scope, environment=known)
        snapshot = await store.begin(conn, scope, None, lock=False, limits=run.limits)
    await store.rollback(conn)
    if snapshot.owner is not None and snapshot.owner != instance:
        raise Refused(
            f'the database belongs to instance "{snapshot.owner}", not to "{instance}"',
            hint=f"--instance {snapshot.owner}",
            code="wrong_instance",
        )
    source = plans or await _plan_source(conn, scope, run) or ("connect" if snapshot.heard else "manifest")
    return manifest_of(instance, scope.environment, snapshot, plans=source, suffix=suffix)


async def _plan_source(conn: AsyncConnection, scope: store.Scope, run: Run) -> Source | None:
    """Where the plans that were last written came from; None where none ever was."""
    try:
        entries = await read_history(conn, scope, kind="plan", limit=1, limits=run.limits)
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return None
        raise
    return next((known for entry in entries for known in SOURCES if entry.source == known), None)
