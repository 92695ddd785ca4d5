"""Fleet documents: from defaults and a list, or a CSV file, to one raw document an instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from reconciler.manifest.files import ManifestFile
from reconciler.manifest.positions import Finding, Source
from reconciler.manifest.yaml_parser import YamlDocument
from reconciler.manifest.yaml_positions import escape
from reconciler.model.errors import ManifestProblem
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, read_confined
from reconciler.support.json_schema.validate import problems

MAX_CSV_BYTES: Final = 64 * 1024 * 1024
MAX_EXPANDED: Final = 2_000_000  # values, when the defaults stand in every instance
_REFERENCE_KEYS: Final = frozenset({"env", "file", "command"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance as declared. `literals` are variables that are data: they are never rendered. `defaults` and
    `own` are what a fleet's entry was merged of. `defaults_alone`: no instance could be read that they stand in."""

    raw: dict[str, Any]
    source: Source
    literals: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    defaults_alone: bool = False


def is_fleet(data: Mapping[str, Any]) -> bool:
    return "instances" in data or "defaults" in data


def expand_fleet(file: ManifestFile, document: YamlDocument) -> Iterator[Entry | Finding | ManifestProblem]:
    data = document.data
    whole = Source(file.yaml, document, document.line)
    found = problems("manifest#fleet", _skeleton(data))
    if found:
        for violation in found:
            yield Finding(whole, violation.path, violation.message, violation.hint, violation.of_key)
        if not _can_be_expanded(data):
            return
    defaults = data.get("defaults", {})
    limit = MAX_EXPANDED // max(_count(defaults), 1)
    for index, entry in enumerate(_entries(file, document, defaults)):
        if index >= limit:
            hint = "split it over several documents, or make the defaults smaller"
            yield Finding(whole, "instances", f"the fleet expands to more than {MAX_EXPANDED:,} values", hint)
            return
        yield entry


def _can_be_expanded(data: Mapping[str, Any]) -> bool:
    """Whether its instances can be looked at all the same, so that all problems come at once."""
    match data.get("instances"):
        case list(entries):
            whole = all(isinstance(own, dict) and "instance" in own for own in entries)
        case {"csv": str()}:
            whole = True
        case _:
            whole = False
    return whole and isinstance(data.get("defaults", {}), dict)


def _count(value: Any) -> int:
    match value:
        case dict():
            return 1 + sum(map(_count, value.values()))
        case list():
            return 1 + sum(map(_count, value))
        case _:
            return 1


def _entries(
    file: ManifestFile, document: YamlDocument, defaults: Mapping[str, Any]
) -> Iterator[Entry | Finding | ManifestProblem]:
    data = document.data
    if isinstance(data["instances"], list):
        lines = document.lists.get("instances", ())
        for index, own in enumerate(data["instances"]):
            line = lines[index] if index < len(lines) else document.line  # none of an alias
            source = Source(file.yaml, document, line, (f"instances/{index}/", "defaults/"))
            raw = {"version": 1, **merge(defaults, own)}
            yield Entry(raw, source, defaults=defaults, own=own)
        return
    any_read = False
    for found in _expand_csv(file, document, defaults):
        any_read = any_read or isinstance(found, Entry)
        yield found
    if not any_read:
        source = Source(file.yaml, document, document.line, ("defaults/",))
        yield Entry({"version": 1, "instance": "a", **defaults}, source, defaults_alone=True)


def _skeleton(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fleet's own frame; what it says of instances is checked when it is merged."""
    skeleton = dict(data)
    if isinstance(data.get("defaults"), dict):
        skeleton["defaults"] = {}
    if isinstance(data.get("instances"), list):
        skeleton["instances"] = [
            {"instance": own["instance"]} if isinstance(own, dict) and "instance" in own else own
            for own in data["instances"]
        ]
    return skeleton


def merge(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Maps merge, all else is replaced. A reference that names another source replaces the default reference."""
    merged = dict(defaults)
    for key, value in own.items():
        default = merged.get(key)
        if key in ("environment", "queues"):
            default, value = _alike(default, value)  # noqa: PLW2901  short and long forms must meet
        if isinstance(default, dict) and isinstance(value, dict) and not _REFERENCE_KEYS & value.keys():
            merged[key] = merge(default, value)
        else:
            merged[key] = value
    return merged


def _alike(default: Any, own: Any) -> tuple[Any, Any]:
    """Two forms of environment or queues; where only one is long, the other is made so."""
    if isinstance(default, dict) and isinstance(own, list):
        return default, {"items": own}
    if isinstance(default, list) and isinstance(own, dict):
        return {"items": default}, own
    if isinstance(own, dict) and not _REFERENCE_KEYS & own.keys():
        return long_environment(default) if default is not None else None, own
    if isinstance(default, dict):
        return long_environment(default), long_environment(own)
    return default, own


def inherited_paths(defaults: Mapping[str, Any], own: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths, in the normalised document, of what only the defaults say."""
    for key, default in defaults.items():
        value, path = own.get(key), f"{prefix}{escape(key)}"
        if path == "environment":
            default, value = long_environment(default), long_environment(value)  # noqa: PLW2901  paths are of long forms
        elif path == "queues":
            default, value = long_queues(default), long_queues(value)  # noqa: PLW2901
        if isinstance(default, dict):
            if key not in own or isinstance(value, dict):
                yield from inherited_paths(default, value or {}, f"{path}/")
        elif key not in own:
            yield path
            if isinstance(default, list):
                entries = {str(index): entry for index, entry in enumerate(default)}
                yield from inherited_paths(entries, {}, f"{path}/")


def long_queues(value: Any) -> Any:
    return {"items": value} if isinstance(value, list) else value


def long_environment(value: Any) -> Any:
    """The long form of an environment; what has no long form stays as it is, for the schema to refuse."""
    match value:
        case str():
            return {"name": value}
        case {"env": name, **rest} if "name" not in rest:
            default = {"default": rest.pop("default")} if "default" in rest else {}
            return {"name": {"env": name, **default}, **rest}
        case _:
            return value


def _expand_csv(
    file: ManifestFile, document: YamlDocument, defaults: Mapping[str, Any]
) -> Iterator[Entry | Finding | ManifestProblem]:
    from reconciler.manifest.fleet_csv import read_rows

    whole = Source(file.yaml, document, document.line)
    name = document.data["instances"]["csv"]
    label = str(Path(file.folder, name))
    try:
        content = file.beside.get(label) or read_confined(name, (file.folder,), MAX_CSV_BYTES)
    except ConfinedFileError as exc:
        hint = "put it into the manifest's folder" if "folder" in exc.hint else exc.hint  # --secrets-dir has secrets
        yield Finding(whole, "instances/csv", f"the CSV file {exc.reason}", hint)
        return
    for row in read_rows(content, label):
        if isinstance(row, ManifestProblem):
            yield row
            continue
        place, values = row
        own = {"instance": values.pop("instance")}
        source = Source(file.yaml, document, document.line, ("defaults/",), place)
        raw = {"version": 1, **merge(defaults, own)}
        yield Entry(raw, source, values, defaults, own)
