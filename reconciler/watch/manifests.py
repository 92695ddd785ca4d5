"""The manifests that a watch uses: taken up when they change; if one is broken, its last good version stays in use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet

from reconciler.manifest.actor import find_commit
from reconciler.manifest.loader import Manifest
from reconciler.manifest.selection import NoneChosen
from reconciler.model.errors import FivrecError, ManifestError
from reconciler.model.records import dataclass
from reconciler.support.log import EventLog
from reconciler.watch import messages as words
from reconciler.watch.files import Look, enter_directory, manifest_files, scan_files

Load = Callable[[Sequence[str]], tuple[Manifest, ...]]


@dataclass(slots=True)
class ManifestSource:
    """`paths` as on the command line, `more` files whose changes count too; `held` are the last good manifests, `seen`
    is what the files looked like before these were read. `whole`: `held` is everything that the paths declare, not a
    selection. `directory` is the base of relative paths, `commit` that of the manifests."""

    paths: tuple[str, ...]
    load: Load
    held: tuple[Manifest, ...]
    more: tuple[str, ...] = ()
    seen: Look = ()
    trouble: FivrecError | None = None
    whole: bool = True
    directory: str = ""
    commit: str | None = None

    def changed(self) -> bool:
        """Whether the files look different from the last time that this was called."""
        before, self.seen = self.seen, self._scan()
        return before != self.seen

    def _scan(self) -> Look:
        try:
            self._enter()
        except FivrecError:
            return ()  # `reload` reports it
        return scan_files(self.paths, (*self.more, *self._named_files()))

    def _enter(self) -> None:
        if self.directory:
            enter_directory(self.directory)

    def _named_files(self) -> tuple[str, ...]:
        """The CSV files that manifests use, wherever they are, and files in which a problem was found."""
        tables = {manifest.origin.row.rpartition(":")[0] for manifest in self.held}
        if isinstance(self.trouble, ManifestError):
            tables |= {problem.path for problem in self.trouble.problems}
            tables |= {problem.row.rpartition(":")[0] for problem in self.trouble.problems}
        return tuple(sorted(tables - {""}))

    async def changes(self, looks: AsyncIterator[None], log: EventLog | None) -> AsyncIterator[tuple[Manifest, ...]]:
        """Yields the manifests to use from now on, each time that the files changed. Logs new and solved problems;
        without a log the caller does."""
        async for _ in looks:
            if await self.take_up(log):
                yield self.held

    async def take_up(self, log: EventLog | None) -> bool:
        """Read the files if they changed. Returns whether they did; `held` then has the manifests to use."""
        if not await asyncio.to_thread(self.changed):
            return False
        before = self.trouble
        try:
            await asyncio.to_thread(self.reload)
        except Exception:
            self.seen = ()  # what was not read still counts as changed
            raise
        if log is not None:
            words.say_manifests(log, before, self.trouble)
        return True

    def reload(self) -> tuple[Manifest, ...]:
        """Returns the manifests to use now. Sets `trouble` to what is wrong, None if nothing is. Blocks while it
        reads."""
        try:
            self._enter()
            self.commit = find_commit(self.paths)
            self.held = self._load(self.paths)
            self.trouble = None
        except ManifestError as exc:
            self.trouble = exc
            self.held = self._without({problem.path for problem in exc.problems})
        except FivrecError as exc:
            self.trouble = exc
        return self.held

    def _load(self, paths: Sequence[str]) -> tuple[Manifest, ...]:
        """Load like at the start: if a path of the command line is gone or holds no manifest any more, it is a lost
        mount or a partial checkout, and does not mean that its instances are no longer declared."""
        self._enter()
        try:
            return self.load(paths)
        except NoneChosen:
            return ()  # --limit matches none of them any more

    def _without(self, broken: AbstractSet[str]) -> tuple[Manifest, ...]:
        """Returns the good files as they are now, the broken ones as they were, and what was below a broken folder.
        Instances that conflict with each other stay as they were, and block no others."""
        files = [file for file in manifest_files(self.paths) if not _is_of(file, broken)]
        try:
            try:
                return self._with_held(self._load(files), broken, frozenset())
            except ManifestError:
                return self._file_by_file(files, broken)
        except FivrecError:
            return self.held

    def _file_by_file(self, files: Sequence[str], broken: AbstractSet[str]) -> tuple[Manifest, ...]:
        """Load file by file: the fault is in one of these files, or only shows when they are combined."""
        good: dict[str, tuple[Manifest, ...]] = {}
        for file in files:
            try:
                good[file] = self._load([file])
            except ManifestError:
                broken = {*broken, file}
        clashing: set[str] = set()
        try:
            loaded = self._load(list(good)) if good else ()
        except ManifestError as exc:
            loaded = tuple(manifest for found in good.values() for manifest in found)
            counted = Counter(manifest.instance for manifest in loaded)
            clashing = {problem.instance for problem in exc.problems}
            clashing |= {name for name, count in counted.items() if count > 1}
        return self._with_held(loaded, broken, clashing)

    def _with_held(
        self, good: Sequence[Manifest], broken: AbstractSet[str], clashing: AbstractSet[str]
    ) -> tuple[Manifest, ...]:
        taken = {manifest.instance: manifest for manifest in good if manifest.instance not in clashing}
        held = {manifest.instance: manifest for manifest in self.held}
        kept = (
            manifest
            for name, manifest in held.items()
            if name not in taken and (name in clashing or _is_of(manifest.origin.path, broken))
        )
        return (*taken.values(), *kept)


def _is_of(file: str, broken: AbstractSet[str]) -> bool:
    """Whether the file is one of these, or below one of them."""
    return file in broken or any(file.startswith(f"{path.rstrip('/')}/") for path in broken)
