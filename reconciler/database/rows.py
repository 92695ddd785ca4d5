"""Turns rows into resources, and changes into writes; no row goes further inward. Runs no SQL."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, LiteralString, get_args

from psycopg.types.json import Json as PsycopgJson

from reconciler.database.column_values import plain_value, spellings, text_value, yes_no_value
from reconciler.database.schema import parse_version
from reconciler.database.statements import statements
from reconciler.model.changes import Change, Create, Update
from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import BY_NAME, KINDS, PER_ENVIRONMENT
from reconciler.model.kinds.admin import folded
from reconciler.model.kinds.development_rows import NAME as TEST_DATA
from reconciler.model.kinds.setting import as_secret, is_secret
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret, Unencrypted
from reconciler.model.types import (
    MAX_DEPTH,
    OTHER_ENVIRONMENT,
    Applied,
    EnvironmentName,
    JsonText,
    Key,
    LastCheck,
    OpenDrift,
    Provenance,
    Resource,
    SealedKey,
    Snapshot,
    Tenure,
    Value,
    encodable,
    is_plain,
)
from reconciler.planning.cause import RENAMED_TO
from reconciler.support.crypto.keyring import KeyRing, is_envelope
from reconciler.support.strict_json import finite, with_unique_keys

_ESCAPES = late(r"\\u(?:0000|[dD][89a-fA-F])")
_BRACKETS = late(r"[\[{]")


class Json(PsycopgJson):
    """psycopg's Json, written our way."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, dumps=_dumps)


def loads(data: bytes | str) -> Value:
    """Returns the value of a JSON column, or JsonText if not every JSON reader accepts it. Raises UnicodeError."""
    text = data.decode() if isinstance(data, bytes) else data
    try:
        value = _decoder().decode(text)
    except (ValueError, RecursionError):  # a repeated key; a number that Python can't hold; too many levels
        return JsonText(text)
    suspect = _ESCAPES.search(text) is not None or len(_BRACKETS.findall(text)) > MAX_DEPTH
    return JsonText(text) if suspect and not is_plain(value) else value


def parse_features(value: Any) -> dict[str, bool]:
    """Returns the features in a column of the app's: the names that are true or false there, ignoring all else."""
    if not isinstance(value, Mapping):
        return {}
    return {name: on for name, on in value.items() if isinstance(on, bool)}


@cache
def _decoder() -> json.JSONDecoder:
    """Made once: json.loads would make one per call, because of the hooks."""
    return json.JSONDecoder(parse_float=finite, object_pairs_hook=with_unique_keys)


def _dumps(value: Any) -> str:
    return encodable(json.dumps(value, ensure_ascii=False))


Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]

OWN = ("migrations", "audit_head", "audit_key", "applied")
"""What a reading takes from fivrec's own tables: statements of sql/queries/state.sql."""
SETTING = "setting"
KEY_TABLE, KEY_COLUMN = "instance_config", "instance_key"
"""Where instance keys are stored. Their encryption is bound to this place."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows are meant. The emails are looked for in both environments. `references`: whether to find out which
    rows others refer to, needed if rows may be removed; `declared_queues` never are. `test_data`: whether to count
    development rows. `schema` holds the app's tables. `trusted`: the server is the embedded one, where nobody else has
    a login. `moves_admin`: the administrator's row moves here from the other environment, as it also does if the
    instance changes its environment."""

    instance: str
    environment: EnvironmentName
    admin_email: str | None = None
    admin_renamed_from: str | None = None
    references: bool = True
    declared_queues: tuple[str, ...] = ()
    test_data: bool = False
    schema: str = "public"
    trusted: bool = False
    moves_admin: bool = False


