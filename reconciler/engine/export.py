"""The manifest that a live state amounts to: applying it changes nothing. Secrets become references."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.database.connection import connect, list_databases
from reconciler.database.status_queries import read_history
from reconciler.engine.guards import newer_notes, refuse_other_owner
from reconciler.engine.observe import note_time_zone, open_database
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import KINDS, PER_ENVIRONMENT
from reconciler.model.kinds.base import ExportSpec, variable_suffix
from reconciler.model.types import Desired, EnvironmentName, Snapshot, Source, Value
from reconciler.planning.diff import sorted_resources

if TYPE_CHECKING:
    from psycopg import AsyncConnection


ENVIRONMENTS: tuple[EnvironmentName, EnvironmentName] = ("production", "development")


def build_manifest(snapshot: Snapshot, about: ExportSpec) -> dict[str, Value]:
    """The document, its keys in the order of the schema."""
    document: dict[str, Value] = {"version": 1, "instance": about.instance}
    for kind in KINDS:
        for key, value in kind.export(tuple(sorted_resources(snapshot.state, kind.name)), about).items():
            # What a later kind says of a section that several share comes first.
            document[key] = {**value, **document[key]} if key in document else value
    return document


def find_environment(snapshot: Snapshot) -> EnvironmentName | None:
    """The environment that was last applied; None if none ever was."""
    row = next(iter(sorted_resources(snapshot.state, "environment")), None)
    name = row.fields.get("name") if row else None
    return next((known for known in ENVIRONMENTS if known == name), None)


SOURCES: tuple[Source, Source] = ("manifest", "connect")


async def export(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value]:
    """The manifest of one instance. Without `environment`, the one that was last applied, else development if no queue
    or administrator is of production, else production."""
    conn = await open_database(desired.database.url, run)
    try:
        return await _manifest(conn, desired, run, environment=environment, plans=plans)
    finally:
        await conn.close()


async def export_server(desired: Desired, run: Run, *, plans: Source | None) -> tuple[dict[str, Value], ...]:
    """The manifests of all instances on a server, sorted by name; databases that hold none are left out."""
    found: list[dict[str, Value]] = []
    for name in await list_databases(desired.database.url, limits=run.limits):
        conn = await connect(
            desired.database.url, limits=run.limits, application_name=run.application_name, dbname=name
        )
        note_time_zone(conn, run)
        try:
            owner = await _owner(conn, desired, run)
            if owner is not None:
                suffix = variable_suffix(owner)
                found.append(
                    await _manifest(
                        conn, replace(desired, instance=owner), run, environment=None, plans=plans, suffix=suffix
                    )
                )
        finally:
            await conn.close()
    return tuple(sorted(found, key=lambda document: str(document["instance"])))


def _scope(instance: str, environment: EnvironmentName, desired: Desired) -> store.Scope:
    database = desired.database
    return store.Scope(instance, environment, references=False, schema=database.schema, trusted=bool(database.embedded))


async def _owner(conn: AsyncConnection, desired: Desired, run: Run) -> str | None:
    """The instance that a database belongs to; None if it is none of Fi.V App."""
    snapshot = await store.begin(conn, _scope("", "production", desired), None, lock=False, limits=run.limits)
    await store.rollback(conn)
    return snapshot.owner


async def _manifest(
    conn: AsyncConnection,
    desired: Desired,
    run: Run,
    *,
    environment: EnvironmentName | None,
    plans: Source | None,
    suffix: str = "",
) -> dict[str, Value]:
    instance, schema = desired.instance, desired.database.schema
    scope = _scope(instance, environment or "production", desired)
    snapshot = await _read(conn, scope, run)
    known = find_environment(snapshot)
    if environment is None and known != scope.environment:
        other = replace(scope, environment=known or "development")
        there = await _read(conn, other, run)
        if known is not None or _choose(snapshot, there, instance, run) == other.environment:
            scope, snapshot = other, there
    refuse_other_owner(snapshot.owner, instance, hint=f"--instance {snapshot.owner}")
    for note in newer_notes(snapshot):
        run.log.warning(run.command, note, instance=instance)
    source = plans or await _plan_source(conn, scope, run) or ("connect" if snapshot.owner else "manifest")
    return build_manifest(snapshot, ExportSpec(instance, scope.environment, source, schema, suffix))


async def _read(conn: AsyncConnection, scope: store.Scope, run: Run) -> Snapshot:
    snapshot = await store.begin(conn, scope, None, lock=False, limits=run.limits)
    await store.rollback(conn)
    return snapshot


def _choose(production: Snapshot, development: Snapshot, instance: str, run: Run) -> EnvironmentName:
    """The environment of an instance that fivrec never applied, by its administrators and queues. Logs a guess."""
    rows = [sum(key.kind in PER_ENVIRONMENT for key in one.state) for one in (production, development)]
    if not rows[1]:
        return "production"
    found: EnvironmentName = "production" if rows[0] else "development"
    said = f"{rows[0]} queues and administrators are of production, {rows[1]} of development"
    run.log.info(run.command, f"🌍 environment: {found} ({said}; --environment says otherwise)", instance=instance)
    return found


async def _plan_source(conn: AsyncConnection, scope: store.Scope, run: Run) -> Source | None:
    """Where the plans that were last written came from; None if none ever was."""
    try:
        entries = await read_history(conn, scope, kind="plan", limit=1, limits=run.limits)
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return None
        raise
    return next((known for entry in entries for known in SOURCES if entry.source == known), None)
