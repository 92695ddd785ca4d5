"""Apply edits of normalised manifests to the files that they were read from, each where its value was declared.

Changes the line that declares a value, or the cell if the value is one cell of a CSV file. Any other value from a
fleet's defaults becomes a key of the instance, or of its entry in `overrides`. The result is loaded again and compared
with the wanted manifests, so an edit with any other effect is not made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import Any, Final, TypeAlias

from reconciler.manifest.csv_editing import decoded, replace_cells
from reconciler.manifest.files import ManifestFile
from reconciler.manifest.fleet_document import Entry, is_fleet, long_environment, merge
from reconciler.manifest.loader import Manifest, load_files
from reconciler.manifest.origins import InstanceOrigins
from reconciler.manifest.template_budget import Parts, TemplateError
from reconciler.manifest.templates import Renderer
from reconciler.manifest.yaml.editing import GONE, Unwritable, edit, without_gone
from reconciler.manifest.yaml.parser import YamlFile
from reconciler.manifest.yaml.scalars import UNSTORABLE
from reconciler.model.errors import ManifestError
from reconciler.model.kinds import KINDS, SECTIONS, is_short
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.types import Key, Value, canonical, same
from reconciler.planning.pull import Edit, Left, Path, expected

_FORMULA: Final = late(r"[=@]|[+-](?![\d .,()-]*$)")
"""Text that a spreadsheet would run as a formula. Anyone who can write to the database can choose it."""
_NOT_THERE: Final = object()
_LISTS: Final = frozenset(section.key for section in SECTIONS.values() if section.item is not None)
_OTHERS = "it can't be written without changing what else the manifests declare"
_Ref: TypeAlias = tuple[str, Key, str]  # an edit's instance, resource and field
_MAX_ALONE: Final = 50  # edits of one instance that are tried in cells one by one
_MAX_TRIES: Final = 200  # attempts for one instance, if its edits can't be made together


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file, before and after."""

    path: str
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Edited:
    """The result of the edits: files that differ, the edits made, and those that can't be made, by instance."""

    files: tuple[ChangedFile, ...]
    made: Mapping[str, tuple[Edit, ...]]
    left: Mapping[str, tuple[Left, ...]]


