"""The terms that every layer shares: resources, desired and observed state, what Connect said. Pure values.

Values inside resources are JSON-shaped (None, bool, int, float, str, list, dict) or a `Secret`; nothing changes them
in place. Times are aware datetimes in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from reconciler.model.errors import FivrecError, place_of_row
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret


class JsonText(str):
    """A JSON value of the app's that not every reader accepts (1e999, "\\u0000", half a surrogate pair, a repeated
    key, 1,200 levels), kept as the text in its column. Equal to no other value, and shown as text."""

    __slots__ = ()


MAX_DEPTH = 100
"""How deep a manifest may nest: what is deeper can't be declared, and belongs to the app."""

SURROGATES = late("[\ud800-\udfff]")

Value: TypeAlias = Any
"""None, bool, int, float, str, Secret, or lists and string-keyed dicts of these."""

EMBEDDED = "embedded:"
"""The beginning of the address of a PostgreSQL or Connect that fivrec brings along; a path may follow."""

BCRYPT_COST = 12
"""The minimum cost of a stored password's hash; a manifest may raise it."""

BCRYPT_MOST_COST = 14
"""Stored hashes with a higher cost are not tried: each step doubles the time, and one of cost 31 takes days."""

EnvironmentName: TypeAlias = Literal["production", "development"]
OTHER_ENVIRONMENT: Final[Mapping[EnvironmentName, EnvironmentName]] = {
    "production": "development",
    "development": "production",
}
Isolation: TypeAlias = Literal["constraints", "enforced"]
Unmanaged: TypeAlias = Literal["keep", "deactivate", "remove"]
FormerPolicy: TypeAlias = Literal["keep", "deactivate", "remove", "demote", "lock"]
Provenance: TypeAlias = Literal["created", "promoted", "adopted"]
"""How a resource became fivrec's: fivrec made the row, gave it the declared role, or found it."""

Tenure: TypeAlias = Literal["declared", "former", "retired"]
"""What the last apply did with a resource: declared it, left it alone as no longer declared, or took it back."""

Source: TypeAlias = Literal["manifest", "connect"]
CheckType: TypeAlias = Literal["startup", "scheduled", "manual"]


def rfc3339(at: datetime, timespec: str = "seconds") -> str:
    """Returns a time as in all of fivrec's documents and tables: in UTC, ending with Z."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def canonical(value: Value) -> str:
    """Returns JSON with sorted keys and no spaces: equal values have equal text. Raises TypeError on a Secret."""
    text = _CANONICAL.encode(value)
    return encodable(_CANONICAL.encode(_numbers(value)) if _MAYBE_FLOAT.search(text) else text)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_MAYBE_FLOAT = late(r'(?:^|":|[,\[])-?[0-9]+[.e]')
"""Where JSON may have a number: digests and times, which nearly all documents have, don't match."""


def encodable(document: str) -> str:
    """Returns the JSON with lone surrogates escaped: a json column may hold them, UTF-8 may not."""
    return SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def is_plain(value: Value) -> bool:
    """Whether every JSON reader accepts it: no NUL, no half of a surrogate pair, no more than MAX_DEPTH levels."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        match item:
            case str():
                if "\0" in item or SURROGATES.search(item):
                    return False
            case list() | dict():
                if depth > MAX_DEPTH:
                    return False
                if isinstance(item, dict):
                    waiting += ((name, depth + 1) for name in item)
                    item = item.values()
                waiting += ((one, depth + 1) for one in item)
    return True


def same(one: Value, other: Value) -> bool:
    """Whether two values are equal as JSON: True is not 1, but 1.0 is; the order of keys does not count."""
    if type(one) is type(other) and isinstance(one, str | int | None):
        return bool(one == other)  # nearly all values; the rest are compared as JSON
    if isinstance(one, JsonText) or isinstance(other, JsonText):
        return False  # text never equals a value that can only be shown as text
    if isinstance(one, Secret) or isinstance(other, Secret):
        return isinstance(one, Secret) and isinstance(other, Secret) and one == other
    return canonical(one) == canonical(other)


def _numbers(value: Value) -> Value:
    """Turns whole floats into ints: PostgreSQL and Connect may write 29, 29.0 or 2.9e1 for one number."""
    match value:
        case float() if value.is_integer():
            from decimal import Decimal

            return int(Decimal(repr(value)))
        case dict():
            return {key: _numbers(item) for key, item in value.items()}
        case list() | tuple():
            return [_numbers(item) for item in value]
        case _:
            return value


def is_embedded(url: str) -> bool:
    return url.startswith(EMBEDDED)


class Key(NamedTuple):
    """A resource's identity: kind and name, shown as kind/name. A tuple, for fast lookups and sorting."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that can be declared or observed.

    `on_create` names fields that count only when the resource is created (a password under update_password:
    on_create). Of an observed row, `renamed_from` is its former owner, `row_id` its primary key, and `moves_from` the
    environment that it is still in, if it moves to this one; `referenced`: other rows refer to it. `twins` are the
    fields of further rows with its key, which are written with it: the app's table may have several. `doubled`: it is
    one of several queues of its name, whose other rows were not read.
    """

    key: Key
    fields: Mapping[str, Value]
    source: Source = "manifest"
    on_create: frozenset[str] = frozenset()
    renamed_from: str | None = None
    row_id: str | None = None
    referenced: bool = False
    moves_from: EnvironmentName | None = None
    twins: tuple[Mapping[str, Value], ...] = ()
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class Managed:
    """What one source declares of one kind. `unmanaged` is the policy for rows that it does not name, `former` the one
    for those among them that fivrec created or promoted and nobody has changed since. `consented`: the manifest asks
    for the removals by name, so no guard counts them. `unmanaged_is_new`: the last apply had another policy for such
    rows, so changes to them now are the manifest's intent, not drift."""

    resources: tuple[Resource, ...]
    unmanaged: Unmanaged = "keep"
    source: Source = "manifest"
    former: FormerPolicy = "keep"
    consented: bool = False
    unmanaged_is_new: bool = False


