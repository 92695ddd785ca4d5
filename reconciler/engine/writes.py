"""Turn a plan into what one transaction writes: rows by kind, fivrec.applied, the status check. For the audit entries
see audit_log.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard, assert_never

from reconciler.database.rows import KEY_TABLE
from reconciler.database.store import CheckRow, RowWrite, Writes, row_write
from reconciler.engine.bcrypt import Passwords
from reconciler.engine.match_secrets import UNKNOWN, Prints
from reconciler.engine.observe import build_scope
from reconciler.engine.run import Run
from reconciler.model.changes import Change, Create, Remove, Update
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.setting import SENSITIVE
from reconciler.model.secret import Secret, Unusable
from reconciler.model.types import Applied, Desired, Key, Provenance, Resource, Snapshot, Value, same
from reconciler.planning.cause import last_of
from reconciler.planning.diff import renamed
from reconciler.planning.plan import UNMANAGED, Plan, applied_after, build_policies
from reconciler.planning.status_check import CheckResult
from reconciler.planning.tenure import provenance_after, records_after
from reconciler.support.crypto.keyring import KeyRing

_TURNS = {"remove": 0, "deactivate": 1, "update": 1, "create": 2}

Stored = Mapping[tuple[Key, str], str]
"""The sealed form of each sensitive field that is written: a hash or a ciphertext."""


def build_writes(plan: Plan, snapshot: Snapshot, desired: Desired, run: Run, passwords: Passwords) -> Writes:
    """Seal the secrets, then turn every change into its statement. Raises NeedsBcrypt."""
    stored = _seal(plan, desired, run.keys, passwords)
    scope = build_scope(desired)
    rows = tuple(
        row
        for change in in_order_of_writes(plan.changes)
        if (row := row_write(change, scope, _of(change.key, stored))) is not None
    )
    return Writes(
        migrate=any(change.key.kind == "schema" for change in plan.changes),
        kept=next((str(change.observed.row_id) for change in plan.changes if _moves(change)), None),
        purge={
            change.key.name: int(change.observed.fields["rows"])
            for change in plan.changes
            if isinstance(change, Remove) and change.key.kind == "test_data"
        },
        rows=(*_enforced_again(plan, snapshot, desired), *parked(plan.changes), *rows),
        applied=_applied(plan, snapshot, desired, Prints(run.keys, desired.instance), stored),
        provenance=_provenance(plan, snapshot),
        released=tuple(sorted(records_after(plan, desired, snapshot).items(), key=lambda item: item[0])),
        run_id=run.id,
    )


def _enforced_again(plan: Plan, snapshot: Snapshot, desired: Desired) -> tuple[RowWrite, ...]:
    """Returns the write that enforces isolation again after a migration, if the old functions call it enforced: the
    new ones refuse, by name, holes that the old ones did not know."""
    key = Key("environment", desired.instance)
    row, changed = snapshot.state.get(key), {change.key.kind for change in plan.changes}
    if "schema" not in changed or "environment" in changed or row is None or row.fields["isolation"] != "enforced":
        return ()
    return (RowWrite("environment", "update", {**row.fields, "key": key.name, "environment": row.fields["name"]}),)


def _moves(change: Change) -> TypeGuard[Update]:
    return isinstance(change, Update) and change.observed.moves_from is not None


def in_order_of_writes(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Write kind by kind; existing rows are removed or changed before new ones are created, which may take over a name.
    An administrator who moves from the other environment comes first: if isolation is enforced already, it would hide
    that row."""

    def turn(change: Change) -> tuple[bool, int, int, str]:
        return not _moves(change), BY_NAME[change.key.kind].order, _TURNS[change.action], change.key.name

    return tuple(sorted(changes, key=turn))


_ITS_OWN = ("name", "stripe_product_id", "stripe_price_id")


def parked(changes: Sequence[Change]) -> tuple[RowWrite, ...]:
    """Give plans a free name or Stripe id first if another plan is to have theirs: two may swap them under UNIQUE, or
    under a unique index of lower(name)."""
    moving = [
        (change, field)
        for change in changes
        if isinstance(change, Update) and change.key.kind == "plan"
        for field in change.fields
        if field.field in _ITS_OWN
    ]
    wanted = [(field.field, _any_case(field.after)) for _, field in moving]
    found: dict[str | None, set[str]] = {}
    for change, field in moving:
        if field.before is not None and (field.field, _any_case(field.before)) in wanted:
            found.setdefault(change.observed.row_id, set()).add(field.field)
    return tuple(
        RowWrite("plan", "park", {"row_id": row_id, "free": f"~{row_id}"}, frozenset(fields))
        for row_id, fields in found.items()
    )


def _any_case(value: Value) -> Value:
    return value.lower() if isinstance(value, str) else value  # the value of an odd column may be a list


def _provenance(plan: Plan, snapshot: Snapshot) -> dict[Key, tuple[Provenance, Mapping[str, Value]]]:
    """How each declared resource came under fivrec; a renamed one keeps the record of its old name."""
    changes = {change.key: change for change in plan.changes}
    found: dict[Key, tuple[Provenance, Mapping[str, Value]]] = {}
    for key, resource in applied_after(plan).items():
        change = changes.get(key)
        row = change.observed if isinstance(change, Update) else resource
        found[key] = provenance_after(change, last_of(resource, row, snapshot.applied))
    return found


def check_row(check: CheckResult, config_id: str | None = None) -> CheckRow:
    message = f"{check.error.code}: {check.error.message}" if check.error else None
    return CheckRow(
        check_type=check.check_type,
        success=check.success,
        status_received=check.status_received,
        error_message=message,
        response_time_ms=check.response_time_ms,
        config_id=config_id,
    )


