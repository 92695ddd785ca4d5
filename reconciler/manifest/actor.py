"""Who runs fivrec, and the commit that the manifests are at: for the audit log."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.manifest.git import find_head, is_dirty
from reconciler.model.patterns import late
from reconciler.planning.audit import Actor

_COMMIT: Final = late("[0-9a-f]{40}|[0-9a-f]{64}")
DIRTY: Final = "-dirty"
CI_VARIABLES = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_REQUESTEDFOR", "CIRCLE_USERNAME", "BUILDKITE_BUILD_CREATOR")


def find_actor(given: str | None, paths: Sequence[str], environ: Mapping[str, str], *, recorded: bool = False) -> Actor:
    """Returns --actor, else the pipeline's user, else the system's user; and the commit. `recorded`: it is written
    down, so it has to be marked if it is not what was read."""
    name = given or next((environ[variable] for variable in CI_VARIABLES if environ.get(variable)), None) or _user()
    # Invalid bytes, which no database accepts, must not prevent an apply.
    return Actor(name.encode("utf-8", "backslashreplace").decode(), find_commit(paths, recorded=recorded))


def find_commit(paths: Sequence[str], *, recorded: bool = True) -> str | None:
    """The checked-out commit of the first manifest's repository; None outside of git. Read from .git: usually needs no
    child process, unless it is `recorded`: then "-dirty" is added if the manifests differ from it, as by git describe
    --dirty."""
    try:
        found = [Path(path).resolve() for path in paths if path != "-"]
        above = (found[0], *found[0].parents) if found else ()
        top = next((folder for folder in above if (folder / ".git").exists()), None)
    except (OSError, RuntimeError):  # no right to look; a link that leads to itself
        return None
    head = _head(top / ".git", top) if top else None
    return f"{head}{DIRTY}" if head and top and recorded and is_dirty(top, found) else head


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
