"""Read files of a commit from a git repository, leaving its work tree and index alone. Knows no manifests.

Uses only commands that run no hook, filter or text conversion of the repository.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.records import dataclass

TIMEOUT_S: Final = 60
HEAD_TIMEOUT_S: Final = 5
_LINK: Final = "120000"
_SUBMODULE: Final = "160000"
_FILES: Final = ("100644", "100755", _LINK)
_AT_ONCE: Final = 16 * 1024 * 1024
"""Bytes of files that are in memory at once; a single larger file is alone there."""
_MOST: Final = 64 * 1024 * 1024
"""The size of the largest file that the loader reads."""
_READ: Final = (b".yaml", b".yml", b".csv")
_NO_NAMES: Final = frozenset({b"", b".", b".."})
_OF_A_HOOK: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
"""Variables that git sets when it runs a hook; they would make git use another folder than the given one."""
NO_BARE: Final = ("-c", "safe.bareRepository=explicit")
"""A commit may hold a folder that looks like a bare repository: git would run programs that its configuration names."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the repository whose work tree is at `top`; `id` is its full name."""

    top: Path
    id: str


@dataclass(frozen=True, slots=True)
class _Blob:
    path: str
    mode: str
    id: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What git printed, and its first error message; "" if it succeeded."""

    out: bytes
    complaint: str = ""


def find_head(folder: Path) -> str | None:
    """The full name of the commit that is checked out; None if git does not say."""
    try:
        asked = _git(folder, "rev-parse", "--verify", "HEAD^{commit}", timeout_s=HEAD_TIMEOUT_S)
    except FivrecError:
        return None
    return asked.out.decode("ascii").strip() or None


def is_dirty(top: Path, paths: Sequence[Path]) -> bool:
    """Whether tracked files at these paths differ from HEAD, or manifests and tables there are untracked. False if git
    does not say."""
    below = [str(path) for path in paths if path.is_relative_to(top)]
    # core.fsmonitor may name a program; a submodule would be asked with its own configuration.
    words = ["-c", "core.fsmonitor=false", "--literal-pathspecs", "status", "--porcelain", "-z", "--no-renames"]
    words += ["--untracked-files=all", "--ignore-submodules=dirty", "--", *below]
    try:
        found = _git(top, *words, timeout_s=HEAD_TIMEOUT_S).out.split(b"\0") if below else []
    except FivrecError:
        return False
    return any(line and (line[:2] != b"??" or line.endswith(_READ)) for line in found)


def find_commit(folder: Path, revision: str) -> Commit:
    """Raises UsageError if the folder is in no repository, or the revision names no commit there."""
    asked = _git(folder, "rev-parse", "--show-toplevel")
    if asked.complaint:
        raise _unreadable(folder, asked.complaint)
    top = Path(os.fsdecode(asked.out.removesuffix(b"\n")))
    if not (top / ".git").exists():  # a git older than 2.38 doesn't know NO_BARE
        raise _unreadable(folder, "cannot use bare repository")
    named = revision and not revision.startswith("-")
    found = _git(top, "rev-parse", "--verify", f"{revision}^{{commit}}") if named else _Answer(b"", "no name")
    if found.complaint:
        shallow = _git(top, "rev-parse", "--is-shallow-repository").out == b"true\n"
        hint = "the clone is shallow: fetch more of its history" if shallow else "name a commit, branch or tag"
        raise UsageError(f'"{revision[:80]}" names no commit of {top}', hint=hint)
    return Commit(top, found.out.decode("ascii").strip())


def _unreadable(folder: Path, complaint: str) -> UsageError:
    if "not a git repository" in complaint:
        return UsageError(f"{folder} is in no git repository", hint="--changed-since compares with a commit of it")
    dubious = "dubious ownership" in complaint
    named = re.search("'(.+)'", complaint)  # the repository's top folder, which git is asked about
    top = named[1] if named else folder
    hint = (
        f"git config --global --add safe.directory {shlex.quote(str(top))}"
        if dubious
        else "--changed-since reads it by git"
    )
    if "bare repository" in complaint:
        hint = "remove HEAD, objects and refs from it, or choose another folder"
    return UsageError(f"git refuses {folder}: {complaint}", hint=hint)


def extract(commit: Commit, folder: str, wanted: Callable[[str], bool], target: Path) -> None:
    """Write the `wanted` files below `folder` (relative to the top, "" for all), or the single file of that name, into
    `target`, by their paths from the top. A link is replaced by the file that it leads to within the commit; one that
    leads elsewhere is left out, and so are names that git itself would not check out. A submodule's files are those of
    the commit that it was at; without that commit it is left out. Raises FivrecError if a file can't be written."""
    entries = list(_list(commit, folder))
    blobs = [entry for entry in entries if entry.mode in _FILES and wanted(entry.path)]
    for some, size in _groups(commit, blobs):
        contents = _contents(commit, some) if size <= _MOST else [None]
        for blob, content in zip(some, contents, strict=True):
            if content is not None or size > _MOST:
                _write(target / blob.path, content, size, f"{blob.path[:200]} of {commit.id[:12]}")
    for entry in entries:
        inner = Commit(commit.top / entry.path, entry.id)
        if entry.mode == _SUBMODULE and inner.top.resolve().is_relative_to(commit.top) and _has(inner):
            extract(inner, "", wanted, target / entry.path)


