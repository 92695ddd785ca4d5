"""Background work of a server: its instances' status checks, as the app makes them, and changed manifests.

The seed's status service (Sistema de Verificação de Status): a check at startup, then one every check_interval_minutes,
with lock and unlock. If it fails, the server still answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import field, replace

from reconciler.manifest.loader import Manifest
from reconciler.model.errors import FivrecError, ManifestError, ManifestProblem, place_of_row
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, ErrorInfo, Value
from reconciler.watch.files import watch_files
from reconciler.watch.instance_state import InstanceState
from reconciler.watch.loop import Watch, WatchSettings
from reconciler.watch.manifests import ManifestSource
from reconciler.web.overview import Overview, Unserved
from reconciler.web.responses import UNKNOWN
from reconciler.web.service import Service

Resolve = Callable[[Manifest], Awaitable[Desired]]
AGAIN_S, LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class StatusService:
    """`source` are the manifests that the server was started with; `resolve` returns one with its secrets and real
    URLs. `lacking`: manifests that are not served yet, what they lack, and what is known of them. `stored_alerts` takes
    waiting alerts."""

    service: Service
    source: ManifestSource
    resolve: Resolve
    forks: int
    checks: bool = True
    lacking: dict[str, tuple[Manifest, FivrecError, Desired | None]] = field(default_factory=dict)
    stored_alerts: Callable[[Iterable[dict[str, Value]]], None] | None = None
    _watches: list[Watch] = field(default_factory=list)

    @property
    def watched(self) -> Mapping[str, InstanceState]:
        return self._watches[-1].instances if self._watches else {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; each part is restarted if it fails."""
        self._note_unserved(self.source)
        parts = [
            self._keep("manifests", lambda: self._follow(replace(self.source)), stop),
            self._keep("what is lacking", self._await_lacking, stop),
        ]
        if self.checks:
            parts.append(self._keep("checks", lambda: self._check(stop), stop))
        await asyncio.gather(*parts)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        wait = AGAIN_S
        while not stop.is_set():
            task = asyncio.ensure_future(work())
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if stop.is_set() and name != "checks":
                task.cancel()
            ended = (await asyncio.gather(task, return_exceptions=True))[0]
            if stop.is_set():
                return
            said = type(ended).__name__ if isinstance(ended, BaseException) else "it ended"
            self.service.run.log.error("serve", f"❌ {name}: {said}; starting again in {wait:g} s", error="internal")
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_S)

    async def _check(self, stop: asyncio.Event) -> None:
        """Only checks: a manifest's changes are applied by apply and watch."""
        settings = WatchSettings(forks=self.forks, check_only=True)
        run = replace(self.service.run, stored_alerts=self.stored_alerts)
        watch = Watch(replace(self.source), self.resolve, run, settings)
        self._watches[:] = [watch]
        await watch.run(stop, lambda: watch_files(self.source.paths))

    async def _await_lacking(self) -> None:
        """Serve an instance as soon as it has what it lacked. What it lacks was reported before."""
        wait = AGAIN_S
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_S) if self.lacking else AGAIN_S
            for manifest, *_ in tuple(self.lacking.values()):
                with suppress(FivrecError):
                    desired = await self.resolve(manifest)
                    if desired.lacks is None and self.lacking.get(manifest.instance, (None,))[0] is manifest:
                        self._serve(desired)

    async def _follow(self, source: ManifestSource) -> None:
        """Serve the manifests as they change; an instance that can't be resolved is served as before."""
        known = {manifest.instance: manifest.origin.digest for manifest in source.held}
        log = None if self.checks else self.service.run.log  # the checks' watch reports it
        async for manifests in source.changes(watch_files(source.paths), log):
            for manifest in manifests:
                if known.get(manifest.instance) != manifest.origin.digest and await self._take_up(manifest):
                    known[manifest.instance] = manifest.origin.digest
            self._drop({manifest.instance for manifest in manifests}, known)
            self._note_unserved(source)

    def _note_unserved(self, source: ManifestSource) -> None:
        """For the fleet's page: instances that lack something, and broken ones that were never valid here."""
        broken = source.trouble.problems if isinstance(source.trouble, ManifestError) else ()
        found = {problem.instance: _broken(problem) for problem in reversed(broken) if problem.instance}
        found |= {name: _lacking(*item) for name, item in self.lacking.items()}
        self.service.unserved.clear()
        self.service.unserved.update(sorted(found.items()))

    async def _take_up(self, manifest: Manifest) -> bool:
        log, desired = self.service.run.log, None
        try:
            desired = await self.resolve(manifest)
            if desired.lacks is not None:
                raise desired.lacks
        except FivrecError as exc:
            log.warning("serve", f"⚠️ {exc.message}", instance=manifest.instance, error=exc.code)
            if manifest.instance not in self.service.instances:
                self.lacking[manifest.instance] = manifest, exc, desired
            return False
        self._serve(desired)
        return True

    def _serve(self, desired: Desired) -> None:
        self.lacking.pop(desired.instance, None)
        self.service.unserved.pop(desired.instance, None)
        self.service.take_up(desired)
        self.service.run.log.info("serve", "🔄 served as its manifest is now", instance=desired.instance)

    def _drop(self, declared: set[str], known: dict[str, str]) -> None:
        for name in self.lacking.keys() - declared:
            del self.lacking[name]
        gone = [name for name in self.service.instances if name not in declared]
        if len(gone) == len(self.service.instances):
            return  # a partial checkout: a server without instances serves nobody
        for name in gone:
            del self.service.instances[name]
            known.pop(name, None)
            self.service.run.log.info("serve", "👋 no longer declared, no longer served", instance=name)


def _lacking(manifest: Manifest, error: FivrecError, known: Desired | None) -> Unserved:
    environment = (
        UNKNOWN
        if manifest.unset or "environment_from" in manifest.document
        else manifest.document["environment"]["name"]
    )
    overview = Overview(manifest.instance, environment, manifest.labels, error=ErrorInfo.of(error))
    return Unserved(overview, manifest.origin.declared_at, known)


def _broken(problem: ManifestProblem) -> Unserved:
    error = ErrorInfo(ManifestError.code, problem.words(), problem.hint)
    place = place_of_row(problem.row) or (problem.path, problem.line)
    return Unserved(Overview(problem.instance, UNKNOWN, {}, error=error), place)