@dataclass(slots=True)
class Editor:
    """`files` as they were read; `variables` and `environ` as for load_manifests."""

    files: Sequence[ManifestFile]
    variables: Sequence[str]
    environ: Mapping[str, str]
    manifests: dict[str, Manifest] = field(default_factory=dict)
    renderer: Renderer = field(default_factory=Renderer)
    _tables: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for manifest in load_files(self.files, variables=self.variables, environ=self.environ):
            self.manifests[manifest.instance] = manifest
            source = _entry(manifest).source
            if source.row is not None:
                self._tables.setdefault(source.file.path, set()).add(source.row.path)

    def apply(self, wanted: Mapping[str, tuple[Edit, ...]]) -> Edited:
        """Make as many of the edits as possible: an instance that can't be edited doesn't stop the others."""
        files, reason = self._write(wanted, frozenset())
        if reason is None:
            return Edited(files, wanted, {})
        made: dict[str, tuple[Edit, ...]] = {}
        left: dict[str, tuple[Left, ...]] = {}
        plain: frozenset[_Ref] = frozenset()
        files = ()
        for instance, edits in wanted.items():
            kept, refused, own = self._possible(instance, edits)
            if refused:
                left[instance] = refused
            for more in (plain | own, plain | _refs(instance, kept)):
                # Edits that work alone may not work together: they may share a cell or an anchor.
                found, reason = self._write({**made, instance: kept}, more)
                if reason is None:
                    made[instance], files, plain = kept, found, more
                    break
            else:
                left[instance] = (*refused, *(Left(item.key, item.field, _OTHERS) for item in kept))
        return Edited(files, made, left)

    def _possible(
        self, instance: str, edits: tuple[Edit, ...]
    ) -> tuple[tuple[Edit, ...], tuple[Left, ...], frozenset[_Ref]]:
        """Splits one instance's edits into those that can be made, and those of them that must not change cells."""
        for plain in self._choices(instance, edits):
            if self._write({instance: edits}, plain)[1] is None:
                return edits, (), plain
        whole, groups, tries = _refs(instance, edits), [edits], _MAX_TRIES
        kept: tuple[Edit, ...] = ()
        refused: list[Left] = []
        while groups:  # edits that can't be made together are halved
            group, tries = groups.pop(), tries - 1
            reason = self._write({instance: (*kept, *group)}, whole)[1] if tries >= 0 else _OTHERS
            if reason is None:
                kept = (*kept, *group)
            elif len(group) == 1 or tries < 0:
                refused += [Left(item.key, item.field, reason) for item in group]
            else:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
        return kept, tuple(refused), whole

    def _choices(self, instance: str, edits: tuple[Edit, ...]) -> Iterator[frozenset[_Ref]]:
        """Sets of edits that leave cells alone, to be tried in order: none; those whose cells can't be changed; all."""
        if _entry(self.manifests[instance]).source.row is not None:
            yield frozenset()
            tried = edits[:_MAX_ALONE]
            shared = tuple(item for item in tried if self._write({instance: (item,)}, frozenset())[1] is not None)
            yield _refs(instance, (*shared, *edits[_MAX_ALONE:]))
        yield _refs(instance, edits)

    def _write(
        self, wanted: Mapping[str, tuple[Edit, ...]], plain: frozenset[_Ref]
    ) -> tuple[tuple[ChangedFile, ...], str | None]:
        """Returns the files with these edits, or why not. `plain`: edits that leave cells alone."""
        drafts = _Drafts(self.renderer)
        try:
            rest = {
                instance: tuple(
                    item
                    for item in edits
                    if (instance, item.key, item.field) in plain or not drafts.in_cell(self.manifests[instance], item)
                )
                for instance, edits in wanted.items()
            }
            said = self._load(drafts.files(self.files)) if drafts.cells else {}
            for instance, edits in rest.items():
                drafts.add(self.manifests[instance], tuple(_unsaid(edits, said.get(instance))))
            changed = drafts.files(self.files)
            return changed, self._difference(changed, wanted)
        except Unwritable as exc:
            return (), str(exc)
        except ManifestError as exc:
            return (), exc.problems[0].message if exc.problems else exc.message

    def _load(self, changed: tuple[ChangedFile, ...]) -> dict[str, Manifest]:
        """The manifests of these files as they would be."""
        texts = {file.path: file.after for file in changed}
        loaded = load_files(
            [replace(file, yaml=YamlFile(file.yaml.path, texts.get(file.yaml.path, file.yaml.text)), beside=texts)
             for file in self._concerned(texts)],
            variables=self.variables, environ=self.environ,
        )  # fmt: skip
        return {manifest.instance: manifest for manifest in loaded}

    def _difference(self, changed: tuple[ChangedFile, ...], wanted: Mapping[str, tuple[Edit, ...]]) -> str | None:
        """Load the result. Returns None if it declares what was wanted and nothing else changed, otherwise the
        reason."""
        for manifest in self._load(changed).values():
            before = self.manifests.get(manifest.instance)
            if before is None:
                return _OTHERS
            target = expected(_declared(before.document), wanted.get(manifest.instance, ()))
            if _words(target) != _words(_declared(manifest.document)):
                return _OTHERS
            if _rest(before.document) != _rest(manifest.document):
                return _OTHERS
        return None

    def _concerned(self, texts: Mapping[str, bytes]) -> Iterator[ManifestFile]:
        """The files whose instances may change: those that were edited, and those that use an edited CSV file."""
        return (file for file in self.files if {file.yaml.path, *self._tables.get(file.yaml.path, ())} & texts.keys())


def _entry(manifest: Manifest) -> Entry:
    origins = manifest.origin.origins
    assert isinstance(origins, InstanceOrigins)  # noqa: S101 (the loader's)
    return origins.entry


def _declared(document: Mapping[str, Any]) -> dict[Key, Mapping[str, Value]]:
    managed = [kind.from_manifest(document) for kind in KINDS]
    return {resource.key: resource.fields for one in managed if one for resource in one.resources}


def _words(declared: Mapping[Key, Mapping[str, Value]]) -> dict[Key, str]:
    return {key: canonical(dict(fields)) for key, fields in declared.items()}


def _rest(document: Mapping[str, Any]) -> str:
    """The keys that a pull never changes."""
    kept = {key: value for key, value in document.items() if key != "environment_read"}
    kept["policies"] = {}
    for section in ("environment", "config", *SECTIONS):
        value = kept.pop(section, None)
        if isinstance(value, dict):
            kept["policies"][section] = value.get("unmanaged"), value.get("source"), value.get("update_password")
    return canonical(kept)


