"""What a plan consists of: changes to resources, and conflicts that fivrec can't settle. Pure."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar, Literal, TypeAlias

from reconciler.model.records import dataclass
from reconciler.model.types import Key, Resource, Source, Value

Cause: TypeAlias = Literal["new", "intent", "drift"]
"""new: never applied before; intent: the manifest or Connect changed; drift: others changed the database."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, before and after. A sensitive field keeps neither value: not even a report may hold them."""

    field: str
    before: Value = None
    after: Value = None
    sensitive: bool = False

    def shown(self) -> dict[str, Value]:
        """Returns the change as reports and audit rows show it."""
        if self.sensitive:
            return {"field": self.field, "sensitive": True}
        return {"field": self.field, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class Create:
    action: ClassVar[Literal["create"]] = "create"
    key: Key
    fields: tuple[FieldChange, ...]
    source: Source
    cause: Cause
    desired: Resource


@dataclass(frozen=True, slots=True)
class Update:
    action: ClassVar[Literal["update"]] = "update"
    key: Key
    fields: tuple[FieldChange, ...]
    source: Source
    cause: Cause
    desired: Resource
    observed: Resource


@dataclass(frozen=True, slots=True)
class Deactivate:
    action: ClassVar[Literal["deactivate"]] = "deactivate"
    key: Key
    fields: tuple[FieldChange, ...]
    source: Source
    cause: Cause
    observed: Resource


@dataclass(frozen=True, slots=True)
class Remove:
    """`own`: fivrec created the row, and nobody has changed it since."""

    action: ClassVar[Literal["remove"]] = "remove"
    key: Key
    fields: tuple[FieldChange, ...]
    source: Source
    cause: Cause
    observed: Resource
    own: bool = False


Change: TypeAlias = Create | Update | Deactivate | Remove


@dataclass(frozen=True, slots=True)
class Conflict:
    """Connect says something else than the manifest expects: shown, never "fixed"."""

    key: Key
    field: str
    expected: Value
    observed: Value


@dataclass(frozen=True, slots=True)
class Accepted:
    """A difference that an `ignore` entry accepts, with the reason it gives, and its last day; None: no end."""

    key: Key
    field: str
    reason: str
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Former:
    """What fivrec applied, still exists, and is no longer declared: shown, and left as it is."""

    key: Key
    run_id: str
    at: datetime
