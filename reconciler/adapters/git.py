"""Read files of a commit out of a git repository; its work tree and index stay as they are. Knows no manifests.

Only commands that run no hook, filter or text conversion of the repository are used.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.errors import FivrecError, UsageError

TIMEOUT_S: Final = 60
_LINK: Final = "120000"
_FILES: Final = ("100644", "100755", _LINK)


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


def find_commit(folder: Path, revision: str) -> Commit:
    """UsageError where the folder is in no repository, or the revision names no commit there."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        raise UsageError(f"{folder} is in no git repository", hint="--changed-since compares with a commit of it")
    root = Path(os.fsdecode(top.removesuffix(b"\n")))
    found = None
    if revision and not revision.startswith("-"):
        found = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found is None:
        shallow = _git(root, "rev-parse", "--is-shallow-repository") == b"true\n"
        hint = "the clone is shallow: fetch more of its history" if shallow else "name a commit, branch or tag"
        raise UsageError(f'"{revision[:80]}" names no commit of {root}', hint=hint)
    return Commit(root, found.decode("ascii").strip())


def extract(commit: Commit, folder: str, wanted: Callable[[str], bool], target: Path) -> None:
    """Write those files below `folder` (relative to the top, "" for all) that `wanted` says into `target`, by their
    paths from the top. Links are kept where they stay inside."""
    blobs = [blob for blob in _list(commit, folder) if wanted(blob.path)]
    for blob, content in zip(blobs, _contents(commit, blobs), strict=True):
        path = target / blob.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if blob.mode != _LINK:
            path.write_bytes(content)
        elif _stays_inside(path, content, target):
            path.symlink_to(os.fsdecode(content))


def _stays_inside(path: Path, content: bytes, target: Path) -> bool:
    resolved = os.path.normpath(path.parent / os.fsdecode(content))
    return Path(resolved).is_relative_to(target)


def _list(commit: Commit, folder: str) -> Iterator[_Blob]:
    words = ("ls-tree", "-r", "-z", "--full-tree", commit.id, *(("--", folder) if folder else ()))
    for entry in _must(commit.top, *words).split(b"\0"):
        if entry:
            facts, _, path = entry.partition(b"\t")
            mode, _, name = facts.decode("ascii").split(" ")
            if mode in _FILES:
                yield _Blob(os.fsdecode(path), mode, name)


def _contents(commit: Commit, blobs: Sequence[_Blob]) -> Iterator[bytes]:
    """Each blob's bytes, in order, by one git process."""
    asked = "".join(f"{blob.id}\n" for blob in blobs).encode("ascii")
    answer = memoryview(_must(commit.top, "cat-file", "--batch", given=asked)) if blobs else memoryview(b"")
    start = 0
    for blob in blobs:
        line = bytes(answer[start : start + 200]).partition(b"\n")[0]
        words = line.split(b" ")
        if len(words) != 3 or words[1] != b"blob":  # noqa: PLR2004  "<id> blob <size>", else "<id> missing"
            raise FivrecError(f"git has no content of {blob.path} at {commit.id[:12]}", hint="git fetch")
        start += len(line) + 1
        end = start + int(words[2])
        yield bytes(answer[start:end])
        start = end + 1


def _must(top: Path, *words: str, given: bytes = b"") -> bytes:
    answer = _git(top, *words, given=given)
    if answer is None:
        raise FivrecError(f"git {words[0]} failed in {top}", hint=f"git -C {top} {words[0]} … says why")
    return answer


def _git(folder: Path, *words: str, given: bytes = b"") -> bytes | None:
    """What git prints; None where it ends with an error."""
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        asked = subprocess.run(
            ["git", "-C", str(folder), *words],  # noqa: S607 (git as the user has it)
            input=given,
            env=environ,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError as exc:
        raise UsageError("git is not installed", hint="--changed-since needs it") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise FivrecError(f"git {words[0]} gave no answer within {TIMEOUT_S} s") from exc
    return asked.stdout if asked.returncode == 0 else None
