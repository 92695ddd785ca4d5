"""What a kind of resource has to define, and what several kinds share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from reconciler.model.errors import DatabaseError
from reconciler.model.names import same_name
from reconciler.model.records import dataclass
from reconciler.model.types import (
    Applied,
    ConnectView,
    FormerPolicy,
    JsonText,
    Key,
    Managed,
    Resource,
    Source,
    Unmanaged,
    Value,
    same,
)

Document: TypeAlias = Mapping[str, Any]
"""A manifest after rendering, defaults and resolution: the schema's keys, secrets as `Secret`."""

Matches: TypeAlias = Mapping[Key, Resource]
"""Maps each desired key to its observed resource, if it has one."""

Seal: TypeAlias = Literal["bcrypt", "aes-gcm"]
"""How a sensitive field is stored."""

YES_NO: Final = (
    *(("true", "false"), ("1", "0"), ("t", "f"), ("yes", "no"), ("y", "n"), ("on", "off")),
    *(("TRUE", "FALSE"), ("T", "F"), ("YES", "NO"), ("Y", "N"), ("ON", "OFF")),
    *(("sim", "nao"), ("SIM", "NAO"), ("s", "n"), ("S", "N"), ("sim", "não"), ("Sim", "Não")),
)
"""The words for yes and no that apps store in a column of `yes_no_fields`. A row's own word decides which pair is
written; a column without a word, or which refuses them, gets the first pair that it accepts."""


class Breach(NamedTuple):
    """What is wrong at a path of a normalised manifest although the schema accepts it."""

    path: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The top-level key of a manifest that declares a kind. `part` and `item` name the parts of the schema ($defs)
    that hold the defaults of the section and of one of its `items`. `short`: just a list means {items: list}."""

    key: str
    part: str
    item: str | None = None
    short: bool = False


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """What an exported manifest is about. `suffix` is appended to the names of the variables that secrets come from.
    `declared` are the resources that the last apply declared."""

    instance: str
    environment: str
    plans: Source
    schema: str = "public"
    suffix: str = ""
    declared: frozenset[Key] = frozenset()

    def reference(self, variable: str) -> dict[str, Value]:
        return {"env": f"{variable}{self.suffix}"}


def matching_by(folded: Callable[[str], str]) -> Callable[[Sequence[Resource], Sequence[Resource]], Matches]:
    """Match by name: the exact one, else the only one that is equal when both are `folded`. A resource that is not
    found under its name is looked for under `renamed_from`, by the same rules.

    Each observed row goes to one resource at most, and first to the one with its exact name. Raises DatabaseError
    `ambiguous`, naming the rows, if several match a name.
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
            hint="declare one of them exactly as it is spelled there, or merge them by hand",
            code="ambiguous",
        )
    return same[0]


match_by_key = matching_by(same_name)


def declared_items(document: Document, section: str) -> Sequence[Mapping[str, Any]]:
    """Returns the items of a section; none if it is not declared, or has none."""
    return (document.get(section) or {}).get("items") or ()


def check_twice(path: str, key: str, names: Sequence[str | None], what: str) -> Iterator[Breach]:
    """Yields one breach per item whose name an earlier item has already."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name is None:
            continue
        if (before := first.setdefault(same_name(name), index)) != index:
            message = f'two {what} have the {key} "{name[:60]}" (entries {before + 1} and {index + 1})'
            yield Breach(f"{path}/{index}/{key}", message, "rename one, or keep one of the two")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: its fields in the order shown, where it is declared, how it is matched.

    In a database: `table` holds its rows; of their columns `json_fields` are JSON and `yes_no_fields` are yes or no, in
    whatever type the app has them. A kind without rows of its own is read from those of the kind `shares_rows_of`.
    `sql/kinds/<name>.sql` has its statements: `read`, `adopt` (the same if columns may be missing), `create`, `update`,
    `deactivate`, `remove`.

    In a manifest: `section` declares it, `breaches` finds what the schema can't express, `names` are its names with
    their paths, for lint, and `names_of` says what they name if they should differ in more than case. `export` turns
    rows into the part of a manifest that declares them, `export_item` one row into an item of the section.
    `connect_request` is the request to Connect for it.

    `order` is its place among the writes. `sensitive` maps a field to how it is stored. `renamed_field` is the field
    that a rename is shown as, even between names that are equal when `folded`. `active` is the field that deactivation
    sets to false; only rows of a kind that has one, or is `removable`, may go. `per_environment`: its rows belong to
    one environment; all else belongs to the instance, and what was applied of that counts in both. A kind that returns
    None for both sources is not managed in this run. `places` returns, for a declared resource's name, the path in the
    manifest of each field (`queues/items/0/description`). `equal` compares fields in which several spellings mean the
    same. `remembered`: what is no longer declared is former. `take_back` returns the fields that a former row gets, for
    a kind whose former rows are neither deactivated nor removed.
    """

    name: str
    order: int
    fields: tuple[str, ...]
    sensitive: Mapping[str, Seal] = field(default_factory=dict)
    renamed_field: str = "name"
    folded: Callable[[str], str] = same_name
    active: str | None = None
    removable: bool = False
    per_environment: bool = False
    from_manifest: Callable[[Document], Managed | None] = lambda *_: None
    from_connect: Callable[[ConnectView, Unmanaged], Managed | None] = lambda *_: None
    match: Callable[[Sequence[Resource], Sequence[Resource]], Matches] = match_by_key
    places: Callable[[Document, str], Mapping[str, str]] = lambda *_: {}
    equal: Mapping[str, Callable[[Value, Value], bool]] = field(default_factory=dict)
    remembered: bool = False
    take_back: Callable[[Resource, Applied, FormerPolicy], Mapping[str, Value]] = lambda *_: {}
    table: str = ""
    json_fields: frozenset[str] = frozenset()
    yes_no_fields: frozenset[str] = frozenset()
    shares_rows_of: str = ""
    section: Section | None = None
    breaches: Callable[[Document], Iterable[Breach]] = lambda *_: ()
    names: Callable[[Document], Iterable[tuple[str, str]]] = lambda *_: ()
    names_of: str = ""
    export: Callable[[Sequence[Resource], ExportSpec], Mapping[str, Value]] = lambda *_: {}
    export_item: Callable[[Resource], Mapping[str, Value]] | None = None
    connect_request: str = ""

    def same(self, name: str, one: Value, other: Value) -> bool:
        """Whether two values of this field mean the same."""
        return same(one, other) or (name in self.equal and self.equal[name](one, other))


def literal(value: Value) -> Value:
    """Escapes text that a template would interpret, so that it renders to itself."""
    match value:
        case JsonText():
            return value  # left out when the document is written: no manifest can hold it
        case str():
            return _literal_text(value)
        case list():
            return [literal(item) for item in value]
        case dict():
            return {key: literal(item) for key, item in value.items()}
        case _:
            return value


def _literal_text(text: str) -> str:
    if not any(mark in text for mark in ("{{", "{%", "{#")):
        return text
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    # Each mark is split over two strings, so that none is whole in the document.
    for mark in ("{{", "{%", "{#", "}}", "%}", "#}"):
        quoted = quoted.replace(mark, f"{mark[0]}' ~ '{mark[1]}")
    return "{{ '" + quoted + "' }}"


def variable_suffix(instance: str) -> str:
    """Returns a suffix that tells one instance's variables from the others': `_CLIENT_ABC_123`."""
    return "_" + "".join(char if char.isalnum() and char.isascii() else "_" for char in instance).upper()
