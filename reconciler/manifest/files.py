"""From the paths of the command line to the texts of manifests. Parses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, Final

from reconciler.manifest.yaml_parser import MAX_BYTES, YamlFile
from reconciler.model.errors import ManifestProblem
from reconciler.model.records import dataclass

SUFFIXES: Final = (".yaml", ".yml")
MAX_FILES: Final = 100_000
STDIN: Final = "-"
LOST_AND_FOUND: Final = "lost+found"
"""At the root of a mounted file system, for its owner alone to read, and never anybody's manifests."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file's text, and the folder that its references are relative to. `beside`: the contents of CSV files, by
    path, that count in place of what is on disk."""

    yaml: YamlFile
    folder: Path
    beside: Mapping[str, bytes] = field(default_factory=dict)


def read_manifest_files(
    paths: Sequence[str], stdin: BinaryIO | None
) -> tuple[tuple[ManifestFile, ...], tuple[ManifestProblem, ...]]:
    """Files, folders (recursive, sorted, without hidden ones) and `-`; a file that is named twice is read once."""
    files: list[ManifestFile] = []
    problems: list[ManifestProblem] = []
    seen: set[str] = set()
    for path in paths:
        for found in _find(path):
            if isinstance(found, ManifestProblem):
                problems.append(found)
                continue
            name = found if found == STDIN else os.path.realpath(found)
            if name in seen:
                continue
            seen.add(name)
            read = _read_stdin(stdin) if found == STDIN else _read(found)
            (problems if isinstance(read, ManifestProblem) else files).append(read)  # type: ignore[arg-type]  # as checked
    return tuple(files), tuple(problems)


def _find(path: str) -> Iterator[str | ManifestProblem]:
    if not path:
        yield ManifestProblem('""', 0, 0, "an empty path names nothing", "is a variable in the command line not set?")
        return
    if path == STDIN or not Path(path).is_dir():
        yield path
        return
    found = sorted(_walk(path, set()), key=lambda one: one.path if isinstance(one, ManifestProblem) else one)
    if not found:
        yield ManifestProblem(
            path, 0, 0, "the folder holds no manifests", "put *.yaml or *.yml files there, see fivrec init"
        )
    if len(found) > MAX_FILES:
        yield ManifestProblem(
            path, 0, 0, f"the folder holds more than {MAX_FILES:,} manifests", "name a smaller folder"
        )
        return
    yield from found


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[str | ManifestProblem]:
    """Links to folders are followed, as a mounted ConfigMap needs it; a folder is visited once. One that can't be
    read may hold manifests: to leave it out would be to say that they are not declared."""
    try:
        status = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        yield unreadable(folder, exc)
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith(".") or entry.name == LOST_AND_FOUND:
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself, or to what may not be looked at
            is_folder, is_file = False, True
        if is_folder:
            yield from _walk(entry.path, visited)
        elif entry.name.endswith(SUFFIXES) and (is_file or _is_link_to_nowhere(entry)):
            yield entry.path


def _is_link_to_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def _read(path: str) -> ManifestFile | ManifestProblem:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  also /dev/fd/N, which `<(…)` in a shell gives
            text = file.read(MAX_BYTES + 1)
    except OSError as exc:
        return unreadable(path, exc)
    return ManifestFile(YamlFile(path, text), Path(path).parent)


def _read_stdin(stdin: BinaryIO | None) -> ManifestFile | ManifestProblem:
    if stdin is None:
        return ManifestProblem(STDIN, 0, 0, "there is no standard input", "name a file")
    return ManifestFile(YamlFile("<stdin>", stdin.read(MAX_BYTES + 1)), Path())


def unreadable(path: str, exc: OSError) -> ManifestProblem:
    """A file that can't be read, in words that hold its name and the system's reason."""
    hint = "check the path" if isinstance(exc, FileNotFoundError) else "check the file and its permissions"
    return ManifestProblem(path, 0, 0, f"cannot be read: {os.strerror(exc.errno or 0).lower()}", hint)
