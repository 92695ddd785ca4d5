"""Fleet documents: from defaults and a list, or a CSV file, to one raw document an instance."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reconciler.adapters.confined_files import ConfinedFileError, read_confined
from reconciler.adapters.manifest_files import ManifestFile
from reconciler.adapters.manifest_places import Finding, Row, Source
from reconciler.adapters.validation import load_schema, problems
from reconciler.adapters.yaml_reader import YamlDocument
from reconciler.errors import Problem

MAX_CSV_BYTES: Final = 64 * 1024 * 1024
_REFERENCE_KEYS: Final = frozenset({"env", "file", "command"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance as declared. `literals` are variables that are data: they are never rendered."""

    raw: dict[str, Any]
    source: Source
    literals: Mapping[str, str]


def is_fleet(data: Mapping[str, Any]) -> bool:
    return "instances" in data or "defaults" in data


def expand_fleet(file: ManifestFile, document: YamlDocument) -> Iterator[Entry | Finding | Problem]:
    data = document.data
    whole = Source(file.yaml, document, document.line)
    found = problems("manifest#fleet", _skeleton(data))
    if found:
        for violation in found:
            yield Finding(whole, violation.path, violation.message, violation.hint, violation.of_key)
        return
    defaults = data.get("defaults", {})
    if isinstance(data["instances"], list):
        for index, own in enumerate(data["instances"]):
            source = Source(file.yaml, document, document.line, (f"instances/{index}/", "defaults/"))
            yield Entry({"version": 1, **merge(defaults, own)}, source, {})
    else:
        yield from _expand_csv(file, document, defaults)


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
) -> Iterator[Entry | Finding | Problem]:
    whole = Source(file.yaml, document, document.line)
    name = document.data["instances"]["csv"]
    try:
        content = read_confined(name, (file.folder,), MAX_CSV_BYTES)
    except ConfinedFileError as exc:
        yield Finding(whole, "instances/csv", f"the CSV file {exc.reason}", exc.hint)
        return
    label = str(Path(file.folder, name))
    for row in read_rows(content, label):
        if isinstance(row, Problem):
            yield row
            continue
        place, values = row
        own = {"instance": values.pop("instance")}
        source = Source(file.yaml, document, document.line, ("defaults/",), place)
        yield Entry({"version": 1, **merge(defaults, own)}, source, values)


def read_rows(content: bytes, path: str) -> Iterator[tuple[Row, dict[str, str]] | Problem]:
    """Each row's place and values. A row that does not fit is a problem; the others are read on."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        yield Problem(path, line, 1, "the CSV file is not UTF-8", "save it as UTF-8")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if refusal := _refuse_header(header, path):
            yield refusal
            return
        line, empty = reader.line_num + 1, True
        for cells in reader:
            if any(cells):
                empty = False
                yield _read_row(header, cells, path, line)
            line = reader.line_num + 1
    except csv.Error:
        yield Problem(path, reader.line_num, 1, "the row is not CSV", "check its quotes")
        return
    if empty:
        yield Problem(path, 1, 1, "the CSV file has a header and no rows", "add a row an instance")


def _refuse_header(header: list[str], path: str) -> Problem | None:
    pattern = re.compile(load_schema("manifest")["$defs"]["vars"]["propertyNames"]["pattern"])
    if "instance" not in header:
        return Problem(path, 1, 1, 'the CSV file has no column "instance"', "its first line names the columns")
    if len(set(header)) < len(header):
        return Problem(path, 1, 1, "two columns have one name", "keep one of them")
    for name in header:
        if name != "instance" and not pattern.search(name):
            return Problem(path, 1, 1, f'"{name[:60]}" is no name for a variable', "letters, digits and _ are")
    return None


def _read_row(header: list[str], cells: list[str], path: str, line: int) -> tuple[Row, dict[str, str]] | Problem:
    if len(cells) != len(header):
        return Problem(path, line, 1, f"the row has {len(cells)} cells, the header {len(header)}", "check its commas")
    if any("\x00" in cell for cell in cells):
        return Problem(path, line, 1, "a cell holds a NUL character", "take it out")
    values = dict(zip(header, cells, strict=True))
    return Row(path, line, frozenset(header)), values