def flat(record: object) -> dict[str, Any]:
    """Returns a frozen record's fields by name, uncopied: `dataclasses.asdict` copies whatever is in them."""
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One statement of a kind with its parameters. `changed`: the columns that an update writes; None means all."""

    kind: str
    statement: Literal["create", "update", "deactivate", "remove", "park", "rekey"]
    params: Mapping[str, Any]
    changed: frozenset[str] | None = None

    def text(self, statement: LiteralString) -> LiteralString:
        """Returns the kind's statement without assignments to fields that do not change: what the app commits to those
        meanwhile stays. Other assignments (updated_at) are kept."""
        if self.changed is None or not statement.startswith("UPDATE"):
            return statement
        kind = BY_NAME[self.kind]
        fixed = {*kind.fields, kind.renamed_field} - self.changed
        before, _, rest = statement.partition("SET ")
        assignments, _, condition = rest.partition("\nWHERE ")
        kept = [one for one in _split(assignments) if one.split("=")[0].strip() not in fixed]
        return f"{before}SET {', '.join(kept)}\nWHERE {condition}"


@cache
def _split(assignments: str) -> tuple[str, ...]:
    """Split at the commas between assignments, not at those within parentheses."""
    found, depth = [""], 0
    for char in assignments:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            found.append("")
        else:
            found[-1] += char
    return tuple(found)


@cache
def kinds_with_rows() -> tuple[str, ...]:
    """Returns the kinds that have a statement to read them, in the order of writes."""
    return tuple(kind.name for kind in KINDS if "read" in kind_statements(kind.name))


@cache
def kinds_with_references() -> tuple[str, ...]:
    """Returns the kinds whose rows others may refer to."""
    return tuple(kind for kind in kinds_with_rows() if "references" in kind_statements(kind))


def kind_statements(kind: str) -> Mapping[str, str]:
    try:
        return statements(f"sql/kinds/{kind}.sql")
    except FileNotFoundError:
        return {}


def snapshot_from_rows(rows: Rows, scope: Scope, keys: KeyRing | None, missing: tuple[str, ...] = ()) -> Snapshot:
    """Returns the snapshot of one reading. `rows` maps a kind, `<kind>_references`, or one of OWN to the rows that were
    read; what is missing could not be read."""
    rows = {**rows, "environment": _environments(rows, scope), "config": _with_twins(rows.get("config", ()), scope)}
    scope = replace(scope, moves_admin=scope.moves_admin or _changes_environment(rows, scope))
    state = _by_key(
        resource
        for kind in kinds_with_rows()
        for row in _with_references(kind, rows)
        for resource in _resources(kind, row, scope, keys)
    )
    doubles = tuple(Key("queue", row["key"]) for row in rows.get("queue", ()) if row["referenced"])
    state |= {key: replace(state[key], doubled=True) for key in doubles}
    _choose_mover(state, scope)
    applied = _applied_records(rows.get("applied", ()), state)
    state |= {key: as_secret(row) for key, row in state.items() if key.kind == SETTING and is_secret(applied.get(key))}
    _leave_to_move(state)
    config = next(iter(rows.get("config", ())), None)
    if config is not None:
        _refuse_other_spelling(config, scope.instance)
    head = next(iter(rows.get("audit_head", ())), None)
    return Snapshot(
        schema_version=parse_version(_recorded(row, scope) for row in rows.get("migrations", ())),
        unfinished=not all(row["finished"] for row in rows.get("migrations", ())),
        state=state,
        applied=applied,
        owner=config["key"] if config else None,
        config_id=config.get("config_id", config["row_id"]) if config else None,
        answered=bool(config and config["answered"]),
        audit_head=(head["seq"], head["hash"]) if head else (0, ""),
        audit_key=next((SealedKey(**row) for row in rows.get("audit_key", ()) if row["sealed"] is not None), None),
        missing=missing,
        doubles=doubles,
        empty="tables" in rows and not any(row["present"] for row in rows["tables"]),
        strong_login=any(row["strong"] for row in rows.get("strong_login", ())),
        last_check=next(
            (LastCheck(**{**row, "success": yes_no_value(row["success"])}) for row in rows.get("last_check", ())), None
        ),
        last_received=next((text_value(row["status_received"]) for row in rows.get("last_received", ())), None),
        unanswered=any(row["unanswered"] for row in rows.get("open_drift", ())),
        open_drift=tuple(item for row in rows.get("open_drift", ()) for item in open_drift_from(row["open_drift"])),
        lock=(config["config_id"], config["lock_text"]) if config and "lock_text" in config else None,
    )


def _by_key(found: Iterable[Resource]) -> dict[Key, Resource]:
    """Returns one resource per key. If no unique index prevents further rows (it was dropped, or a table inherits from
    this one), those are its twins: the app may use any of them. Rows that only their values tell apart are sorted by
    these, so that a plan does not depend on where the rows lie."""
    state: dict[Key, Resource] = {}
    for row in found:
        first = state.setdefault(row.key, row)
        if first is row:
            continue
        if (first.moves_from is None) != (row.moves_from is None):  # one of them is still in the other environment
            state[row.key] = first if first.moves_from is None else row
            continue
        together = [first.fields, *first.twins, row.fields]
        if first.row_id == row.row_id:
            together.sort(key=_by_values)
        state[row.key] = replace(first, fields=together[0], twins=tuple(together[1:]))
    return state


def _by_values(fields: Mapping[str, Any]) -> str:
    return repr(sorted(fields.items(), key=lambda item: item[0]))


def _with_twins(rows: Sequence[Row], scope: Scope) -> list[Row]:
    """Returns the row of instance_config that counts, the first, with the instance's others: the app may use any."""
    return (
        [{**rows[0], "twins": [row for row in rows[1:] if row["key"] == rows[0]["key"] == scope.instance]}]
        if rows
        else []
    )


