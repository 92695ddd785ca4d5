"""Build the manifest that describes a live database, so that applying it changes nothing. Secrets become references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from reconciler.database.connection import Connection, connect, list_databases
from reconciler.database.status_queries import HistoryFilter, read_history
from reconciler.database.store import Scope
from reconciler.engine.guards import refuse_other_owner, say_newer
from reconciler.engine.observe import note_time_zone, open_database, read_snapshot, refuse_unmade
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, FivrecError
from reconciler.model.kinds import KINDS, PER_ENVIRONMENT
from reconciler.model.kinds.base import ExportSpec, variable_suffix
from reconciler.model.names import printable
from reconciler.model.types import Applied, Desired, EnvironmentName, Key, Snapshot, Source, Value
from reconciler.planning.diff import sorted_resources

ENVIRONMENTS: tuple[EnvironmentName, EnvironmentName] = ("production", "development")


def build_manifest(snapshot: Snapshot, about: ExportSpec) -> dict[str, Value]:
    """Returns the document, with its keys in the order of the schema."""
    document: dict[str, Value] = {"version": 1, "instance": about.instance}
    for kind in KINDS:
        rows = tuple(sorted_resources(snapshot.state, kind.name))
        for key, value in kind.export(rows, about).items():
            # Several kinds may share a section: the later kind's keys come first.
            document[key] = {**value, **document[key]} if key in document else value
    return document


def declared_keys(applied: Mapping[Key, Applied]) -> frozenset[Key]:
    """What the last apply declared, without former resources and those that were taken back."""
    return frozenset(key for key, last in applied.items() if last.tenure == "declared")


def find_environment(snapshot: Snapshot) -> EnvironmentName | None:
    """The environment of the last apply; None if there was none."""
    row = next(iter(sorted_resources(snapshot.state, "environment")), None)
    name = row.fields.get("name") if row else None
    return next((known for known in ENVIRONMENTS if known == name), None)


SOURCES: tuple[Source, Source] = ("manifest", "connect")


async def export(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value]:
    """Returns the manifest of one instance. If `environment` is not given, uses the last applied one, else production
    if a queue or administrator belongs to it, else development."""
    refuse_unmade(desired)
    conn = await open_database(desired.database.url, run)
    try:
        return await _manifest(conn, desired, run, environment=environment, plans=plans)
    finally:
        await conn.close()


@dataclass(frozen=True, slots=True)
class ServerExport:
    """What a server holds: the manifests of its instances, sorted by name, and the databases that were left out, with
    the reason. `closed` are databases that the login may not connect to, so that their owner is unknown."""

    documents: tuple[dict[str, Value], ...]
    left: tuple[tuple[str, FivrecError], ...]
    closed: tuple[str, ...] = ()


async def export_server(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> ServerExport:
    """Export all instances on a server. A database that can't be read does not stop the others. If two databases claim
    one instance, both are left out, because no manifest could describe both."""
    refuse_unmade(desired)
    found: dict[str, dict[str, Value]] = {}
    left: list[tuple[str, FivrecError]] = []
    names, closed = await list_databases(desired.database.url, limits=run.limits)
    for name in names:
        try:
            document = await _export_database(desired, run, name, environment, plans)
        except FivrecError as exc:
            left.append((name, exc))
        else:
            if document is not None:
                found[name] = document
    of_instance = Counter(document["instance"] for document in found.values())
    twice = {name: document["instance"] for name, document in found.items() if of_instance[document["instance"]] > 1}
    for name, owner in twice.items():
        left.append((name, _two_databases(owner, [one for one in twice if twice[one] == owner])))
    kept = [document for name, document in found.items() if name not in twice]
    kept.sort(key=lambda one: str(one["instance"]))
    return ServerExport(tuple(kept), tuple(sorted(left, key=itemgetter(0))), closed)


def _two_databases(instance: str, names: Sequence[str]) -> FivrecError:
    return FivrecError(
        f"it is one of {len(names)} databases that say they are {instance}'s: {', '.join(names)}",
        hint="drop the copy, or export the one in use with --database-url and --instance",
        code="ambiguous",
    )


async def _export_database(
    desired: Desired, run: Run, name: str, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value] | None:
    """Returns None if the database is not one of Fi.V App."""
    conn = await connect(desired.database.url, limits=run.limits, application_name=run.application_name, dbname=name)
    note_time_zone(conn, run)
    try:
        owner = await _owner(conn, desired)
        if owner is None:
            return None
        of_owner = replace(desired, instance=owner)
        return await _manifest(conn, of_owner, run, environment=environment, plans=plans, suffix=variable_suffix(owner))
    finally:
        await conn.close()


def _scope(instance: str, environment: EnvironmentName, desired: Desired) -> Scope:
    database = desired.database
    return Scope(instance, environment, references=False, schema=database.schema, trusted=bool(database.embedded))


async def _owner(conn: Connection, desired: Desired) -> str | None:
    """Returns the instance that a database belongs to; None if it is not one of Fi.V App."""
    return (await read_snapshot(conn, _scope("", "production", desired))).owner


async def _manifest(
    conn: Connection,
    desired: Desired,
    run: Run,
    *,
    environment: EnvironmentName | None,
    plans: Source | None,
    suffix: str = "",
) -> dict[str, Value]:
    instance, schema = desired.instance, desired.database.schema
    scope = _scope(instance, environment or "production", desired)
    snapshot = await read_snapshot(conn, scope)
    known = find_environment(snapshot)
    if environment is None and known != scope.environment:
        other = replace(scope, environment=known or "development")
        there = await read_snapshot(conn, other)
        if known is not None or _choose(snapshot, there, instance, run) == other.environment:
            scope, snapshot = other, there
    say_newer(snapshot.schema_version, desired, run)
    refuse_other_owner(snapshot.owner, instance, hint=f"--instance {printable(snapshot.owner or '')}")
    source = plans or await _plan_source(conn, scope) or _likely_source(snapshot)
    declared = declared_keys(snapshot.applied)
    return build_manifest(snapshot, ExportSpec(instance, scope.environment, source, schema, suffix, declared))


def _choose(production: Snapshot, development: Snapshot, instance: str, run: Run) -> EnvironmentName:
    """The environment of an instance that fivrec never applied, guessed from its administrators and queues. Logs the
    guess."""
    rows = [sum(key.kind in PER_ENVIRONMENT for key in one.state) for one in (production, development)]
    if not rows[1]:
        return "production"
    found: EnvironmentName = "production" if rows[0] else "development"
    said = f"queues and administrators: {rows[0]} in production, {rows[1]} in development"
    run.log.info(run.command, f"🌍 environment: {found} ({said}; --environment says otherwise)", instance=instance)
    return found


def _likely_source(snapshot: Snapshot) -> Source:
    """The source of plans: Connect, as for any app, unless a manifest that declares none was applied here. `setup`
    declares neither config nor plans."""
    kinds = {key.kind for key in snapshot.applied}
    return "manifest" if "config" in kinds and "plan" not in kinds else "connect"


async def _plan_source(conn: Connection, scope: Scope) -> Source | None:
    """The source that the plans were last written from; None if they never were."""
    try:
        entries = await read_history(conn, scope, HistoryFilter(kind="plan", limit=1))
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return None
        raise
    return next((known for entry in entries for known in SOURCES if entry.source == known), None)