def _of(key: Key, stored: Stored) -> dict[str, str]:
    return {field: text for (of, field), text in stored.items() if of == key}


def _seal(plan: Plan, desired: Desired, keys: KeyRing, passwords: Passwords) -> Stored:
    stored: dict[tuple[Key, str], str] = {}
    for change in plan.changes:
        if not isinstance(change, Create | Update):
            continue
        kind = BY_NAME[change.key.kind]
        written = {field.field for field in change.fields if field.sensitive}
        for field in sorted(written):
            secret = change.desired.fields[field]
            if isinstance(secret, Unusable):
                stored[change.key, field] = secret.reveal()
            elif isinstance(secret, Secret):
                match kind.sensitive.get(field):
                    case "bcrypt":
                        stored[change.key, field] = passwords.hashed(secret, desired.bcrypt_cost)
                    case "aes-gcm":
                        sealed = keys.encrypt(secret, instance=desired.instance, table=KEY_TABLE, column=field)
                        stored[change.key, field] = sealed
                    case None:  # a setting, as the app reads it
                        stored[change.key, field] = secret.reveal()
                    case never:
                        assert_never(never)
    return stored


def _applied(
    plan: Plan, snapshot: Snapshot, desired: Desired, prints: Prints, stored: Stored
) -> tuple[tuple[Key, Mapping[str, Value]], ...]:
    """What to remember as applied, only if it differs from what is remembered."""
    accepted = {(item.key, item.field) for item in plan.accepted}
    rows = _rows_of_other_keys(plan)
    coming = {change.key for change in plan.changes if _moves(change)}
    made = {change.key for change in plan.changes if isinstance(change, Create)}
    found: list[tuple[Key, Mapping[str, Value]]] = []
    for key, resource in sorted(applied_after(plan).items()):
        if (key, "*") in accepted:
            continue
        left_alone = {field for of, field in accepted if of == key}
        if key not in made:
            left_alone |= {name for name in resource.on_create if (key, name) not in stored}
        wanted = _wanted(resource, snapshot.applied.get(key), left_alone)
        if key.kind == "environment":
            wanted |= _policies(snapshot.applied.get(key), desired)
        # Remember a restored hash too: otherwise bcrypt would have to verify it at every run.
        rehashed = any((key, name) in stored for name in wanted) or key in coming
        for place in (key, *rows.get(key, ())):
            last = snapshot.applied.get(place)
            if last is None or rehashed or last.tenure != "declared" or not _all_same(last.fields, wanted):
                found.append((place, _remembered(resource, wanted, snapshot, prints, stored)))
    return tuple(found)


def _is_renamed(change: Update) -> bool:
    return renamed(BY_NAME[change.key.kind], change.desired, change.observed) is not None


def _rows_of_other_keys(plan: Plan) -> dict[Key, tuple[Key, ...]]:
    """Rows that keep their key under another declaration, such as a plan matched by name: what was last applied to them
    is remembered as well."""
    found: dict[Key, tuple[Key, ...]] = {}
    for change in plan.changes:
        if isinstance(change, Update) and change.observed.key != change.key and not _is_renamed(change):
            found[change.key] = (change.observed.key,)
    return found


def _wanted(resource: Resource, last: Applied | None, left_alone: set[str]) -> dict[str, Value]:
    """The fields to remember, with secrets still as `Secret`. Fields that were not written keep their record."""
    wanted: dict[str, Value] = {}
    for name, value in resource.fields.items():
        if name not in left_alone:
            wanted[name] = value
        elif last is not None and name in last.fields:
            wanted[name] = last.fields[name]
    return wanted


def _policies(last: Applied | None, desired: Desired) -> dict[str, Value]:
    """The policies for unmanaged rows to remember; a run that knows only a part of the manifest keeps the old ones."""
    if desired.whole:
        return {UNMANAGED: build_policies(desired)}
    return {UNMANAGED: last.fields[UNMANAGED]} if last is not None and UNMANAGED in last.fields else {}


def _all_same(last: Mapping[str, Value], wanted: Mapping[str, Value]) -> bool:
    return last.keys() == wanted.keys() and all(same(last[name], wanted[name]) for name in wanted)


def _remembered(
    resource: Resource, wanted: Mapping[str, Value], snapshot: Snapshot, prints: Prints, stored: Stored
) -> dict[str, Value]:
    """Secrets as fingerprints; for a secret that existed before, its stored form is digested too."""
    kept: dict[str, Value] = {}
    for name, value in wanted.items():
        if not isinstance(value, Secret):
            kept[name] = value
        elif name not in BY_NAME[resource.key.kind].sensitive:
            kept |= {name: prints.of(resource.key, name, value, None), SENSITIVE: True}
        elif value is not UNKNOWN:
            written = stored.get((resource.key, name)) or snapshot.hashes.get((resource.key, name))
            kept[name] = prints.of(resource.key, name, value, written)
    return kept


def find_rekeyed(snapshot: Snapshot, owner: str, instance: str) -> Snapshot:
    """For --adopt: the former owner's rows as rows of this instance. The key must be sealed again, bound to the new
    id."""
    state: dict[Key, Resource] = {}
    for key, row in snapshot.state.items():
        if key.name != owner or key.kind not in ("config", "status"):
            state[key] = row
            continue
        moved = Key(key.kind, instance)
        state[moved] = replace(row, key=moved)
        if key.kind == "config":  # the change of owner is shown, and audited
            fields = {**row.fields, "instance_key": UNKNOWN}
            state[moved] = replace(row, key=moved, fields=fields, renamed_from=owner)
    return replace(snapshot, state=state)
