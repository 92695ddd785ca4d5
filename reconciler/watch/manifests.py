"""The manifests that a watch goes by: taken up when they change, the last good ones kept where one is broken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet

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
    """`paths` as the command line has them, `more` files whose change counts too; `held` are the last good
    ones, `seen` is how the files looked before these were read. `whole`: all that the paths declare, no selection.
    `directory` is what relative paths begin at."""

    paths: tuple[str, ...]
    load: Load
    held: tuple[Manifest, ...]
    more: tuple[str, ...] = ()
    seen: Look = ()
    trouble: FivrecError | None = None
    whole: bool = True
    directory: str = ""

    def changed(self) -> bool:
        """Whether the files look otherwise than when this was asked last."""
        before, self.seen = self.seen, self._scan()
        return before != self.seen

    def _scan(self) -> Look:
        try:
            self._enter()
        except FivrecError:
            return ()  # `reload` says so
        return scan_files(self.paths, (*self.more, *self._named_files()))

    def _enter(self) -> None:
        if self.directory:
            enter_directory(self.directory)

    def _named_files(self) -> tuple[str, ...]:
        """The tables that manifests name, wherever they lie, and files that something was wrong with."""
        tables = {manifest.origin.row.rpartition(":")[0] for manifest in self.held}
        if isinstance(self.trouble, ManifestError):
            tables |= {problem.path for problem in self.trouble.problems}
            tables |= {problem.row.rpartition(":")[0] for problem in self.trouble.problems}
        return tuple(sorted(tables - {""}))

    async def changes(self, looks: AsyncIterator[None], log: EventLog | None) -> AsyncIterator[tuple[Manifest, ...]]:
        """The manifests to use from now on, each time that the files changed. Logs what is wrong, or no longer is;
        without a log somebody else does."""
        async for _ in looks:
            if await self.take_up(log):
                yield self.held

    async def take_up(self, log: EventLog | None) -> bool:
        """Read the files if they changed. Whether they did; `held` are the manifests to use from now on."""
        if not await asyncio.to_thread(self.changed):
            return False
        before = self.trouble
        try:
            await asyncio.to_thread(self.reload)
        except Exception:
            self.seen = ()  # what was not read has still changed
            raise
        if log is not None:
            words.say_manifests(log, before, self.trouble)
        return True

    def reload(self) -> tuple[Manifest, ...]:
        """What to go by now. `trouble` says what is wrong; None where nothing is. Blocks while it reads."""
        try:
            self.held = self._load(self.paths)
            self.trouble = None
        except ManifestError as exc:
            self.trouble = exc
            self.held = self._without({problem.path for problem in exc.problems})
        except FivrecError as exc:
            self.trouble = exc
        return self.held

    def _load(self, paths: Sequence[str]) -> tuple[Manifest, ...]:
        """As the command line's paths were read at the start: one of them that is gone or holds no manifest any more
        is a lost mount or half a checkout, and no word of anybody that its instances are not declared."""
        self._enter()
        try:
            return self.load(paths)
        except NoneChosen:
            return ()  # --limit fits none of them any more

    def _without(self, broken: AbstractSet[str]) -> tuple[Manifest, ...]:
        """The good files as they are now, the broken ones as they were, and what lay below a broken folder. Instances
        that don't fit together stay as they were, and hold back nobody else."""
        files = [file for file in manifest_files(self.paths) if not _is_of(file, broken)]
        try:
            try:
                return self._with_held(self._load(files), broken, frozenset())
            except ManifestError:
                return self._file_by_file(files, broken)
        except FivrecError:
            return self.held

    def _file_by_file(self, files: Sequence[str], broken: AbstractSet[str]) -> tuple[Manifest, ...]:
        """What is wrong is in a file that these name, or only shows when they are put together."""
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
    """Whether the file is one of these, or lies below one."""
    return file in broken or any(file.startswith(f"{path.rstrip('/')}/") for path in broken)
