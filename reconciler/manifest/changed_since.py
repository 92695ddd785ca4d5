"""Which instances' manifests differ from those of an earlier commit. The same loader renders both.

The values behind references (variables, secret files) are not part of a manifest: a new password changes none.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePath
from typing import Final

from reconciler.manifest.files import STDIN, SUFFIXES, is_manifest
from reconciler.manifest.git import Commit, extract, find_commit
from reconciler.manifest.loader import Manifest, load_manifests
from reconciler.manifest.selection import select
from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.support.files import is_folder

READ = (*SUFFIXES, ".csv")
"""The endings of files in a folder that manifests are read from; a file that is named may have any ending."""


_NO_COMMIT: Final = late("0{40}|0{64}")
"""What GitHub and GitLab pass as the commit before a push if there was none."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What changed since a commit. `gone` are the earlier manifests of instances that are no longer declared.

    `unreadable` says why the earlier manifests could not be loaded. Then all instances count as changed: applying an
    unchanged one does nothing, but leaving out a changed one would be a fault.
    """

    commit: str
    manifests: tuple[Manifest, ...]
    gone: tuple[Manifest, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs that a command loads its manifests from."""

    paths: Sequence[str]
    variables: Sequence[str]
    environ: Mapping[str, str]
    limit: Sequence[str] = ()


def changed_since(revision: str, now: Sequence[Manifest], inputs: Inputs) -> Changed:
    """Compare with `now`, the current manifests as selected by `inputs.limit`. Raises UsageError if the revision does
    not exist."""
    if STDIN in inputs.paths:
        raise UsageError("--changed-since compares files in git, which - is not", hint="name the file or folder")
    if _NO_COMMIT.fullmatch(revision):
        return Changed(
            revision, tuple(now), unreadable="all zeros stand for no commit, as before a branch's first push"
        )
    with tempfile.TemporaryDirectory(prefix="fivrec-") as folder:
        earlier = _Earlier(revision, Path(folder).resolve())
        paths = [found for path in inputs.paths if (found := earlier.path(path)) is not None]
        commit = next(iter(earlier.commits.values())).id
        try:
            before = _load(paths, earlier, inputs)
        except FivrecError as exc:
            first = exc.message.partition("\n")[0]
            return Changed(commit, tuple(now), unreadable=re.sub(rf"{re.escape(str(earlier.folder))}/\d+/", "", first))
    known = {manifest.instance: manifest.origin.digest for manifest in before}
    declared = {manifest.instance for manifest in now}
    return Changed(
        commit,
        tuple(manifest for manifest in now if known.get(manifest.instance) != manifest.origin.digest),
        tuple(manifest for manifest in before if manifest.instance not in declared),
    )


@dataclass(slots=True)
class _Earlier:
    """Check out the files of one revision into a folder of their own, with a folder in it for each repository."""

    revision: str
    folder: Path
    commits: dict[Path, Commit] = field(default_factory=dict)
    _tops: dict[Path, Path] = field(default_factory=dict)
    _extracted: set[tuple[Path, str]] = field(default_factory=set)

    def path(self, path: str) -> str | None:
        """The path in that checkout which corresponds to a current path; None if there was nothing to load."""
        folder, real = is_folder(path), Path(path).resolve()
        top = self._top_of(real if folder else real.parent)
        name = _name_below(top, path)
        self._extract(top, name if folder else name.parent)
        if not folder and name.suffix.lower() not in READ:
            self._extract_file(top, name)
        found = self._place(top, name)
        if found.is_dir():
            manifests = (name for name in found.rglob("*") if is_manifest(name.name) and name.is_file())
            return str(found) if any(manifests) else None
        return str(found) if found.is_file() else None

    def variables(self, word: str) -> str:
        """-e @FILE is read from the revision too if the file is in a repository; otherwise as it is now."""
        if not word.startswith("@"):
            return word
        real = Path(word[1:]).resolve()
        top = next((top for top in self.commits if real.is_relative_to(top)), None)
        if top is None:
            return word
        name = _name_below(top, word[1:])
        self._extract_file(top, name)
        return f"@{self._place(top, name)}"

    def _top_of(self, folder: Path) -> Path:
        """The top folder of the repository that a folder is in."""
        if folder not in self._tops:
            commit = find_commit(folder, self.revision)
            self._tops[folder] = commit.top.resolve()
            self.commits.setdefault(self._tops[folder], commit)
        return self._tops[folder]

    def _extract(self, top: Path, folder: PurePath) -> None:
        """All files below a folder that may be read."""
        if (top, str(folder)) in self._extracted:
            return
        self._extracted.add((top, str(folder)))
        name = "" if folder == PurePath() else folder.as_posix()
        extract(self.commits[top], name, lambda name: name.lower().endswith(READ), self._place(top, PurePath()))

    def _extract_file(self, top: Path, name: PurePath) -> None:
        extract(self.commits[top], name.as_posix(), lambda _: True, self._place(top, PurePath()))

    def _place(self, top: Path, name: PurePath) -> Path:
        return self.folder / str(list(self.commits).index(top)) / name


def _name_below(top: Path, path: str) -> PurePath:
    """The current path as it is written, from the repository's top: a link in it may have led elsewhere at that
    time."""
    parts = Path(path).parts
    start = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    given = Path(*parts[:start]).resolve().joinpath(*parts[start:])
    above = next(above for above in reversed((given, *given.parents)) if above.resolve().is_relative_to(top))
    return PurePath(above.resolve().relative_to(top), given.relative_to(above))


def _load(paths: Sequence[str], earlier: _Earlier, inputs: Inputs) -> tuple[Manifest, ...]:
    if not paths:
        return ()
    variables = [earlier.variables(word) for word in inputs.variables]
    manifests = load_manifests(paths, variables=variables, environ=inputs.environ)
    try:
        return select(manifests, inputs.limit)
    except UsageError:
        return ()  # no manifest of that revision matches --limit
