"""Expand fleet documents: from defaults and a list, or a CSV file, to one raw document per instance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from reconciler.manifest.files import ManifestFile
from reconciler.manifest.positions import Finding, Row, Source, instance_of
from reconciler.manifest.templates import has_template
from reconciler.manifest.yaml.parser import YamlDocument
from reconciler.model.errors import ManifestProblem
from reconciler.model.json_pointer import escape
from reconciler.model.kinds import is_short
from reconciler.model.names import near_hint
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, read_confined
from reconciler.support.json_schema.validate import problems

MAX_CSV_BYTES: Final = 64 * 1024 * 1024
MAX_EXPANDED: Final = 2_000_000  # values, if every instance gets the defaults
MAX_RENDERED_VALUES: Final = 1_000_000  # of those, the values that are copied because they contain templates
MOST_COMPARED: Final = 5_000  # comparisons of names to find the nearest one: each takes some 30 us
_FREE_PATHS: Final = late("(vars|config/settings)/")
_NAME_PATH: Final = late("instances/[0-9]+/instance")
_SETTINGS: Final = ("config", "settings")
SOURCES: Final = ("env", "file", "command", "vault", "plugin")
ENVIRONMENT_KEYS: Final = frozenset({"name", "isolation", "purge_development_data"})
"""Of an environment's long form; in the short one a reference's keys stand beside them."""
_BESIDE_SOURCE: Final = frozenset({"default", "generate"})
REFERENCE_PATHS: Final = late(
    "database/(url|provision_url)|environment/name|config/(connect_api_url|instance_key)|admin/password"
    "|config/settings/[^/]+/secret"
)
"""The paths at which the schema accepts a reference; a test compares this with the schema."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance as declared. `literals` are variables that are data and never rendered. `defaults` and `own` are the
    parts that a fleet's entry was merged from. `defaults_alone`: the document is only the defaults, because no instance
    could be read."""

    raw: dict[str, Any]
    source: Source
    literals: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    defaults_alone: bool = False
    row_key: Hashable = None


Known: TypeAlias = Callable[[Hashable], Any]
"""Returns the earlier result for a row with this key; None if it is new."""


def is_fleet(data: Mapping[str, Any]) -> bool:
    return any(key in data for key in ("instances", "defaults", "overrides"))


def expand_fleet(
    file: ManifestFile, document: YamlDocument, known: Known = lambda _: None
) -> Iterator[Entry | Finding | ManifestProblem | Any]:
    """An entry for each instance, or the `known` result of its row; and the problems."""
    data = document.data
    whole = Source(file.yaml, document, document.line)
    found = problems("manifest#fleet", _skeleton(data))
    if found:
        expandable = _can_be_expanded(data)
        for violation in found:
            if not (expandable and _NAME_PATH.fullmatch(violation.path)):  # otherwise the instance's own check names it
                yield Finding(whole, violation.path, violation.message, violation.hint, violation.of_key)
        if not expandable:
            return
    fleet = _Fleet(file, document, data.get("defaults", {}), data.get("overrides", {}), known)
    yield from fleet.entries() if isinstance(data["instances"], list) else fleet.rows()
    for name, own in fleet.overrides.items():
        if isinstance(own, dict) and own.get("instance", name) != name:
            hint = "rename it where it is declared, and here"
            source = Source(file.yaml, document, document.line, instance=name)
            yield Finding(source, f"overrides/{escape(name)}/instance", "an override keeps the instance's name", hint)
    unknown = sorted(fleet.overrides.keys() - fleet.named if fleet.named and not fleet.cut_off else ())
    for number, name in enumerate(unknown):
        near = near_hint(name, fleet.named if number * len(fleet.named) < MOST_COMPARED else ())
        hint = near or "name an instance of this document"
        yield Finding(whole, f"overrides/{escape(name)}", f'"{name}" is not in this fleet', hint, of_key=True)


def _can_be_expanded(data: Mapping[str, Any]) -> bool:
    """Whether the instances can be checked anyway, so that all problems are reported together."""
    match data.get("instances"):
        case list(entries):
            whole = all(isinstance(own, dict) and "instance" in own for own in entries)
        case {"csv": str()}:
            whole = True
        case _:
            whole = False
    overrides = data.get("overrides", {})
    shaped = isinstance(overrides, dict) and all(isinstance(own, dict) for own in overrides.values())
    return whole and shaped and isinstance(data.get("defaults", {}), dict)


@dataclass(slots=True)
class _Fleet:
    """One fleet document. `named` are the instances seen so far; `cut_off`: its table could not be read to the end."""

    file: ManifestFile
    document: YamlDocument
    defaults: Mapping[str, Any]
    overrides: Mapping[str, Any]
    known: Known
    named: set[str] = field(default_factory=set)
    cut_off: bool = False

    def entries(self) -> Iterator[Entry | Finding]:
        instances = self.document.data["instances"]
        if too_large := self._too_large(len(instances)):
            yield too_large
            return
        lines = self.document.lists.get("instances", ())
        for index, own in enumerate(instances):
            line = lines[index] if index < len(lines) else self.document.line  # an alias has no lines
            yield self._entry(own, line, f"instances/{index}/")

    def rows(self) -> Iterator[Entry | Finding | ManifestProblem | Any]:
        any_read = False
        for found in self._read_csv():
            any_read = any_read or not isinstance(found, Finding | ManifestProblem)
            yield found
        if not any_read:
            source = Source(self.file.yaml, self.document, self.document.line, ("defaults/",))
            yield Entry({"version": 1, "instance": "a", **self.defaults}, source, defaults_alone=True)

    def _read_csv(self) -> Iterator[Entry | Finding | ManifestProblem | Any]:
        from reconciler.manifest.fleet_csv import NOT_CSV, read_rows

        whole = Source(self.file.yaml, self.document, self.document.line)
        name = self.document.data["instances"]["csv"]
        try:
            beside = self.file.beside.get(str(Path(self.file.folder, name)))
            content = read_confined(name, (self.file.folder,), MAX_CSV_BYTES) if beside is None else beside
        except ConfinedFileError as exc:
            # Its own hint names --secrets-dir, which is for secrets.
            hint = "put it into the manifest's folder" if "folder" in exc.hint else exc.hint
            yield Finding(whole, "instances/csv", f"the CSV file {exc.reason}", hint)
            return
        if too_large := self._too_large(content.count(b"\n")):
            yield too_large
            return
        for row in read_rows(content, str(Path(self.file.folder, name))):
            if isinstance(row, ManifestProblem):
                self.named.add(row.instance)
                self.cut_off = self.cut_off or not row.row or row.message == NOT_CSV
                yield row
                continue
            yield self._row(*row)

    def _row(self, place: Row, values: dict[str, str]) -> Any:
        key = (self.document.index, place.line, *values.items())
        if (made := self.known(key)) is not None:
            self.named.add(instance_of(values))
            return made
        own = {"instance": values.pop("instance")}
        return replace(self._entry(own, self.document.line, "", place, values), row_key=key)

    def _entry(
        self, own: Any, line: int, prefix: str, row: Row | None = None, values: Mapping[str, str] | None = None
    ) -> Entry:
        name = instance_of(own)
        self.named.add(name)
        override = {key: value for key, value in (self.overrides.get(name) or {}).items() if key != "instance"}
        prefixes = (f"overrides/{escape(name)}/", prefix, "defaults/") if override else (prefix, "defaults/")
        source = Source(self.file.yaml, self.document, line, tuple(filter(None, prefixes)), row, name)
        raw = {"version": 1, **merge(self.defaults, own)}
        if override:
            raw, own = merge(raw, override), merge(own, override)
        # An override has the last word, even over a column.
        literals = {key: value for key, value in (values or {}).items() if key not in override.get("vars", {})}
        return Entry(raw, source, literals, self.defaults, own)

    def _too_large(self, instances: int) -> Finding | None:
        """Checked before anything is expanded: every instance gets a copy of the defaults, and renders it."""
        values, rendered = _count(self.defaults)
        if instances * values <= MAX_EXPANDED and instances * rendered <= MAX_RENDERED_VALUES:
            return None
        most = f"{MAX_EXPANDED:,} values, or renders more than {MAX_RENDERED_VALUES:,} of them"
        hint = "split it over several documents, or make the defaults smaller"
        whole = Source(self.file.yaml, self.document, self.document.line)
        return Finding(whole, "instances", f"the fleet expands to more than {most}", hint)


def _count(value: Any) -> tuple[int, int]:
    """How many values there are, and how many of them are copied because they contain a template."""
    match value:
        case dict():
            parts = list(map(_count, value.values()))
        case list():
            parts = list(map(_count, value))
        case _:
            return 1, int(isinstance(value, str) and has_template(value))
    rendered = sum(part[1] for part in parts)
    return 1 + sum(part[0] for part in parts), rendered + bool(rendered)


def _skeleton(data: Mapping[str, Any]) -> dict[str, Any]:
    """Check the fleet's own keys; the parts for instances are checked after merging."""
    skeleton = dict(data)
    if isinstance(data.get("defaults"), dict):
        skeleton["defaults"] = {}
    if isinstance(data.get("overrides"), dict):
        skeleton["overrides"] = {name: {} if isinstance(own, dict) else own for name, own in data["overrides"].items()}
    if isinstance(data.get("instances"), list):
        skeleton["instances"] = [
            {"instance": own["instance"]} if isinstance(own, dict) and "instance" in own else own
            for own in data["instances"]
        ]
    return skeleton