State: TypeAlias = Mapping[Key, Resource]


@dataclass(frozen=True, slots=True)
class Applied:
    """What fivrec last applied to one resource (fivrec.applied). A sensitive field holds a keyed fingerprint.

    `before` has the former values of fields that a promotion replaced: {"role": "agent"}."""

    fields: Mapping[str, Value]
    run_id: str
    at: datetime
    provenance: Provenance = "adopted"
    tenure: Tenure = "declared"
    before: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenDrift:
    """Drift that the last recording run left in place, and when a run first saw it."""

    key: Key
    since: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a manifest comes from. `places` maps a path like `queues/0/name` to (line, column), counting from 1;
    `origins` maps the same paths to words like `default`, `variable company`, `clients.csv:3`. `row` is the line of
    the CSV file that names the instance, if there is one."""

    path: str
    line: int
    digest: str = ""
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    row: str = ""

    @property
    def declared_at(self) -> tuple[str, int]:
        """The instance's own file and line: its row in a CSV file, if it has one."""
        return place_of_row(self.row) or (self.path, self.line)

    @property
    def place(self) -> dict[str, Any]:
        """The fields of a report that say where its instance is declared."""
        path, line = self.declared_at
        return {"path": path, "line": line, "row": self.row}


@dataclass(frozen=True, slots=True)
class Ignore:
    """Accepted drift: `pattern` is kind/name/field or kind/name, with shell wildcards; accepted through `until`."""

    pattern: str
    reason: str
    until: date | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    name: EnvironmentName
    isolation: Isolation = "constraints"
    purge_development_data: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """`url` is a PostgreSQL URL, or `embedded:` / `embedded:PATH`; once `url` is the running server's own, whose port
    changes with each start, `embedded` keeps the latter. `schema` holds the app's tables. `provision_url` is used only
    to create the database if it is missing."""

    url: Secret
    create: bool = True
    embedded: str = ""
    schema: str = "public"
    provision_url: Secret | None = None


@dataclass(frozen=True, slots=True)
class ConnectTarget:
    """Where to reach Connect. `instance_key` is None if the embedded emulator is to issue one."""

    api_url: str
    instance_key: Secret | None


@dataclass(frozen=True, slots=True)
class Desired:
    """One instance's manifest after rendering and resolution.

    `managed` maps a kind to what the manifest declares of it; a missing kind is not managed by the manifest.
    `document` is the rendered manifest with references in place of secrets.
    `generated` names the file that keeps a generated admin password; `generated_new`: the file does not exist yet.
    `issued_new`: the embedded Connect has just issued the instance key, in a dry run only for that run.
    `whole`: this is all that the manifest declares. Only then is what it does not name former.
    `moves_admin`: the administrator's row moves here from the other environment, whatever was last applied.
    `lacks`: why it can't be reconciled. The rest is enough for a check, and to record the failure.
    """

    instance: str
    environment: EnvironmentSpec
    database: DatabaseSpec
    connect: ConnectTarget | None
    managed: Mapping[str, Managed]
    plans_from_connect: bool = False
    plans_unmanaged: Unmanaged = "deactivate"
    labels: Mapping[str, str] = field(default_factory=dict)
    expect: Mapping[str, Value] = field(default_factory=dict)
    usage_report: bool = False
    ignore: tuple[Ignore, ...] = ()
    suspend: bool = False
    database_name: str = ""
    bcrypt_cost: int = BCRYPT_COST
    document: Mapping[str, Value] = field(default_factory=dict)
    origin: Origin = Origin("", 0)
    generated: str | None = None
    generated_new: bool = False
    issued_new: bool = False
    whole: bool = False
    moves_admin: bool = False
    lacks: FivrecError | None = None

    def without_declarations(self) -> Desired:
        """Returns what a status check uses of a manifest: only what Connect says counts, nothing that is declared."""
        return replace(self, managed={}, plans_from_connect=False, whole=False)


