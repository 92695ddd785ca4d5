"""The manifests that a watch goes by: taken up when they change, the last good ones kept where one is broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from reconciler.manifest.loader import Manifest
from reconciler.manifest.selection import NoneChosen
from reconciler.model.errors import FivrecError, ManifestError
from reconciler.support.log import EventLog
from reconciler.watch import messages as words
from reconciler.watch.files import Look, enter_directory, manifest_files, scan_files

Load = Callable[[Sequence[str]], tuple[Manifest, ...]]


@dataclass(slots=True)
class ManifestSource:
    """`paths` as the command line has them, `more` files whose change counts too; `held` are the last good
    ones, `seen` is how the files looked before these were read. `directory` is what relative paths begin at."""

    paths: tuple[str, ...]
    load: Load
    held: tuple[Manifest, ...]
    more: tuple[str, ...] = ()
    seen: Look = ()
    trouble: FivrecError | None = None
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
        return scan_files(self.paths, self.more)

    def _enter(self) -> None:
        if self.directory:
            enter_directory(self.directory)

    async def changes(self, looks: AsyncIterator[None], log: EventLog) -> AsyncIterator[tuple[Manifest, ...]]:
        """What to go by from now on, each time that the files changed. What is wrong, or no longer, is said."""
        async for _ in looks:
            if not await asyncio.to_thread(self.changed):
                continue
            before = self.trouble
            manifests = await asyncio.to_thread(self.reload)
            words.say_manifests(log, before, self.trouble)
            yield manifests

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

    def _without(self, broken: set[str]) -> tuple[Manifest, ...]:
        """The good files as they are now, the broken ones as they were, and what lay below a broken folder; all as
        they were where that does not fit."""
        try:
            good = self._load([file for file in manifest_files(self.paths) if not _is_of(file, broken)])
        except FivrecError:
            return self.held
        kept = tuple(manifest for manifest in self.held if _is_of(manifest.origin.path, broken))
        names = [manifest.instance for manifest in (*good, *kept)]
        return (*good, *kept) if len(set(names)) == len(names) else self.held


def _is_of(file: str, broken: set[str]) -> bool:
    """Whether the file is one of these, or lies below one."""
    return file in broken or any(file.startswith(f"{path.rstrip('/')}/") for path in broken)
