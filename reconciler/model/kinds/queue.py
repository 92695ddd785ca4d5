"""kind queue: rows of queues, known by their name within the instance's environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.kinds.base import (
    Breach,
    Document,
    ExportSpec,
    Kind,
    Section,
    check_twice,
    declared_items,
    literal,
)
from reconciler.model.names import same_name
from reconciler.model.types import Key, Managed, Resource, Value


def from_manifest(document: Document) -> Managed | None:
    queues = document.get("queues")
    if queues is None:
        return None
    resources = tuple(
        Resource(
            Key("queue", item["name"]),
            {"description": item.get("description"), "is_active": item.get("is_active", True)},
            renamed_from=item.get("renamed_from"),
        )
        for item in sorted(queues["items"], key=lambda item: str(item["name"]))
    )
    return Managed(resources, queues["unmanaged"], former=queues.get("former", "keep"))


def places(document: Document, name: str) -> Mapping[str, str]:
    names = [item["name"] for item in declared_items(document, "queues")]
    if name not in names:
        return {}
    return {field: f"queues/items/{names.index(name)}/{field}" for field in KIND.fields}


def breaches(document: Document) -> Iterator[Breach]:
    queues = declared_items(document, "queues")
    names = [None if "name" not in queue else same_name(queue["name"]) for queue in queues]
    yield from check_twice("queues/items", "name", names, "queues")
    old_names: set[str] = set()
    for index, queue in enumerate(queues):
        old, path = queue.get("renamed_from"), f"queues/items/{index}/renamed_from"
        if old is None:
            continue
        old = same_name(old)
        if old == names[index]:
            yield Breach(path, "renamed_from is the queue's own name", "take renamed_from out")
        elif old in names:
            yield Breach(path, "renamed_from names a queue that is declared as well", "keep one of the two")
        elif old in old_names:
            yield Breach(path, "two queues are renamed from one name", "keep one of the two")
        old_names.add(old)


def names(document: Document) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(declared_items(document, "queues")):
        yield f"queues/items/{index}/name", item["name"]


def export_item(row: Resource) -> dict[str, Value]:
    queue: dict[str, Value] = {"name": literal(row.key.name)}
    if row.fields.get("description") is not None:
        queue["description"] = literal(row.fields["description"])
    if row.fields.get("is_active") is not True:
        queue["is_active"] = False
    return queue


def export(rows: Sequence[Resource], about: ExportSpec) -> dict[str, Value]:  # noqa: ARG001 (the signature of a kind)
    return {"queues": [export_item(row) for row in rows]}


KIND = Kind(
    name="queue",
    order=6,
    fields=("description", "is_active"),
    active="is_active",
    per_environment=True,
    from_manifest=from_manifest,
    places=places,
    remembered=True,
    table="queues",
    section=Section("queues", "queues_long", item="queue", short=True),
    breaches=breaches,
    names=names,
    names_of="queues",
    export=export,
    export_item=export_item,
)