def _refuse_other_spelling(config: Row, instance: str) -> None:
    """Raises DatabaseError if the instance's own id, in a column of another type, looks like another instance's."""
    if config["key"] != instance and config["key"] in spellings(instance):
        raise DatabaseError(
            f"instance_config.instance_id, row {config['row_id']}: {config['key']} is {instance} in a column of "
            "another type (json, bytea, an array), where the documented one is text",
            hint="ALTER TABLE instance_config ALTER instance_id TYPE text USING …, or write the plain id into it",
            code="column_type",
        )


def _environments(rows: Rows, scope: Scope) -> list[Row]:
    """Returns what the instance was last applied as, if kind environment is read. A database taken over from another
    instance still has the environment that it had under that name."""
    found = [row for row in rows.get("applied", ()) if row["kind"] == "environment"]
    if not found or not rows.get("environment"):
        return []
    last = max(found, key=lambda row: (row["name"] == scope.instance, row["applied_at"]))
    name = OTHER_ENVIRONMENT[scope.environment] if last["other_environment"] else scope.environment
    known = {"key": scope.instance, "row_id": name, "referenced": False, "name": name}
    return [{**known, "isolation": rows["environment"][0]["isolation"]}]


def several(kind: str, rows: Sequence[Row]) -> bool:
    """Whether the kind's statement `chosen` must say which of these rows are meant. The database has to decide, as its
    types and collations may treat more texts as equal than Python does."""
    if kind == "config":
        return len(rows) > 1
    return len({_loosely(row["key"]) for row in rows}) < len(rows)


