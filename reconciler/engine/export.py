"""The manifest that a live state amounts to: applying it changes nothing. Pure; secrets become references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.database import store
from reconciler.database.connection import connect, list_databases
from reconciler.database.status_queries import read_history
from reconciler.engine.observe import note_time_zone, open_database
from reconciler.engine.run import Run
from reconciler.model.errors import DatabaseError, Refused
from reconciler.model.kinds.setting import reference_of
from reconciler.model.secret import Secret
from reconciler.model.types import (
    Desired,
    EnvironmentName,
    JsonText,
    Resource,
    Snapshot,
    Source,
    State,
    Value,
    is_embedded,
)
from reconciler.planning.diff import sorted_resources

if TYPE_CHECKING:
    from psycopg import AsyncConnection


ENVIRONMENTS: tuple[EnvironmentName, EnvironmentName] = ("production", "development")
DEFAULT_INTERVAL = 60


def variable_suffix(instance: str) -> str:
    """What sets one instance's variables apart from the others': `_CLIENT_ABC_123`."""
    return "_" + "".join(char if char.isalnum() and char.isascii() else "_" for char in instance).upper()


def build_manifest(
    instance: str,
    environment: EnvironmentName,
    snapshot: Snapshot,
    *,
    plans: Source,
    suffix: str = "",
    schema: str = "public",
) -> dict[str, Value]:
    """The document, its keys in the order of the schema. `plans` is where plans come from; `suffix` goes behind the
    names of the variables that secrets come from."""
    url = {"env": f"DATABASE_URL{suffix}"}
    document: dict[str, Value] = {"version": 1, "instance": instance, "database": {"url": url}}
    if schema != "public":
        document["database"] = {"url": url, "schema": schema}
    document["environment"] = _environment(instance, environment, snapshot.state)
    document["config"] = _config(snapshot.state, suffix)
    admin = _admin(snapshot.state, suffix)
    if admin is not None:
        document["admin"] = admin
    document["queues"] = [queue_item(row) for row in sorted_resources(snapshot.state, "queue")]
    rows = tuple(sorted_resources(snapshot.state, "plan"))
    if plans == "connect":
        document["plans"] = {"source": "connect"}
    elif rows:
        document["plans"] = {"source": "manifest", "items": [plan_item(row) for row in rows]}
    return document


def find_environment(snapshot: Snapshot) -> EnvironmentName | None:
    """The environment that was last applied; None where none ever was."""
    row = next(iter(sorted_resources(snapshot.state, "environment")), None)
    name = row.fields.get("name") if row else None
    return next((known for known in ENVIRONMENTS if known == name), None)


def _environment(instance: str, environment: str, state: State) -> Value:
    row = next((row for row in sorted_resources(state, "environment") if row.key.name == instance), None)
    isolation = row.fields.get("isolation") if row else "constraints"
    return environment if isolation == "constraints" else {"name": environment, "isolation": isolation}


def _config(state: State, suffix: str) -> dict[str, Value]:
    row = next(iter(sorted_resources(state, "config")), None)
    key = {"env": f"FIV_APP_API_KEY{suffix}"}
    config: dict[str, Value] = {"connect_api_url": {"env": "FIV_APP_API_URL"}, "instance_key": key}
    if row is not None:
        url = str(row.fields.get("connect_api_url"))
        config["connect_api_url"] = url
        if is_embedded(url):
            config["instance_key"] = {**key, "default": "embedded:"}
        config["check_interval_minutes"] = row.fields.get("check_interval_minutes") or DEFAULT_INTERVAL
    settings = {row.key.name: row.fields["value"] for row in sorted_resources(state, "setting")}
    company = settings.get("company_name")
    if isinstance(company, str) and not isinstance(company, JsonText):
        config["company_name"] = literal(settings.pop("company_name"))
    if settings:
        config["settings"] = {name: _setting(name, value, suffix) for name, value in settings.items()}
    return config


def _setting(name: str, value: Value, suffix: str) -> Value:
    if isinstance(value, Secret):
        return {"secret": {"env": f"SETTING{variable_suffix(name)}{suffix}"}}
    if reference_of(value) is not None:
        return {"secret": None}  # a row never becomes a reference: no manifest can hold this one, so it is left out
    return literal(value)


def _admin(state: State, suffix: str) -> dict[str, Value] | None:
    """The administrator that fivrec would find first; others are the app's."""
    rows = [
        row
        for row in sorted_resources(state, "admin")
        if row.fields.get("role") == "admin" and not row.fields.get("other_environment")
    ]
    if not rows:
        return None
    row = rows[0]
    return {
        "name": literal(row.fields["name"]),
        "email": literal(row.key.name),
        "password": {"env": f"FIV_ADMIN_PASSWORD{suffix}", "generate": True},
        "update_password": "on_create",
    }


def queue_item(row: Resource) -> dict[str, Value]:
    queue: dict[str, Value] = {"name": literal(row.key.name)}
    if row.fields.get("description") is not None:
        queue["description"] = literal(row.fields["description"])
    if row.fields.get("is_active") is not True:
        queue["is_active"] = False
    return queue


def plan_item(row: Resource) -> dict[str, Value]:
    fields: Mapping[str, Value] = row.fields
    plan = {"id": literal(row.key.name)}
    shown = {name: str(value) if isinstance(value, JsonText) else value for name, value in fields.items()}
    return {**plan, **{name: literal(value) for name, value in shown.items() if name != "duplicates"}}


def literal(value: Value) -> Value:
    """Text that a template would take for its own is written so that it renders to itself."""
    match value:
        case JsonText():
            return value  # left out by whoever writes the document: no manifest can hold it
        case str():
            return _literal_text(value)
        case list():
            return [literal(item) for item in value]
        case dict():
            return {key: literal(item) for key, item in value.items()}
        case _:
            return value


def _literal_text(text: str) -> str:
    if not any(mark in text for mark in ("{{", "{%", "{#")):
        return text
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    # The marks are split over two strings, so that none stands whole in the document.
    for mark in ("{{", "{%", "{#", "}}", "%}", "#}"):
        quoted = quoted.replace(mark, f"{mark[0]}' ~ '{mark[1]}")
    return "{{ '" + quoted + "' }}"


SOURCES: tuple[Source, Source] = ("manifest", "connect")


async def export(
    desired: Desired, run: Run, *, environment: EnvironmentName | None, plans: Source | None
) -> dict[str, Value]:
    """The manifest of one instance. Without `environment`, the one that was last applied, else production."""
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
    """The instance that a database belongs to; None where it is none of Fi.V App."""
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
    snapshot = await store.begin(conn, scope, None, lock=False, limits=run.limits)
    known = find_environment(snapshot)
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
    source = plans or await _plan_source(conn, scope, run) or ("connect" if snapshot.owner else "manifest")
    return build_manifest(instance, scope.environment, snapshot, plans=source, suffix=suffix, schema=schema)


async def _plan_source(conn: AsyncConnection, scope: store.Scope, run: Run) -> Source | None:
    """Where the plans that were last written came from; None where none ever was."""
    try:
        entries = await read_history(conn, scope, kind="plan", limit=1, limits=run.limits)
    except DatabaseError as exc:
        if exc.code == "schema_missing":
            return None
        raise
    return next((known for entry in entries for known in SOURCES if entry.source == known), None)
