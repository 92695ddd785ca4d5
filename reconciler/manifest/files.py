"""From the paths on the command line to the texts of manifests. Parses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, Final

from reconciler.manifest.yaml.parser import MAX_BYTES, YamlFile
from reconciler.model.errors import ManifestProblem
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, is_folder, read_regular

SUFFIXES: Final = (".yaml", ".yml")
MAX_FILES: Final = 100_000
_MOST_MODULES: Final = 1024 * 1024
"""Bytes of `.gitmodules` that are read, for each empty folder."""
STDIN: Final = "-"
_OPEN_FILES: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
LOST_AND_FOUND: Final = "lost+found"
"""A folder at the root of a mounted file system that only its owner may read, and that never contains manifests."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file's text, and the folder that its references are relative to. `beside`: the contents of CSV files, by
    path, that replace those on disk."""

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
            read = _read_stdin(stdin) if found == STDIN else read_file(found)
            (problems if isinstance(read, ManifestProblem) else files).append(read)  # type: ignore[arg-type]  # as checked
    return tuple(files), tuple(problems)


def _find(path: str) -> Iterator[str | ManifestProblem]:
    if not path:
        yield _problem('""', "an empty path names nothing", "is a variable in the command line not set?")
        return
    if _leads_away(path):
        yield _problem(path, "is a link that leads out of the working directory", "give its target as the path")
        return
    if path == STDIN or not is_folder(path):
        yield path
        return
    found = sorted(
        _walk(path, os.path.realpath(path), set()),
        key=lambda one: one.path if isinstance(one, ManifestProblem) else one,
    )
    if not found:
        yield _problem(path, "the folder holds no manifests", "put *.yaml or *.yml files there, see fivrec init")
    if len(found) > MAX_FILES:
        yield _problem(path, f"the folder holds more than {MAX_FILES:,} manifests", "name a smaller folder")
        return
    yield from found


def _leads_away(path: str) -> bool:
    """Whether a path below the working directory really leads out of it: a pull request can turn any of them into a
    link. Paths from the root, or with "..", are meant to be elsewhere."""
    if os.path.isabs(path) or ".." in Path(path).parts:  # noqa: PTH117  the text is what was given
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath("."))


def _walk(folder: str, root: str, visited: set[tuple[int, int]]) -> Iterator[str | ManifestProblem]:
    """Follows links, as a mounted ConfigMap needs it, but not out of `root`; visits a folder once. Yields a problem
    for what can't be read: it may contain manifests, and leaving it out would mean that they are not declared."""
    try:
        status = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        yield _unreadable(folder, exc)
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    if not entries and _is_submodule(folder):
        yield _problem(folder, "is a Git submodule that is not checked out", "git submodule update --init --recursive")
    for entry in entries:
        if entry.name.startswith(".") or entry.name == LOST_AND_FOUND:
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself, or to something that may not be read
            is_folder = False
        if not is_folder and not is_manifest(entry.name):
            continue
        if entry.is_symlink() and (refusal := _refuse_link(entry.path, folder, root)):
            yield refusal
        elif is_folder:
            yield from _walk(entry.path, root, visited)
        else:
            yield entry.path  # anything but a regular file is refused by name when it is read


def _is_submodule(folder: str) -> bool:
    """Whether the repository that a folder is in declares it as a submodule. Does not run git, which may not be
    installed."""
    place = Path(os.path.realpath(folder))
    for parent in place.parents:
        if (parent / ".git").exists():
            try:
                declared = read_regular(str(parent / ".gitmodules"), _MOST_MODULES).decode("utf-8", "replace")
            except (OSError, ConfinedFileError):
                return False
            return str(place.relative_to(parent)) in _declared_paths(declared)
    return False


def _declared_paths(modules: str) -> set[str]:
    """The folders of submodules in the text of `.gitmodules`. By lines: it is a stranger's, and may be long."""
    pairs = (line.partition("=") for line in modules.split("\n"))
    return {value.strip().strip('"') for name, _, value in pairs if name.strip() == "path"}


def is_manifest(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _refuse_link(path: str, folder: str, root: str) -> ManifestProblem | None:
    real = os.path.realpath(path)
    if real != root and not Path(real).is_relative_to(root):
        return _problem(path, "is a link that leads out of the given path", "give its target as a path of its own")
    if Path(os.path.realpath(folder)).is_relative_to(real):
        return _problem(path, "is a link to a folder that contains it", "take the link out")
    return None


def read_file(path: str) -> ManifestFile | ManifestProblem:
    try:
        text = _bytes_of(path)
    except OSError as exc:
        return _unreadable(path, exc)
    except ConfinedFileError as exc:
        return _problem(path, exc.reason, exc.hint)
    return ManifestFile(YamlFile(path, text), Path(path).parent)


def _bytes_of(path: str) -> bytes:
    """Read at most one byte more than a YAML file may have."""
    if not path.startswith(_OPEN_FILES):
        return read_regular(path, MAX_BYTES)
    with open(path, "rb") as file:  # noqa: PTH123  a pipe is what `<(…)` in a shell gives
        return file.read(MAX_BYTES + 1)


def _read_stdin(stdin: BinaryIO | None) -> ManifestFile | ManifestProblem:
    if stdin is None:
        return _problem(STDIN, "there is no standard input", "name a file")
    return ManifestFile(YamlFile("<stdin>", stdin.read(MAX_BYTES + 1)), Path())


def _unreadable(path: str, exc: OSError) -> ManifestProblem:
    """The error for a file that can't be read, with its name and the system's reason."""
    hint = "check the path" if isinstance(exc, FileNotFoundError) else "check the file and its permissions"
    return _problem(path, f"cannot be read: {os.strerror(exc.errno or 0).lower()}", hint)


def _problem(path: str, message: str, hint: str) -> ManifestProblem:
    """A problem of a whole file or folder."""
    return ManifestProblem(path, 0, 0, message, hint)