@dataclass(slots=True)
class _Drafts:
    """The data of documents as they should be, and the cells to change."""

    renderer: Renderer
    documents: dict[tuple[str, int], tuple[Any, Any]] = field(default_factory=dict)
    cells: dict[str, dict[tuple[int, str], str]] = field(default_factory=dict)

    def add(self, manifest: Manifest, edits: tuple[Edit, ...]) -> None:
        draft = self._draft(manifest)
        # Additions come last, and removed items keep their place until then, so that item numbers stay valid.
        for item in sorted(edits, key=lambda one: one.action == "add"):
            draft.make(item)

    def _draft(self, manifest: Manifest) -> _Draft:
        entry = _entry(manifest)
        document = entry.source.document
        place = (entry.source.file.path, document.index)
        if place not in self.documents:
            self.documents[place] = (document.data, without_gone(document.data))
        return _Draft(entry, self.documents[place][1])

    def in_cell(self, manifest: Manifest, item: Edit) -> bool:
        """Change the cell if the value is exactly one cell of a CSV file. Returns whether it is."""
        entry = _entry(manifest)
        row, raw = entry.source.row, self._draft(manifest).value(item.path)
        if row is None or item.action != "set" or type(item.live) not in (str, int) or not isinstance(raw, str):
            return False
        column, said = _column(self.renderer, raw), str(item.live)
        if column not in entry.literals or UNSTORABLE.search(said) or _FORMULA.match(said):
            return False
        known = self.cells.setdefault(row.path, {})
        if known.setdefault((row.line, column), said) != said:
            raise Unwritable(f"the cell {column} of {row} would need two values")
        return True

    def files(self, files: Sequence[ManifestFile]) -> tuple[ChangedFile, ...]:
        found: list[ChangedFile] = []
        for file in files:
            path = file.yaml.path
            changes = [(index, *data) for (of, index), data in sorted(self.documents.items(), key=lambda one: one[0])
                       if of == path]  # fmt: skip
            mark, text = decoded(file.yaml.text)
            after = mark + edit(text, changes).encode() if changes else file.yaml.text
            if after != file.yaml.text:
                found.append(ChangedFile(path, file.yaml.text, after))
        for path, cells in sorted(self.cells.items()):
            before = read_bytes(path)
            found.append(ChangedFile(path, before, replace_cells(before, cells)))
        return tuple(found)


def read_bytes(path: str) -> bytes:
    """The file as it is now."""
    with open(path, "rb") as file:  # noqa: PTH123 (the loader read it by this path)
        return file.read()


def _column(renderer: Renderer, text: str) -> str:
    """The variable of a text that is one expression over it, like `{{ minutes | int }}`; "" if the text is more than
    that."""
    parts: Parts = ()
    with suppress(TemplateError):
        parts = renderer.parse(text)
    names = frozenset() if len(parts) != 1 or isinstance(parts[0], str) else parts[0].names - {"vars"}
    return next(iter(names)) if len(names) == 1 else ""


def _refs(instance: str, edits: tuple[Edit, ...]) -> frozenset[_Ref]:
    return frozenset((instance, item.key, item.field) for item in edits)


def _unsaid(edits: tuple[Edit, ...], manifest: Manifest | None) -> Iterator[Edit]:
    """The edits that a manifest still needs after a cell that it uses was changed."""
    declared = _declared(manifest.document) if manifest is not None else {}
    for item in edits:
        said = item.field != "*" and item.key in declared and item.field in declared[item.key]
        if not (said and same(declared[item.key][item.field], item.live)):
            yield item


