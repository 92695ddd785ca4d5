"""The manifests that a watch goes by: taken up when they change, the last good ones kept where one is broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from reconciler.adapters.log import EventLog
from reconciler.adapters.manifests import Manifest
from reconciler.adapters.watching import Look, look, manifest_files
from reconciler.errors import FivrecError, ManifestError, UsageError
from reconciler.flow import watch_words as words

Load = Callable[[Sequence[str]], tuple[Manifest, ...]]


@dataclass(slots=True)
class ManifestSource:
    """`paths` as the command line has them, `more` files whose change counts too; `held` are the last good
    ones, `seen` is how the files looked before these were read."""

    paths: tuple[str, ...]
    load: Load
    held: tuple[Manifest, ...]
    more: tuple[str, ...] = ()
    seen: Look = ()
    trouble: FivrecError | None = None

    def changed(self) -> bool:
        """Whether the files look otherwise than when this was asked last."""
        before, self.seen = self.seen, look(self.paths, self.more)
        return before != self.seen

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
        files = manifest_files(self.paths)
        try:
            self.held = self._load(files)
            self.trouble = None
        except ManifestError as exc:
            self.trouble = exc
            self.held = self._without(files, {problem.path for problem in exc.problems})
        except FivrecError as exc:
            self.trouble = exc
        return self.held

    def _load(self, files: Sequence[str]) -> tuple[Manifest, ...]:
        """Nothing at all is no error here: what is no longer declared is no longer watched."""
        if not files:
            return ()
        try:
            return self.load(files)
        except UsageError:
            return ()  # --limit fits none of them any more

    def _without(self, files: Sequence[str], broken: set[str]) -> tuple[Manifest, ...]:
        """The good files as they are now, the broken ones as they were; all as they were where that does not fit."""
        try:
            good = self._load([file for file in files if file not in broken])
        except FivrecError:
            return self.held
        kept = tuple(manifest for manifest in self.held if manifest.origin.path in broken)
        names = [manifest.instance for manifest in (*good, *kept)]
        return (*good, *kept) if len(set(names)) == len(names) else self.held
