"""Who runs fivrec, and the commit that the manifests are at: for the audit log."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.manifest.git import find_head
from reconciler.planning.audit import Actor

_COMMIT: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
CI_VARIABLES = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_REQUESTEDFOR", "CIRCLE_USERNAME", "BUILDKITE_BUILD_CREATOR")


def find_actor(given: str | None, paths: Sequence[str], environ: Mapping[str, str]) -> Actor:
    """Returns --actor, else the pipeline's user, else the system's user; and HEAD of the first manifest's
    repository."""
    name = given or next((environ[variable] for variable in CI_VARIABLES if environ.get(variable)), None) or _user()
    # Invalid bytes, which no database accepts, must not prevent an apply.
    return Actor(name.encode("utf-8", "backslashreplace").decode(), find_commit(paths))


def find_commit(paths: Sequence[str]) -> str | None:
    """The checked-out commit of the first manifest's repository; None outside of git. Read from .git: usually needs no
    child process."""
    first = next((path for path in paths if path != "-"), None)
    if first is None:
        return None
    folder = Path(first).resolve()
    for parent in (folder, *folder.parents):
        git = parent / ".git"
        if git.exists():
            return _head(git, parent)
    return None


def _head(git: Path, top: Path) -> str | None:
    """HEAD from its ref's file; asks git itself if that contains no commit (packed refs, worktrees, a ref to a ref)."""
    try:
        head = _line(git, "HEAD")
        if head.startswith("ref: "):
            head = _line(git, head.removeprefix("ref: "))
    except (OSError, ValueError):
        head = ""
    return head if _COMMIT.fullmatch(head) else find_head(top)


def _line(git: Path, name: str) -> str:
    """Raises OSError or ValueError if the file can't be read or is elsewhere: a .git folder above may belong to another
    user, who must not choose a file that is recorded."""
    path = (git / name).resolve()
    path.relative_to(git.resolve())
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
