"""Run an instance's checks as production, in a transaction that is rolled back. Connect is asked, but sent nothing."""

from __future__ import annotations

import asyncio
from dataclasses import field, replace

from reconciler.database import store
from reconciler.database.connection import Connection
from reconciler.database.schema import latest_version
from reconciler.engine import observe
from reconciler.engine.bcrypt import Passwords, with_bcrypt
from reconciler.engine.databases import compare_databases
from reconciler.engine.guards import configured_as, refuse_other_owner
from reconciler.engine.match_secrets import match_secrets, most_cost
from reconciler.engine.run import Run
from reconciler.engine.writes import build_writes
from reconciler.model.errors import ConnectError, DatabaseError, MissingSetting
from reconciler.model.kinds import development_rows
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectView, Desired, ErrorInfo, Key, Managed, Snapshot
from reconciler.planning.plan import Plan, build_plan, managed_kinds
from reconciler.planning.production_checks import Check, Found, is_readable, judge_production


@dataclass(slots=True)
class _Test:
    """What is known so far. `keys` and the administrator are dropped if they keep the rest from being read."""

    desired: Desired
    run: Run
    view: ConnectView
    databases: tuple[str, ...] = ()
    troubles: dict[str, ErrorInfo] = field(default_factory=dict)
    passwords: Passwords = field(default_factory=Passwords)


async def production_test(desired: Desired, run: Run, *, allow_embedded: bool = False) -> tuple[Check, ...]:
    """Returns every check with its outcome. Leaves exactly the rows that were there before, whatever the outcome."""
    wanted = as_production(desired)
    conn, view = await observe.open_both(wanted, run)
    # bcrypt runs before a transaction begins.
    notes = await compare_databases(desired, run) if view.status is not None else ()
    test = _Test(wanted, run, view, notes, passwords=Passwords(most_cost=most_cost(wanted)))
    if conn is None:
        empty = Snapshot(None, database_exists=False)
        return judge_production(wanted, view, empty, _plan(test, empty), None, allow_embedded=allow_embedded)
    opened = conn
    try:
        snapshot, plan, found = await with_bcrypt(lambda: _looked(opened, test), pause=lambda: store.rollback(opened))
    finally:
        await asyncio.shield(_left(conn, run))
    return judge_production(test.desired, view, snapshot, plan, found, allow_embedded=allow_embedded)


async def _looked(conn: Connection, test: _Test) -> tuple[Snapshot, Plan, Found | None]:
    """Read everything in one transaction that stays open. Raises NeedsBcrypt."""
    snapshot = await _observed(conn, test)
    plan = _plan(test, snapshot)
    if not is_readable(snapshot, latest_version()) or not snapshot.applied:
        return snapshot, plan, None
    if not _is_production(snapshot, test.desired):
        if snapshot.config_id is None and "config" in test.desired.managed:  # the rehearsal makes the row
            missing = ErrorInfo("instance_not_configured", "no instance key is stored", "run `fivrec apply` once")
            test.troubles.setdefault("key", missing)
        snapshot = await _rehearsed(conn, test, snapshot, plan)
        plan = _plan(test, snapshot)
    return snapshot, plan, await _found(conn, test, snapshot)


def as_production(desired: Desired) -> Desired:
    """The manifest with production as its environment, as it is applied when the instance goes live."""
    spec = replace(desired.environment, name="production")
    managed = dict(desired.managed)
    if spec.purge_development_data:
        managed[development_rows.NAME] = development_rows.CONSENTED
    if "environment" in managed:
        managed["environment"] = Managed(
            tuple(
                replace(resource, fields={**resource.fields, "name": "production"})
                for resource in managed["environment"].resources
            )
        )
    return replace(desired, environment=spec, managed=managed, ignore=(), whole=False)


async def _observed(conn: Connection, test: _Test) -> Snapshot:
    """Lock and read, and read again without the parts that can't be read: these fail their check, not the whole
    test."""
    keys = test.run.keys
    for _ in range(3):
        scope = observe.build_scope(test.desired)
        try:
            snapshot = await store.begin(
                conn, scope, keys if "key" not in test.troubles else None, lock=True, deep=True
            )
        except MissingSetting as exc:
            test.troubles["key"] = ErrorInfo.of(exc)
        except DatabaseError as exc:
            if exc.code != "admin_email_taken":
                raise
            test.troubles["admin"] = ErrorInfo.of(exc)
            kept = {name: declared for name, declared in test.desired.managed.items() if name != "admin"}
            test.desired = replace(test.desired, managed=kept)
        else:
            owner = snapshot.owner or configured_as(snapshot, test.desired.instance)
            refuse_other_owner(owner, test.desired.instance)
            return snapshot
    raise DatabaseError(f"{test.desired.database_name}: it could not be read")


def _is_production(snapshot: Snapshot, desired: Desired) -> bool:
    known = snapshot.state.get(Key("environment", desired.instance))
    return known is not None and known.fields.get("name") == "production"


def _plan(test: _Test, snapshot: Snapshot) -> Plan:
    settled = _settled(test, snapshot)
    return build_plan(test.desired, test.view, settled, schema_version=latest_version(), today=test.run.today)


async def _rehearsed(conn: Connection, test: _Test, snapshot: Snapshot, plan: Plan) -> Snapshot:
    """For an instance that is not production yet: write what an apply as production would write; the caller rolls it
    back."""
    writes = build_writes(plan, _settled(test, snapshot), test.desired, test.run, test.passwords)
    # The test data go first: rows that refer to the administrator would keep its row from moving.
    scope, rows_alone = observe.build_scope(test.desired), replace(writes, migrate=False)
    after = await store.write(conn, rows_alone, scope, test.run.keys)
    return replace(after, missing=snapshot.missing, strong_login=snapshot.strong_login)


def _settled(test: _Test, snapshot: Snapshot) -> Snapshot:
    managed = managed_kinds(test.desired, test.view)
    return match_secrets(snapshot, managed, test.desired, test.run.keys, test.passwords)


async def _found(conn: Connection, test: _Test, snapshot: Snapshot) -> Found:
    from reconciler.connect.responses import check_usage
    from reconciler.database.isolation_probes import read_leaks, read_open_passwords
    from reconciler.database.usage_outbox import read_counts_within

    scope, problem = observe.build_scope(test.desired), None
    counts = await read_counts_within(conn, scope)
    try:
        check_usage(counts.payload(scope))
    except ConnectError as exc:
        problem = exc.message
    leaks = await read_leaks(conn, scope.schema, test.desired.environment.isolation)
    in_the_open = await read_open_passwords(conn, scope.schema)
    return Found(leaks, await _login(test.desired, snapshot), problem, in_the_open, test.databases, test.troubles)


async def _login(desired: Desired, snapshot: Snapshot) -> bool | None:
    """Whether the stored hash matches the declared password."""
    managed = desired.managed.get("admin")
    if managed is None or not managed.resources:
        return None
    (admin,) = managed.resources
    row, declared = snapshot.state.get(admin.key), admin.fields.get("password")
    stored = row.fields.get("password") if row else None
    if not isinstance(stored, Secret) or not isinstance(declared, Secret):
        return None
    from reconciler.support.crypto.passwords import verify

    return await asyncio.to_thread(verify, declared, stored.reveal(), most_cost(desired))


async def _left(conn: Connection, run: Run) -> None:
    await store.rollback(conn)
    await observe.release(conn, run)
