"""What the engine asks of a kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from reconciler.model.errors import DatabaseError
from reconciler.model.names import same_name
from reconciler.model.records import dataclass
from reconciler.model.types import Applied, ConnectView, FormerPolicy, Key, Managed, Resource, Unmanaged, Value, same

Document: TypeAlias = Mapping[str, Any]
"""A manifest after rendering, defaults and resolution: the schema's keys, secrets as `Secret`."""

Matches: TypeAlias = Mapping[Key, Resource]
"""The observed resource of each desired key that has one."""

Seal: TypeAlias = Literal["bcrypt", "aes-gcm"]
"""How a sensitive field is stored."""


def matching_by(folded: Callable[[str], str]) -> Callable[[Sequence[Resource], Sequence[Resource]], Matches]:
    """Match by name: the exact one, else the only one that is the same when both are `folded`. A resource that is not
    there under its name is looked for under `renamed_from`, by the same rules.

    Each observed row goes to one resource at most, and to the one that bears its name before all others. DatabaseError
    `ambiguous`, naming them, if several rows are the same name.
    """

    def match(desired: Sequence[Resource], observed: Sequence[Resource]) -> Matches:
        free = {resource.key: resource for resource in observed}
        matches = {resource.key: free.pop(resource.key) for resource in desired if resource.key in free}
        names: list[tuple[Resource, str | None]] = [(one, one.key.name) for one in desired if one.key not in matches]
        if not names or not free:
            return matches
        alike: dict[str, list[Key]] = {}
        for key in sorted(free):
            alike.setdefault(folded(key.name), []).append(key)
        for resource, name in (*names, *((one, one.renamed_from) for one, _ in names)):
            if resource.key not in matches and name is not None:
                exact = Key(resource.key.kind, name)
                same = [exact] if exact in free else [key for key in alike.get(folded(name), ()) if key in free]
                if same:
                    matches[resource.key] = free.pop(_only(resource.key, same))
        return matches

    return match


def _only(key: Key, same: Sequence[Key]) -> Key:
    if len(same) > 1:
        raise DatabaseError(
            f"{key} could be any of {', '.join(one.name for one in same)}: they differ in case or Unicode form alone",
            hint="declare one of them as it is written there, or make one of the several by hand",
            code="ambiguous",
        )
    return same[0]


match_by_key = matching_by(same_name)


def nothing_from_manifest(document: Document) -> Managed | None:  # noqa: ARG001 (the signature of a kind)
    return None


def nothing_from_connect(view: ConnectView, unmanaged: Unmanaged) -> Managed | None:  # noqa: ARG001
    return None


def no_places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001
    return {}


def nothing_taken_back(row: Resource, last: Applied, policy: FormerPolicy) -> Mapping[str, Value]:  # noqa: ARG001
    return {}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: its fields in the order shown, where it is declared, how it is matched.

    `order` is the place among the writes. `sensitive` maps a field to how it is stored. `renamed_field` is what a
    rename shows as; names that are the same when `folded` are renamed too. `active` is the field that deactivation sets
    to false; only rows that have one, or are `removable`, may go. A kind that gives None from both sources is not
    managed in this run. `places` gives, of a declared resource's name, the path in the manifest of each field
    (`queues/items/0/description`). `equal` compares fields of which several spellings mean the same. `remembered`: what
    is no longer declared of it is former. `take_back` returns the fields that a former row gets, for a kind whose
    former rows are neither deactivated nor removed.
    """

    name: str
    order: int
    fields: tuple[str, ...]
    sensitive: Mapping[str, Seal] = field(default_factory=dict)
    renamed_field: str = "name"
    folded: Callable[[str], str] = same_name
    active: str | None = None
    removable: bool = False
    from_manifest: Callable[[Document], Managed | None] = nothing_from_manifest
    from_connect: Callable[[ConnectView, Unmanaged], Managed | None] = nothing_from_connect
    match: Callable[[Sequence[Resource], Sequence[Resource]], Matches] = match_by_key
    places: Callable[[Document, str], Mapping[str, str]] = no_places
    equal: Mapping[str, Callable[[Value, Value], bool]] = field(default_factory=dict)
    remembered: bool = False
    take_back: Callable[[Resource, Applied, FormerPolicy], Mapping[str, Value]] = nothing_taken_back

    def same(self, name: str, one: Value, other: Value) -> bool:
        """Whether two values of this field mean the same."""
        return same(one, other) or (name in self.equal and self.equal[name](one, other))
