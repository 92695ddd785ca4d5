"""The three-way view of one resource: what is declared and where, what was last applied, what exists. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from reconciler.model.changes import Accepted, Change, Update
from reconciler.model.json_pointer import unescape
from reconciler.model.kinds import BY_NAME, folded_key
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Applied, Desired, Key, Origin, Resource, Snapshot, Source, Value, rfc3339
from reconciler.planning.cause import RENAMED_TO
from reconciler.planning.diff import is_own, renamed
from reconciler.planning.plan import Plan

FIVREC = "fivrec itself"


@dataclass(frozen=True, slots=True)
class ExplainedField:
    """One field. None means no value; a sensitive field keeps no value at all. `origin` says where the declared value
    comes from, "" if none is declared. `differs`: the live value is not the declared one."""

    field: str
    declared: Value
    applied: Value
    live: Value
    origin: str
    differs: bool
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """One resource. `declared_by` is None if nothing declares it, `applied_*` if fivrec never applied it; `action` and
    `cause` are those of the change that an apply would make; `accepted` is the reason of an ignore entry. `provenance`,
    if nothing declares it any more: how it became fivrec's, and why it is left alone, or whose row it is from now on.
    """

    key: Key
    declared_by: Source | None
    applied_at: datetime | None
    applied_run: str | None
    live: bool
    action: str | None
    cause: str | None
    accepted: Accepted | None
    fields: tuple[ExplainedField, ...]
    provenance: str | None = None


def explain(key: Key, desired: Desired, plan: Plan, snapshot: Snapshot) -> Explained:
    """In `snapshot` secrets must be matched: a stored secret that is the declared one compares equal to it."""
    key = _as_known(key, plan, snapshot)
    change = next((item for item in plan.changes if item.key == key), None) or _renaming(key, plan)
    declared, row = _sides(key, desired, plan, snapshot, change)
    last = snapshot.applied.get(key)
    if last is None and row is not None:
        last = snapshot.applied.get(row.key)
    remembered = last.fields if last else {}
    return Explained(
        key=key,
        declared_by=declared.source if declared else None,
        applied_at=last.at if last else None,
        applied_run=last.run_id if last else None,
        live=row is not None,
        action=change.action if change else None,
        cause=change.cause if change else None,
        accepted=next((item for item in plan.accepted if item.key == key), None),
        fields=_fields(key, desired, declared, remembered, row),
        provenance=_provenance(key, last, plan, row, change) if last and declared is None else None,
    )


def _as_known(key: Key, plan: Plan, snapshot: Snapshot) -> Key:
    """Returns the key as declared, or else as in its row or the last apply: the user may spell it in another way."""
    managed = plan.managed.get(key.kind)
    declared = [item.key for item in managed.resources] if managed else []
    known = [one for one in (*declared, *snapshot.state, *snapshot.applied) if one.kind == key.kind]
    folded = folded_key(key)
    return key if key in known else next((one for one in known if folded_key(one) == folded), key)


def _renaming(key: Key, plan: Plan) -> Update | None:
    """Returns the change that takes this name from its row, or None."""
    kind = BY_NAME[key.kind]
    changes = (item for item in plan.changes if isinstance(item, Update) and item.observed.key == key)
    return next((item for item in changes if renamed(kind, item.desired, item.observed) is not None), None)


def _provenance(key: Key, last: Applied, plan: Plan, row: Resource | None, change: Change | None) -> str:
    before = last.before.get("role")
    began = {
        "created": "created by fivrec",
        "promoted": f"promoted by fivrec, {before} before",
        "adopted": "adopted: it was there before fivrec, or somebody made it again",
    }[last.provenance]
    if row is None and RENAMED_TO in last.before:
        began = f"renamed to {key.kind}/{last.before[RENAMED_TO]}"
    if change is not None and change.key != key:
        return f"{began}; {change.key} from now on"
    if row is None or change is not None:
        return began
    if last.provenance == "adopted":
        return f"{began}; so it is not taken back"
    if not is_own(BY_NAME[row.key.kind], row, last):
        return f"{began}; changed by somebody since, so it is not taken back"
    if last.tenure == "retired":
        return f"{began}; taken back when nothing declared it any more"
    kept = row.key.kind in plan.managed
    return f"{began}; " + (
        "its section keeps what is former" if kept else "its section is not declared, so no policy applies"
    )


def _sides(
    key: Key, desired: Desired, plan: Plan, snapshot: Snapshot, change: Change | None
) -> tuple[Resource | None, Resource | None]:
    """Returns what is declared, and the row that it matches."""
    if key.kind == "database":
        found = Resource(key, {"name": key.name}) if key.name == desired.database_name else None
        return found, found if snapshot.database_exists else None
    if key.kind == "schema":
        live = None if snapshot.schema_version is None else Resource(key, {"version": snapshot.schema_version})
        return getattr(change, "desired", live), live
    managed = plan.managed.get(key.kind)
    resources = managed.resources if managed else ()
    declared = next((item for item in resources if item.key == key), None)
    rows = tuple(row for row in snapshot.state.values() if row.key.kind == key.kind)
    matched = BY_NAME[key.kind].match(resources, rows)
    return declared, matched.get(key) or snapshot.state.get(key)


def _fields(
    key: Key, desired: Desired, declared: Resource | None, last: Mapping[str, Value], row: Resource | None
) -> tuple[ExplainedField, ...]:
    kind = BY_NAME[key.kind]
    said = declared.fields if declared else {}
    rows = (row.fields, *row.twins) if row else ({},)
    names = kind.fields if kind.name != "database" else ("name",)
    found = []
    for name in names:
        if name not in said and name not in last and name not in rows[0]:
            continue
        compared = declared is not None and name in said and name not in declared.on_create
        other = [live.get(name) for live in rows if compared and not kind.same(name, said[name], live.get(name))]
        differs = bool(other)
        origin = _origin_of_field(key, name, desired, declared) if name in said else ""
        values = (said.get(name), last.get(name), other[0] if other else rows[0].get(name))
        sensitive = name in kind.sensitive or any(isinstance(value, Secret) for value in values)
        if sensitive:
            values = (None, None, None)
        found.append(ExplainedField(name, *values, origin, differs, sensitive))
    return tuple(found)


def _origin_of_field(key: Key, name: str, desired: Desired, declared: Resource | None) -> str:
    if declared is not None and declared.source == "connect":
        return f"Fi.V Connect: {BY_NAME[key.kind].connect_request}"
    if key.kind == "schema":
        return "the migrations that this fivrec ships"
    path = BY_NAME[key.kind].places(desired.document, key.name).get(name)
    return find_origin(path, desired.document, desired.origin) if path else FIVREC


def find_origin(path: str, document: Mapping[str, Value], origin: Origin) -> str:
    """Returns `manifests/a.yaml:12:5 (variable company)`, or `default` for what the schema fills in."""
    words = origin.origins.get(path, "")
    exact = origin.places.get(path)
    if words == "default" and exact is None:
        return "default"
    words = words or _reference(_value_at(path, document))
    above, place = path, exact
    while place is None and above:
        above = above.rpartition("/")[0]
        place = origin.places.get(above)
    line, column = place or (origin.line, 1)
    return f"{origin.path}:{line}:{column}" + (f" ({words})" if words else "")


def _value_at(path: str, document: Value) -> Value:
    for step in path.split("/"):
        name = unescape(step)
        match document:
            case Mapping() if name in document:
                document = document[name]
            case list() | tuple() if name.isdigit() and int(name) < len(document):
                document = document[int(name)]
            case _:
                return None
    return document


def _reference(value: Value) -> str:
    words = ""
    match value:
        case {"env": str(name)}:
            words = f"environment variable {name}"
        case {"file": str(name)}:
            words = f"file {name}"
        case {"command": [str(program), *_]}:
            words = f"command {program}"
        case {"vault": str(path)}:
            words = f"{path} in Vault"
        case {"plugin": [str(name), str(what)]}:
            words = f"{name} {what}"
        case {"secret": dict(reference)}:
            words = _reference(reference)
        case {"generate": True}:
            words = "generated"
    return words


def as_json(item: Explained) -> dict[str, Value]:
    """Returns the item as in schemas/report.v1."""
    at = rfc3339(item.applied_at) if item.applied_at else None
    return {
        "kind": item.key.kind,
        "name": item.key.name,
        "declared_by": item.declared_by,
        "applied": {"run_id": item.applied_run, "at": at} if item.applied_run else None,
        "live": item.live,
        "action": item.action,
        "cause": item.cause,
        "accepted": item.accepted.reason if item.accepted else None,
        **({"provenance": item.provenance} if item.provenance else {}),
        "fields": [_field_as_json(field) for field in item.fields],
    }


def _field_as_json(field: ExplainedField) -> dict[str, Value]:
    known = {"field": field.field, "origin": field.origin, "differs": field.differs}
    if field.sensitive:
        return {**known, "sensitive": True}
    return {**known, "declared": field.declared, "applied": field.applied, "live": field.live}
