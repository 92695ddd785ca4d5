"""What the engine asks of a kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from reconciler.model.records import dataclass
from reconciler.model.types import Applied, ConnectView, FormerPolicy, Key, Managed, Resource, Unmanaged, Value

Document: TypeAlias = Mapping[str, Any]
"""A manifest after rendering, defaults and resolution: the schema's keys, secrets as `Secret`."""

Matches: TypeAlias = Mapping[Key, Resource]
"""The observed resource of each desired key that has one."""

Seal: TypeAlias = Literal["bcrypt", "aes-gcm"]
"""How a sensitive field is stored."""


def match_by_key(desired: Sequence[Resource], observed: Sequence[Resource]) -> Matches:
    """By kind and name; a resource that is not there under its name is looked for under `renamed_from`.

    Each observed row goes to one resource at most, and to the one that bears its name before all others.
    """
    free = {resource.key: resource for resource in observed}
    matches = {resource.key: free.pop(resource.key) for resource in desired if resource.key in free}
    for resource in desired:
        if resource.key in matches or resource.renamed_from is None:
            continue
        found = free.pop(Key(resource.key.kind, resource.renamed_from), None)
        if found is not None:
            matches[resource.key] = found
    return matches


def nothing_from_manifest(document: Document) -> Managed | None:  # noqa: ARG001 (the signature of a kind)
    return None


def nothing_from_connect(view: ConnectView, unmanaged: Unmanaged) -> Managed | None:  # noqa: ARG001
    return None


def no_places(document: Document, name: str) -> Mapping[str, str]:  # noqa: ARG001
    return {}


def nothing_taken_back(row: Resource, last: Applied, policy: FormerPolicy) -> Mapping[str, Value]:  # noqa: ARG001
    return {}


def step(name: str) -> str:
    """A key as a step of a path (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: its fields in the order shown, where it is declared, how it is matched.

    `order` is the place among the writes. `sensitive` maps a field to how it is stored. `renamed_field` is what a
    rename shows as. `active` is the field that deactivation sets to false; only rows that have one, or are
    `removable`, may go. A kind that gives None from both sources is not managed in this run. `places` gives, of a
    declared resource's name, the path in the manifest of each field (`queues/items/0/description`).
    `remembered`: what is no longer declared of it is former. `take_back` returns the fields that a former row gets,
    for a kind whose former rows are neither deactivated nor removed.
    """

    name: str
    order: int
    fields: tuple[str, ...]
    sensitive: Mapping[str, Seal] = field(default_factory=dict)
    renamed_field: str = "name"
    active: str | None = None
    removable: bool = False
    from_manifest: Callable[[Document], Managed | None] = nothing_from_manifest
    from_connect: Callable[[ConnectView, Unmanaged], Managed | None] = nothing_from_connect
    match: Callable[[Sequence[Resource], Sequence[Resource]], Matches] = match_by_key
    places: Callable[[Document, str], Mapping[str, str]] = no_places
    remembered: bool = False
    take_back: Callable[[Resource, Applied, FormerPolicy], Mapping[str, Value]] = nothing_taken_back
