"""The positions of an instance's manifest in its file. Read only on demand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from reconciler.manifest.yaml.parser import YamlDocument, YamlFile
from reconciler.manifest.yaml.positions import Place, Places
from reconciler.model.errors import ManifestProblem
from reconciler.model.json_pointer import unescape
from reconciler.model.kinds import short_path
from reconciler.model.patterns import late
from reconciler.model.records import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a CSV file: the file's name, the line number, and the variables that it sets."""

    path: str
    line: int
    columns: frozenset[str]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Source:
    """An instance's part of a document: its paths are below the first of `prefixes` that contains them."""

    file: YamlFile
    document: YamlDocument
    line: int
    prefixes: tuple[str, ...] = ("",)
    row: Row | None = None
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at a path of an instance's manifest; positions are looked up together at the end."""

    source: Source
    path: str
    message: str
    hint: str = ""
    of_key: bool = False
    value: str = ""


_SHOWN: Final = late(
    "version|instance|labels/.*|environment(/.*)?|config/(check_interval_minutes|company_name)"
    "|admin/(name|email|renamed_from|update_password|bcrypt_cost|former)|(queues|plans|expect|usage|ignore|suspend).*"
)
"""Paths whose values a message may repeat. All others may contain a secret, if only by mistake."""
_NAME: Final = late("[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MAX_VALUE: Final = 60


def show_value(path: str, value: Any) -> str:
    """A value as messages show it; "" for a secret's path, a mapping or a list."""
    if isinstance(value, (dict, list)) or not _SHOWN.fullmatch(path):
        return ""
    text = json.dumps(value[:MAX_VALUE] if isinstance(value, str) else value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value[:MAX_VALUE])


def instance_of(data: Any) -> str:
    """The name that a document or a fleet's entry declares; "" if it is not a valid one."""
    name = data.get("instance") if isinstance(data, dict) else None
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def value_at(node: Any, path: str) -> Any:
    """The value at a path; an empty mapping if there is none."""
    for part in path.split("/") if path else ():
        key = unescape(part)
        match node:
            case dict() if key in node:
                node = node[key]
            case list() if key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            case _:
                return {}
    return node


def place_findings(findings: Iterable[Finding]) -> tuple[ManifestProblem, ...]:
    """Look up the positions. Each file is read once more, whatever the number of findings in it."""
    by_file: dict[str, list[Finding]] = {}
    for finding in findings:
        by_file.setdefault(finding.source.file.path, []).append(finding)
    return tuple(problem for group in by_file.values() for problem in _place_in_file(group))


def _place_in_file(findings: list[Finding]) -> Iterator[ManifestProblem]:
    wanted: dict[int, set[str]] = {}
    for finding in findings:
        paths = wanted.setdefault(finding.source.document.index, set())
        paths.update(_candidates(finding.source.prefixes, finding.path))
    places = findings[0].source.file.places(wanted)
    for finding in findings:
        yield _place(finding, places.get(finding.source.document.index, Places({}, {})))


def _place(finding: Finding, places: Places) -> ManifestProblem:
    source = finding.source
    row = str(source.row or "")
    words = finding.message, finding.hint, source.instance, row, finding.value
    name = finding.path.removeprefix("vars/")
    if source.row is not None and (finding.path == "instance" or name in source.row.columns):
        return ManifestProblem(source.row.path, source.row.line, 1, *words)
    for path in _candidates(source.prefixes, finding.path):
        value, key = places.values.get(path), places.keys.get(path)
        if value is not None:
            # A value that begins on a line below its key is shown at the key.
            at_key = key is not None and (finding.of_key or key[0] != value[0])
            return ManifestProblem(source.file.path, *(key if at_key and key else value), *words)
    return ManifestProblem(source.file.path, source.line, 1, *words)


def _candidates(prefixes: tuple[str, ...], path: str) -> Iterator[str]:
    """The path, then its parents."""
    while path:
        yield from _forms(prefixes, path)
        path = path.rpartition("/")[0]
    yield from (prefix.rstrip("/") for prefix in prefixes)


def _forms(prefixes: tuple[str, ...], path: str) -> Iterator[str]:
    """How a path of the normalised document may be written: below each prefix, or in the short form of its section."""
    for prefix in prefixes:
        yield prefix + path
        if (short := short_path(path)) != path:
            yield prefix + short


@dataclass(slots=True)
class FilePlaces:
    """All positions in one file, read on first use and kept."""

    file: YamlFile
    documents: int
    _found: Mapping[int, Places] | None = None

    def of(self, index: int) -> Mapping[str, Place]:
        if self._found is None:
            self._found = self.file.places(dict.fromkeys(range(self.documents)))
        return self._found[index].values if index in self._found else {}


@dataclass(frozen=True, slots=True)
class InstancePlaces(Mapping[str, Place]):
    """The positions of one instance, by the paths of its normalised document."""

    shared: FilePlaces
    source: Source

    def __getitem__(self, path: str) -> Place:
        places = self.shared.of(self.source.document.index)
        for form in _forms(self.source.prefixes, path):
            if form in places:
                return places[form]
        raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        places = self.shared.of(self.source.document.index)
        found = (path[len(prefix) :] for prefix in self.source.prefixes for path in places if path.startswith(prefix))
        return iter(dict.fromkeys(path for path in found if path))

    def __len__(self) -> int:
        return sum(1 for _ in self)
