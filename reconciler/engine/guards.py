"""What keeps a plan from being applied: the guards, and a saved plan that no longer matches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.database.connection import Connection
from reconciler.database.schema import latest_version, newer_note
from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.engine.secrets import build_bound
from reconciler.model.changes import Create, Deactivate, Update
from reconciler.model.errors import ConnectError, FivrecError, Refused
from reconciler.model.names import printable
from reconciler.model.types import ConnectView, Desired, ErrorInfo, Key, Snapshot
from reconciler.planning.guards import STRONG_LOGIN, refusals
from reconciler.planning.plan import Plan
from reconciler.planning.report import InstanceReport
from reconciler.planning.status_check import WRONG_INSTANCE

if TYPE_CHECKING:
    from reconciler.planning.saved_plan import SavedInstance, SavedPlan

STALE = "stale_plan"
WRONG_OWNER = "wrong_instance"
HINT = 'look at "fivrec diff", and plan again'
NOT_PLANNED = f"if the plan was saved with --limit or --changed-since, give the same here; if not, {HINT}"
MONEY = "plans.price is money"
MOST = 10
"""Differences that are named per instance; the rest is counted."""


def refuse_other_owner(
    owner: str | None, instance: str, *, hint: str = "check database.url", command: str = ""
) -> None:
    """Raises Refused if the database belongs to another instance. `command` is a command that could take it over."""
    if owner is None or owner == instance:
        return
    # The name is from the app's row: with a line break in it, it could command the pipeline that prints it.
    owner = printable(owner)
    if command == "setup":
        hint = f"check --database-url; if {owner} is meant: --instance {owner}"
    elif command:
        hint += "; `fivrec apply --adopt` takes the database over"
    raise Refused(f'the database belongs to instance "{owner}", not to "{instance}"', hint=hint, code=WRONG_OWNER)


def configured_as(snapshot: Snapshot, instance: str) -> str | None:
    """The other instance that this database was configured for, from the records, when its row of instance_config is
    gone."""
    key = snapshot.audit_key
    if snapshot.owner is not None or Key("config", instance) in snapshot.applied or (key and key.instance == instance):
        return None
    return next((known.name for known in snapshot.applied if known.kind == "config"), None)


def owner_notes(snapshot: Snapshot, instance: str) -> tuple[str, ...]:
    """A database whose instance_config names no instance, and which the records assign to another name."""
    if snapshot.owner is not None:
        return ()
    former = configured_as(snapshot, instance)
    if former is not None:
        return (f"taken over from {former}",)
    named = snapshot.audit_key.instance if snapshot.audit_key else _made_as(snapshot, instance)
    return () if named in (None, instance) else (f"taken over from {named}, under which name this database was made",)


def _made_as(snapshot: Snapshot, instance: str) -> str | None:
    names = [known.name for known in snapshot.applied if known.kind == "environment"]
    return None if instance in names else next(iter(names), None)


def saved_instances(desired: Sequence[Desired], previews: Sequence[InstanceReport]) -> tuple[SavedInstance, ...]:
    """The plans of the instances that could be compared; `previews` are in the order of `desired`."""
    from reconciler.planning.saved_plan import save

    return tuple(
        save(report.plan, manifest=item.origin.digest, bound=build_bound(item))
        for item, report in zip(desired, previews, strict=True)
        if report.plan is not None and report.outcome in ("in_sync", "changed", "degraded", "skipped")
    )


def saved_plan(run: Run, instances: tuple[SavedInstance, ...]) -> SavedPlan:
    from reconciler.planning.saved_plan import SavedPlan

    return SavedPlan(run.id, run.now(), __version__, run.actor.git_commit, instances)


def refuse_unsafe(plan: Plan, snapshot: Snapshot, desired: Desired, run: Run) -> None:
    """Raises Refused if a guard holds back this plan and its digest was not accepted."""
    found = refusals(plan, snapshot.state)
    if not found:
        return
    digest = plan.digest(build_bound(desired))
    if digest not in run.accept:
        raise Refused(f"{'; '.join(found)}; if this is meant: --accept {digest}", code="guard")


def would_refuse(plan: Plan, snapshot: Snapshot, desired: Desired) -> tuple[str, ...]:
    """What the guards would refuse in an apply, for the dry run to show."""
    found = refusals(plan, snapshot.state)
    if not found:
        return ()
    return (*found, f"apply refuses this; if it is meant: --accept {plan.digest(build_bound(desired))}")


async def all_refusals(conn: Connection | None, plan: Plan, snapshot: Snapshot, desired: Desired) -> tuple[str, ...]:
    """The reasons why an apply of this plan would be refused: the guards, foreign keys between columns of different
    types, test data that can't be told from other rows, prices in money, and isolation that can't be enforced here."""
    found = would_refuse(plan, snapshot, desired)
    if conn is not None and any(change.key.kind == "test_data" for change in plan.changes):
        from reconciler.database.purge import read_doubts

        kept = next((row.row_id for row in snapshot.state.values() if row.moves_from is not None), None)
        doubts = await read_doubts(conn, build_scope(desired), snapshot.schema_version, kept and str(kept))
        found = (*found, *(f"apply refuses this {words}" for words in doubts))
    if conn is not None and not snapshot.empty and any(change.key.kind == "schema" for change in plan.changes):
        from reconciler.database.preconditions import read_unfit_references

        for words in await read_unfit_references(conn, desired.database.schema):
            found = (*found, f"apply refuses this (column_type): no foreign key can be made, as {words}")
    plans = (change for change in plan.changes if change.key.kind == "plan")
    if conn is not None and any(item.field == "price" for one in plans for item in one.fields):
        from reconciler.database.preconditions import other_types

        unfit = [words for words in await other_types(conn, desired.database.schema) if words == MONEY]
        found = (
            *found,
            *(f"apply refuses this (column_type): {words}, which takes no whole number" for words in unfit),
        )
    environment = (change for change in plan.changes if change.key.kind == "environment")
    enforced = any(item.field == "isolation" and item.after == "enforced" for one in environment for item in one.fields)
    if conn is None or not enforced:
        return found
    from reconciler.database.isolation_probes import read_isolation_refusals

    migrated = snapshot.schema_version is not None
    said = await read_isolation_refusals(conn, build_scope(desired), migrated=migrated)
    return (*found, *(f"apply refuses this (isolation_refused): {words}" for words in said))


def refuse_stale(plan: Plan, desired: Desired, run: Run, view: ConnectView) -> None:
    """Raises Refused if this run applies saved plans and this plan differs from the saved one. Data that Connect did
    not deliver this time is the cause of differences, not a difference: it is named first."""
    if run.saved is None:
        return
    saved = run.saved.get(desired.instance)
    if saved is None:
        message = f"no plan was made for {desired.instance} that could be applied now"
        raise Refused(message, hint=NOT_PLANNED, code=STALE)
    from reconciler.planning.saved_plan import staleness

    found = staleness(saved, plan, manifest=desired.origin.digest, bound=build_bound(desired))
    trouble = view.status_error or view.plans_error
    if found and trouble is not None:
        found = (f"{trouble.message}, so what came from Connect can't be compared", *found)
    if found:
        more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
        raise Refused(f"the saved plan is stale: {'; '.join(found[:MOST])}{more}", hint=HINT, code=STALE)


def find_undeclared(saved: Mapping[str, SavedInstance], declared: Collection[str]) -> tuple[InstanceReport, ...]:
    """Reports for saved instances that no manifest declares any more: nothing is done to them."""
    error = ErrorInfo(STALE, "the saved plan is stale: no manifest declares the instance any more", HINT)
    return tuple(
        InstanceReport(name, saved[name].environment, "refused", 0, Refused.exit_code, error=error)
        for name in sorted(saved.keys() - set(declared))
    )


def newer_notes(snapshot: Snapshot) -> tuple[str, ...]:
    """A dry run shows a schema that a newer fivrec migrated; an apply refuses it."""
    version = snapshot.schema_version or 0
    return (newer_note(version),) if version > latest_version() else ()


def say_newer(version: int | None, desired: Desired, run: Run) -> None:
    """Warns once per run and instance about a newer schema that is read anyway."""
    if version is not None and version > latest_version():
        run.warn_once(f"newer {desired.instance}", newer_note(version), desired.instance)


def database_notes(snapshot: Snapshot, plan: Plan, instance: str) -> tuple[str, ...]:
    """Notes about the database as it was read: its previous owner, declared names that several rows have, new ones that
    others have in another case, and, after a deep reading, whether a weaker login would do."""
    strong = (STRONG_LOGIN,) if snapshot.strong_login else ()
    return (*owner_notes(snapshot, instance), *_double_notes(snapshot, plan), *_case_notes(snapshot, plan), *strong)


def _case_notes(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    created = [change.key for change in plan.changes if isinstance(change, Create) and change.key.kind == "queue"]
    known = {key.name.casefold(): key for key in snapshot.state if created and key.kind == "queue"}
    for key in created:
        if (other := known.get(key.name.casefold())) is not None:
            yield (
                f"⚠️ {key}: there is {other}, which differs only in case: if it is meant, declare that name, or add "
                "renamed_from; if the column ignores case (citext), apply fails"
            )


def _double_notes(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    together = {
        change.observed.key
        for change in plan.changes
        if isinstance(change, Update | Deactivate) and change.observed.doubled and _changes_all(change)
    }
    for key in snapshot.doubles:
        managed = plan.managed.get(key.kind)
        found = f"⚠️ {key}: several rows have this name"
        if key in together:
            yield f"{found}; all of them are changed"
        elif managed is not None and any(one.key == key for one in managed.resources):
            yield f"{found}; the oldest active one is compared, the others stay as they are"


def _changes_all(change: Update | Deactivate) -> bool:
    """Whether sql/kinds/queue.sql writes the change to all queues of the name."""
    if isinstance(change, Deactivate):
        return True
    return change.key != change.observed.key or change.desired.fields.get("is_active") is False


def not_configured(desired: Desired, snapshot: Snapshot | None = None) -> FivrecError:
    """The seed's message (Troubleshooting 1), with advice on what to do."""
    if snapshot is not None and snapshot.config_id is not None:
        return FivrecError(
            f'Instance not configured: "{desired.instance}" was never applied to {desired.database_name}, whose row is '
            "the app's own; of this check, at most the lock that follows from it and its log row are written",
            hint='run "fivrec apply" first',
            code="instance_not_configured",
        )
    return FivrecError(
        f'Instance not configured: "{desired.instance}" has no row in {desired.database_name}',
        hint='run "fivrec apply" first, or send POST /api/instance/config to "fivrec serve"',
        code="instance_not_configured",
    )


def refuse_unknown_drift(desired: Desired, snapshot: Snapshot) -> None:
    """Raises Refused if nothing was ever applied here: then everything is new and nothing can have drifted, even if the
    database is gone."""
    if snapshot.applied:
        return
    name = desired.database_name
    said = f"nothing was ever applied to {name}" if snapshot.database_exists else f"database {name} does not exist"
    raise FivrecError(
        f"{said}, so what others changed can't be told",
        hint='run "fivrec apply" if the instance is new; if not, its data is gone, or database.url points elsewhere',
        code="instance_not_configured" if snapshot.database_exists else "database_missing",
    )


def refuse_another(view: ConnectView) -> None:
    """Raises ConnectError if Connect answered for another instance: nothing is written because of such an answer."""
    error = view.status_error
    if error is not None and error.code == WRONG_INSTANCE:
        raise ConnectError(error.message, hint=error.hint, code=error.code)
