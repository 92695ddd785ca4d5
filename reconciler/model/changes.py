"""What a plan consists of: changes to resources, and conflicts that nobody here can settle. Pure."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar, Literal, TypeAlias

from reconciler.model.records import dataclass
from reconciler.model.types import Key, Resource, Source, Value

Cause: TypeAlias = Literal["new", "intent", "drift"]
"""new: never applied before; intent: the manifest or Connect changed; drift: the database was changed by others."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, before and after. A sensitive one keeps neither: not even a report may hold it."""

    field: str
    before: Value = None
    after: Value = None
    sensitive: bool = False

    def shown(self) -> dict[str, Value]:
        """As reports and audit rows hold it."""
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
    """`own`: fivrec created the row, and nobody changed it since."""

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
    """What the manifest expects of Connect and Connect says otherwise: shown, never "fixed"."""

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
    """What fivrec applied, that is still there and that nothing declares any more: shown, and left as it is."""

    key: Key
    run_id: str
    at: datetime