def merge(defaults: Mapping[str, Any], own: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Maps merge, lists and values are replaced, null removes a default; without a default, null is a value only in
    variables and settings. Where the schema accepts a reference, one that names another source replaces the default
    reference. If a setting is a secret on one side and a map on the other, nothing is merged."""
    merged = dict(defaults)
    for key, value in own.items():
        if value is None and (key in merged or not _FREE_PATHS.match("/".join((*path, key)))):
            merged.pop(key, None)
            continue
        default = merged.get(key)
        if not path and (key == "environment" or is_short(key)):
            default, value = _alike(default, value)  # noqa: PLW2901  short and long forms must meet
        place = (*path, key)
        if path == _SETTINGS and _is_secret_and_map(default, value):
            default = None
        if isinstance(value, dict) and not _names_source(value, place):
            merged[key] = merge(default if isinstance(default, dict) else {}, value, place)
        else:
            merged[key] = value
    return merged


def _is_secret_and_map(default: Any, value: Any) -> bool:
    """Whether a setting is a secret on one side only: merged, it would be a map in plain text."""
    match default, value:
        case {"secret": {}}, {"secret": _}:
            return False
        case ({"secret": {}}, {}):
            return len(default) == 1
        case ({}, {"secret": {}}):
            return len(value) == 1
    return False


def _names_source(value: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether this is a reference, and not a map that looks like one: a label may be called env."""
    return REFERENCE_PATHS.fullmatch("/".join(map(escape, path))) is not None and not value.keys() <= _BESIDE_SOURCE


def _alike(default: Any, own: Any) -> tuple[Any, Any]:
    """Make two forms of environment, queues and the like the same: if only one is long, expand the other."""
    if isinstance(default, dict) and isinstance(own, list):
        return default, {"items": own}
    if isinstance(default, list) and isinstance(own, dict):
        return {"items": default}, own
    if isinstance(own, dict) and own.keys() <= ENVIRONMENT_KEYS:
        return long_environment(default) if default is not None else None, own
    if isinstance(default, dict):
        return long_environment(default), long_environment(own)
    return default, own


def inherited_paths(defaults: Mapping[str, Any], own: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths, in the normalised document, of values that come only from the defaults."""
    for key, default in defaults.items():
        value, path = own.get(key), f"{prefix}{escape(key)}"
        if path == "environment":
            default, value = long_environment(default), long_environment(value)  # noqa: PLW2901  paths are of long forms
        elif is_short(path):
            default, value = long_items(default), long_items(value)  # noqa: PLW2901
        if isinstance(default, dict):
            if key not in own or isinstance(value, dict):
                yield from inherited_paths(default, value or {}, f"{path}/")
        elif key not in own:
            yield path
            if isinstance(default, list):
                entries = {str(index): entry for index, entry in enumerate(default)}
                yield from inherited_paths(entries, {}, f"{path}/")


def long_items(value: Any) -> Any:
    return {"items": value} if isinstance(value, list) else value


def long_environment(value: Any) -> Any:
    """The long form of an environment; a value without a long form is left for the schema to refuse."""
    match value:
        case str():
            return {"name": value}
        case {**form} if "name" not in form and not form.keys().isdisjoint(SOURCES):
            reference = {key: form.pop(key) for key in (*SOURCES, "default") if key in form}
            return {"name": reference, **form}
        case _:
            return value
