"""Who runs fivrec, and the commit that the manifests are at: for the audit log."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.planning.audit import Actor

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
    """HEAD from its ref's file; asks git itself if refs are packed or .git is a file (worktrees)."""
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head
        return (git / head.removeprefix("ref: ")).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return _ask_git(top)


def _ask_git(top: Path) -> str | None:
    try:
        asked = subprocess.run(
            ["git", "-C", str(top), "rev-parse", "HEAD"],  # noqa: S607 (git as the user has it)
            capture_output=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.decode("ascii", "replace").strip() or None if asked.returncode == 0 else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