def _has(commit: Commit) -> bool:
    """Whether the folder is a repository of its own that has the commit."""
    return (commit.top / ".git").exists() and not _git(commit.top, "cat-file", "-e", f"{commit.id}^{{tree}}").complaint


def _write(path: Path, content: bytes | None, size: int, what: str) -> None:
    """Without a content the file only has that size, by which the loader refuses it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content or b"")
            file.truncate(size if content is None else None)
    except OSError as exc:
        raise FivrecError(f"{what} could not be written to a temporary folder: {exc.strerror}") from exc


def _groups(commit: Commit, blobs: Sequence[_Blob]) -> Iterator[tuple[list[_Blob], int]]:
    """The files in order, in groups of at most _AT_ONCE bytes or of one file, each with its size. A link is a group,
    because the size of what it leads to is not known."""
    named = [blob.id for blob in blobs if blob.mode != _LINK]
    asked = "".join(f"{name}\n" for name in named).encode("ascii")
    answer = _must(commit.top, "cat-file", "--batch-check", given=asked) if named else b""
    # "<id> blob <size>", or "<id> missing"
    words = (line.split(b" ") for line in answer.splitlines())
    sizes = dict(zip(named, (int(line[-1]) if len(line) > 2 else 0 for line in words), strict=True))  # noqa: PLR2004
    group: list[_Blob] = []
    total = 0
    for blob in blobs:
        size = sizes.get(blob.id, _AT_ONCE) if blob.mode != _LINK else _AT_ONCE
        if group and total + size > _AT_ONCE:
            yield group, total
            group, total = [], 0
        group.append(blob)
        total += size
    if group:
        yield group, total


def _list(commit: Commit, folder: str) -> Iterator[_Blob]:
    """The files below a folder, or the one file of that name, in the commit; follows links on the way."""
    kind, name = _follow(commit, folder)
    if kind == "blob":
        yield _Blob(folder, _FILES[0], name)
    if kind != "tree":
        return
    for entry in _must(commit.top, "ls-tree", "-r", "-z", "--full-tree", name).split(b"\0"):
        if entry:
            facts, _, path = entry.partition(b"\t")
            mode, _, found = facts.decode("ascii").split(" ")
            # A commit can't be trusted: a clone accepts one whose names lead out of its tree.
            if mode in (*_FILES, _SUBMODULE) and b"\n" not in path and _NO_NAMES.isdisjoint(path.split(b"/")):
                yield _Blob(str(PurePosixPath(folder, os.fsdecode(path))), mode, found)


def _follow(commit: Commit, path: str) -> tuple[str, str]:
    """The kind and id of the object that a path leads to within the commit; the kind is "" if there is none."""
    if "\n" in path:
        return "", ""
    asked = f"{commit.id}:{path}\n"
    answer = _must(commit.top, "cat-file", "--batch-check", "--follow-symlinks", given=os.fsencode(asked))
    found = re.fullmatch(rb"([0-9a-f]{40,64}) (blob|tree) [0-9]+\n", answer)
    return (found[2].decode("ascii"), found[1].decode("ascii")) if found else ("", "")


def _contents(commit: Commit, blobs: Sequence[_Blob]) -> Iterator[bytes | None]:
    """Each file's bytes, in order, from one git process; None for a link that leads to no file of the commit."""
    names = (f"{commit.id}:{blob.path}" if blob.mode == _LINK else blob.id for blob in blobs)
    asked = b"".join(os.fsencode(name) + b"\n" for name in names)
    answer = _must(commit.top, "cat-file", "--batch", "--follow-symlinks", given=asked) if blobs else b""
    start = 0
    for blob in blobs:
        end = answer.index(b"\n", start)
        # "<id> blob <size>"; "<name> missing"; for links "dangling <size>" and similar, with the name below.
        kind, size = answer[start:end].split(b" ")[-2:]
        start = end + 1
        if size == b"missing":
            if blob.mode != _LINK:
                raise FivrecError(f"git has no content of {blob.path} at {commit.id[:12]}", hint="git fetch")
            yield None
            continue
        end = start + int(size)
        yield answer[start:end] if kind == b"blob" else None
        start = end + 1


def _must(top: Path, *words: str, given: bytes = b"") -> bytes:
    answer = _git(top, *words, given=given)
    if answer.complaint:
        raise FivrecError(f"git {words[0]} failed in {top}: {answer.complaint}")
    return answer.out


def _git(folder: Path, *words: str, given: bytes = b"", timeout_s: float = TIMEOUT_S) -> _Answer:
    environ = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    environ |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        asked = subprocess.run(
            ["git", "-C", str(folder), *NO_BARE, *words],  # noqa: S607 (git as the user has it)
            input=given,
            env=environ,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError as exc:
        raise UsageError("git is not installed", hint="--changed-since needs it") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise FivrecError(f"git {words[0]} gave no answer within {timeout_s:g} s") from exc
    if asked.returncode == 0:
        return _Answer(asked.stdout)
    said = asked.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("fatal: ")
    return _Answer(b"", said or f"exit code {asked.returncode}")
