"""Read a live database, and write the manifest that it amounts to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.adapters import store
from reconciler.adapters.readings import read_history
from reconciler.core.export import environment_of, manifest_of
from reconciler.core.model import Desired, EnvironmentName, Source, Value
from reconciler.errors import DatabaseError, Refused
from reconciler.flow.instance import open_database
from reconciler.flow.run import Run

if TYPE_CHECKING:
    from psycopg import AsyncConnection

SOURCES: tuple[Source, Source] = ("manifest", "connect")


async def export(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value]:
    """The manifest of one instance. Without `environment`, the one that was last applied, else production."""
    instance = desired.instance
    conn = await open_database(desired.database.url, run)
    try:
        scope = store.Scope(instance, environment or "production")
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
        return manifest_of(instance, scope.environment, snapshot, plans=source)
    finally:
        await conn.close()


async def _plan_source(conn: AsyncConnection, scope: store.Scope, run: Run) -> Source | None:
    """Where the plans that were last written came from; None where none ever was."""
    try:
        entries = await read_history(conn, scope, kind="plan", limit=1, limits=run.limits)
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return None
        raise
    return next((known for entry in entries for known in SOURCES if entry.source == known), None)