def _loosely(name: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", name).casefold() if char.isalnum())


def _recorded(row: Row, scope: Scope) -> tuple[int, str]:
    """Returns version and checksum; the checksum is "", so that none fits, if it was made for another schema."""
    return row["version"], row["checksum"] if row["app_schema"] == scope.schema else ""


def _changes_environment(rows: Rows, scope: Scope) -> bool:
    """Whether the instance was last applied as the other environment."""
    return any(row["key"] == scope.instance and row["name"] != scope.environment for row in rows.get("environment", ()))


def _choose_mover(state: dict[Key, Resource], scope: Scope) -> None:
    """Of several rows of the other environment that could be the declared administrator, keep the nearest. Keep none if
    its address is not exactly the declared one, and a row of this environment has that."""
    movers = {key: _distance(key, scope) for key, row in state.items() if row.moves_from is not None}
    here = {folded(key.name) for key in state if key.kind == "admin" and key not in movers}
    nearest = min(movers.values(), default=0)
    taken = nearest > 0 and folded(str(scope.admin_email)) in here
    for key, distance in movers.items():
        if taken or distance > nearest:
            del state[key]


def _distance(key: Key, scope: Scope) -> int:
    """Returns how far a row's address is from the declared one: 0 the same, 1 in another case, 2 the former one."""
    if key.name == scope.admin_email:
        return 0
    return 1 if folded(key.name) == folded(str(scope.admin_email)) else 2


def _leave_to_move(state: dict[Key, Resource]) -> None:
    """Don't count a development user who moves to production as test data."""
    users = state.get(Key(TEST_DATA, "users"))
    if users is None or not any(row.moves_from == "development" for row in state.values()):
        return
    rest = users.fields["rows"] - 1
    if rest:
        state[users.key] = replace(users, fields={**users.fields, "rows": rest})
    else:
        del state[users.key]


def renamed_admin(rows: Rows, scope: Scope) -> str | None:
    """Returns the address that a later rename gave to the declared administrator, if neither address was read: a user
    who is no longer an administrator is not read, and reverting the manifest reverts the rename."""
    if scope.admin_email is None or "admin" not in rows:
        return None
    read = {folded(str(row["key"])) for row in rows["admin"]}
    if read & {folded(name) for name in (scope.admin_email, scope.admin_renamed_from) if name is not None}:
        return None
    renames = {
        row["name"]: row["before"].get(RENAMED_TO)
        for row in rows.get("applied", ())
        if row["kind"] == "admin" and row["tenure"] == "retired" and isinstance(row["before"], dict)
    }
    name, found = scope.admin_email, None
    while isinstance(newer := renames.pop(name, None), str):
        name = found = newer
    return None if found is None or folded(found) in read else found


def _with_references(kind: str, rows: Rows) -> Sequence[Row]:
    referenced = {row["row_id"] for row in rows.get(f"{kind}_references", ())}
    found = rows.get(kind, ())
    return (
        [{**row, "referenced": row["referenced"] or str(row["row_id"]) in referenced} for row in found]
        if referenced
        else found
    )


def resource_from_row(kind: str, row: Row, scope: Scope, keys: KeyRing | None) -> Resource:
    """Returns the resource of one row. Without `keys` an encrypted field holds its envelope, as a Secret."""
    known = BY_NAME[kind]
    fields = {name: plain_value(row[name], kind, name, row["row_id"]) for name in known.fields if name in row}
    fields |= {name: yes_no_value(fields[name]) for name in known.yes_no_fields if fields.get(name) is not None}
    for name, seal in known.sensitive.items():
        if fields.get(name) is not None:
            # What is stored here must be a hash: even the declared password in clear text doesn't match.
            # `match_secrets` asks bcrypt, and if that matches puts the declared password there.
            stored = str(fields[name])
            fields[name] = Unencrypted(stored) if seal == "bcrypt" else _opened(row, stored, scope, keys)
    return Resource(Key(kind, str(row["key"])), fields, row_id=row["row_id"], referenced=row["referenced"])


def _resources(kind: str, row: Row, scope: Scope, keys: KeyRing | None) -> tuple[Resource, ...]:
    if row.get("other_environment"):
        return _not_ours(row, scope)
    found = resource_from_row(kind, row, scope, keys)
    # One row of instance_config is two resources: what the manifest says of it, and what Connect says.
    others = (other.name for other in KINDS if other.shares_rows_of == kind)
    return (found, *(_shared(other, row, scope, keys) for other in others))


def _shared(kind: str, row: Row, scope: Scope, keys: KeyRing | None) -> Resource:
    twins = tuple(resource_from_row(kind, twin, scope, keys).fields for twin in row.get("twins", ()))
    return replace(resource_from_row(kind, row, scope, keys), twins=twins)


def _not_ours(row: Row, scope: Scope) -> tuple[Resource, ...]:
    """Returns a user of the other environment if it is the administrator, who moves here. Raises DatabaseError if
    another user there has the declared email, as UNIQUE (email) spans both environments."""
    names = {folded(name) for name in (scope.admin_email, scope.admin_renamed_from) if name is not None}
    if scope.moves_admin and folded(str(row["key"])) in names:
        moves_from = OTHER_ENVIRONMENT[scope.environment]
        return (replace(resource_from_row("admin", row, scope, None), moves_from=moves_from),)
    if row["key"] == scope.admin_email:
        raise DatabaseError(
            f"{scope.instance}: a user of the other environment, or of none, has the admin's email {row['key']}",
            code="admin_email_taken",
            hint="declare another email for this environment: users.email is unique in both",
        )
    return ()


def _opened(row: Row, stored: str, scope: Scope, keys: KeyRing | None) -> Secret:
    if not is_envelope(stored) or row["key"] != scope.instance:
        # Clear text, or another instance's: useless until it is written again.
        return Unencrypted(stored)
    if keys is None or not keys.keys:
        return Secret(stored)
    return keys.decrypt(stored, scope.instance, KEY_TABLE, KEY_COLUMN)


def _applied_records(rows: Sequence[Row], state: Mapping[Key, Resource]) -> dict[Key, Applied]:
    """Returns the newest record of each resource. Records of the other environment, for kinds that belong to one, count
    only if their row moves here."""
    found: dict[Key, Applied] = {}
    for row in sorted(rows, key=lambda row: row["applied_at"]):
        key = Key(row["kind"], row["name"])
        if (
            row["other_environment"]
            and key.kind in PER_ENVIRONMENT
            and (key not in state or state[key].moves_from is None)
        ):
            continue
        found[key] = _applied(row)
    return found


def _applied(row: Row) -> Applied:
    """Values that fivrec never writes are read as the defaults of old records."""
    at: datetime = row["applied_at"]
    fields, before = (row[name] if isinstance(row[name], dict) else {} for name in ("fields", "before"))
    provenance: Provenance = row["provenance"] if row["provenance"] in get_args(Provenance) else "adopted"
    tenure: Tenure = row["tenure"] if row["tenure"] in get_args(Tenure) else "declared"
    return Applied(fields, row["run_id"], at.astimezone(UTC), provenance, tenure, before=before)


def open_drift_from(document: Sequence[Row]) -> tuple[OpenDrift, ...]:
    """Parses fivrec.last_run.open_drift. Returns nothing if somebody put there what fivrec never writes."""
    try:
        return tuple(
            OpenDrift(Key(item["kind"], item["name"]), datetime.fromisoformat(item["since"])) for item in document
        )
    except (TypeError, KeyError, ValueError):
        return ()


def row_write(change: Change, scope: Scope, sealed: Mapping[str, str] | None = None) -> RowWrite | None:
    """Returns the write of one change, with all fields of its kind; None for a kind without rows (database, schema).

    `sealed` maps sensitive fields to what is stored of them (a bcrypt hash, an envelope); a field that is missing there
    keeps the row's value. An update that takes over another instance's config needs instance_key sealed again.
    """
    kind = BY_NAME[change.key.kind]
    if change.action not in kind_statements(kind.name):
        return None
    observed = None if isinstance(change, Create) else change.observed
    desired = change.desired if isinstance(change, (Create, Update)) else None
    fields: dict[str, Value] = dict.fromkeys(kind.fields)
    fields.update({name: value for name, value in _known(observed).items() if name in kind.fields})
    fields.update(_known(desired))
    fields.update(dict.fromkeys(kind.sensitive))
    fields.update(sealed or {})
    return RowWrite(
        kind.name,
        change.action,
        {
            **fields,
            "key": change.key.name,
            "row_id": observed.row_id if observed else None,
            "row_name": observed.key.name if observed else None,
            "moves": observed is not None and observed.moves_from is not None,
            "instance": scope.instance,
            "environment": scope.environment,
        },
        frozenset(item.field for item in change.fields) or None if isinstance(change, Update) else None,
    )


def _known(resource: Resource | None) -> Mapping[str, Value]:
    return resource.fields if resource else {}