@dataclass(frozen=True, slots=True)
class _Draft:
    """One instance's part of a document's data. Its layers, the strongest first: overrides, its own entry, defaults."""

    entry: Entry
    data: dict[str, Any]

    def make(self, item: Edit) -> None:
        for place in self._own():
            layer = _at(self.data, place)
            if isinstance(layer, dict) and self._defines(layer, item):
                path = self._long(layer, item.path)
                if item.action == "remove" and not isinstance(path[-1], int) and self._below(place, item):
                    _set(layer, path, None)  # null unsets what the layers below it set
                else:
                    _change(layer, path, self._over(place, item))
                return
        self._create(self._over(self._own()[-1], item))

    def value(self, path: Path) -> Any:
        """The value as written, before templates are rendered."""
        return _at(self.entry.raw, _short(self.entry.raw, path))

    def _own(self) -> tuple[Path, ...]:
        if not is_fleet(self.data):
            return ((),)
        overrides: Path = ("overrides", self.entry.raw["instance"])
        if isinstance(self.data["instances"], list):
            index = int(self.entry.source.prefixes[-2].split("/")[1])
            return overrides, ("instances", index)
        return (overrides,)

    def _long(self, layer: dict[str, Any], path: Path) -> Path:
        if path[0] == "environment":
            layer["environment"] = long_environment(layer["environment"])
        return _short(layer, path)

    def _defines(self, layer: dict[str, Any], item: Edit) -> bool:
        """Whether this layer declares the value: a list with all its items is declared in one layer."""
        path = _list_of(item) or item.path
        if path[0] == "environment" and "environment" in layer:
            return True
        return _at(layer, _short(layer, path)) is not _NOT_THERE

    def _below(self, place: Path, item: Edit) -> bool:
        """Whether a layer below this one declares it too."""
        own = self._own()
        below = [*own[own.index(place) + 1 :], *([("defaults",)] if is_fleet(self.data) else [])]
        layers = (_at(self.data, path) for path in below)
        return any(isinstance(layer, dict) and self._defines(layer, item) for layer in layers)

    def _over(self, place: Path, item: Edit) -> Edit:
        """The edit as this layer has to write it, so that merging with the layers below gives the wanted value."""
        if item.action != "set" or not is_fleet(self.data):
            return item
        own = self._own()
        below: Any = self.data.get("defaults", {})
        for lower in reversed(own[own.index(place) + 1 :]):
            below = merge(below, _at(self.data, lower))
        return replace(item, value=_over(_at(below, _short(below, item.path)), item.value))

    def _create(self, item: Edit) -> None:
        """Edit a value that no layer of the instance has yet: it comes from defaults, or from the schema."""
        place = self._own()[-1]
        layer: Any = self.data
        for step in place:
            layer = layer.setdefault(step, {}) if isinstance(layer, dict) else layer[step]
        whole = _list_of(item)
        if whole is not None:  # lists replace: copy all of it, with its templates
            items = _at(self.entry.raw, _short(self.entry.raw, whole))
            _set(layer, whole[:1] if is_short(str(whole[0])) else whole, without_gone(items))
            _change(layer, _short(layer, item.path), item)
        elif item.path[0] == "environment" and "environment" in self.entry.raw:
            layer["environment"] = {str(item.path[1]): item.value}
        elif item.action == "remove":
            _set(layer, item.path, None)
        else:
            _set(layer, item.path, item.value)


def _list_of(item: Edit) -> Path | None:
    """The list that an edit is within; None if there is none."""
    return item.path[:2] if item.path[0] in _LISTS else None


def _short(layer: Mapping[str, Any], path: Path) -> Path:
    """The path in the form that the layer is written in."""
    if is_short(str(path[0])) and path[1:2] == ("items",) and isinstance(layer.get(str(path[0])), list):
        return (path[0], *path[2:])
    return path


def _at(value: Any, path: Path) -> Any:
    for step in path:
        match value:
            case dict() if step in value:
                value = value[step]
            case list() if isinstance(step, int) and step < len(value):
                value = value[step]
            case _:
                return _NOT_THERE
    return value


def _set(layer: dict[str, Any], path: Path, value: Any) -> None:
    here: Any = layer
    for step in path[:-1]:
        if isinstance(here, dict) and not isinstance(here.get(step), dict | list):
            here[step] = {}
        here = here[step]
    here[path[-1]] = value


def _over(below: Any, value: Any) -> Any:
    """What has to be written to get `value` on top of the layers below: maps merge, and only null removes."""
    match below, value:
        case _, None if below is not _NOT_THERE:
            return "{{ none }}"
        case dict(), dict():
            said = {key: _over(below.get(key, _NOT_THERE), item) for key, item in value.items()}
            return {**said, **dict.fromkeys(key for key in below if key not in value)}
        case _:
            return value


def _change(layer: dict[str, Any], path: Path, item: Edit) -> None:
    match item.action:
        case "add":
            _at(layer, path).append(item.value)
        case "set":
            _set(layer, path, item.value)
        case "remove" if isinstance(path[-1], int):
            _at(layer, path[:-1])[path[-1]] = GONE
        case "remove":
            _at(layer, path[:-1]).pop(path[-1], None)