@dataclass(frozen=True, slots=True)
class LastCheck:
    """The newest startup or scheduled check in an instance's log. `age_s` is by the database's clock."""

    id: str
    age_s: float
    check_type: CheckType
    success: bool


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The audit key as the database holds it: sealed by the encryption keys, bound to an instance."""

    instance: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent reading of an instance's database.

    `schema_version` is the last migration in the database, None if fivrec's schema is missing. `missing` names tables
    and columns (`users.environment`) that a deep reading did not find; `doubles`: queue names that several rows have;
    `empty`: there was no table of the app or of fivrec. `owner` is instance_config.instance_id, `config_id` its row's
    id; None if there is no row. `audit_head` is (seq, hash) of the newest audit row, `audit_key` the sealed key that
    signs them. `hashes` keeps the stored form of a sensitive field whose value in `state` was found to be the declared
    one. `unfinished`: an adoption has left indexes and constraints of big tables for later transactions.
    `strong_login`: a deep reading found that the login can do more than own this database. `lock`: id and is_locked of
    the row of instance_config, as PostgreSQL writes their types.

    `answered`: Connect has answered at least once. `last_check` is read only for `watch`; `last_received` (the status
    of the newest successful check) and `alerted_billing` (the billing status in the newest alert) only if what Connect
    says may not be written. `unanswered`: the last run may have had no answer from Connect. `unalerted`: in a turn of
    `watch` the row already has Connect's new status, and no alert reported it, because the app asked Connect first.
    `reachable` is what the newest check, or the newest alert of a run by hand, says of Connect; None if it was not
    read. `open_drift`, what the last recording run left, is read in dry runs.
    """

    schema_version: int | None
    state: State = field(default_factory=dict)
    applied: Mapping[Key, Applied] = field(default_factory=dict)
    owner: str | None = None
    config_id: str | None = None
    answered: bool = False
    audit_head: tuple[int, str] = (0, "")
    audit_key: SealedKey | None = None
    missing: tuple[str, ...] = ()
    doubles: tuple[Key, ...] = ()
    empty: bool = False
    database_exists: bool = True
    hashes: Mapping[tuple[Key, str], str] = field(default_factory=dict)
    last_check: LastCheck | None = None
    last_received: str | None = None
    alerted_billing: str | None = None
    unanswered: bool = False
    unalerted: bool = False
    reachable: bool | None = None
    unfinished: bool = False
    strong_login: bool = False
    open_drift: tuple[OpenDrift, ...] = ()
    lock: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """Connect's answer to GET /api/v1/instances/status, checked by its schema and by the seed's lists of states."""

    instance_id: str
    status: Literal["active", "suspended", "pending_payment"]
    billing_status: Literal["paid", "overdue"]
    enabled_features: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """One plan of GET /api/v1/plans. `price` in cents, `storage_limit` in MB."""

    id: str
    name: str
    price: int
    billing_interval: str
    features: Sequence[Value]
    description: str | None = None
    currency: str = "BRL"
    max_users: int | None = 1
    max_conversations: int | None = 100
    storage_limit: int | None = 1000
    is_active: bool = True
    stripe_product_id: str | None = None
    stripe_price_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as reports show it: a stable code, a message, what to do. Never holds a secret."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, exc: FivrecError) -> ErrorInfo:
        return cls(exc.code, exc.message, exc.hint)

    @property
    def words(self) -> str:
        """One line for logs and alerts, with what to do."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def as_json(self) -> dict[str, str]:
        """Returns the error as in every JSON answer of a command; `docs` is where the code is explained."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "docs": f"docs/errors.md#{self.code}"}


@dataclass(frozen=True, slots=True)
class ConnectView:
    """What Connect answered. `status`/`plans` are None if they were not requested or could not be used;
    `status_error`/`plans_error` say why. `received` is the raw status, even if it is not one we know.
    `response_time_ms` is that of the status request; `retry_after_s` is how long Connect asked us to wait."""

    status: InstanceStatus | None = None
    plans: tuple[ConnectPlan, ...] | None = None
    status_error: ErrorInfo | None = None
    plans_error: ErrorInfo | None = None
    response_time_ms: int | None = None
    received: str | None = None
    retry_after_s: float | None = None


NOT_ASKED = ConnectView()
