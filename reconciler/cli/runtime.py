"""From options to a run: manifests, secrets, keys, servers, the event loop, the progress bar."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.cli.boundary import say
from reconciler.cli.collector import collect
from reconciler.cli.failure_events import find_failures
from reconciler.cli.options import Settings
from reconciler.cli.signals import SIGNALS
from reconciler.cli.streams import shows_bars
from reconciler.model.errors import ManifestError, MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.types import Desired, ErrorInfo, is_embedded
from reconciler.planning.report import InstanceReport, Report
from reconciler.support.crypto.key_files import FILE_NAME, exposed_files, is_set
from reconciler.support.crypto.keyring import KeyRing, reread_ring
from reconciler.support.log import EventLog, Level, utc_now
from reconciler.support.postgres_url import one_environment

if TYPE_CHECKING:
    from reconciler.engine.batch import One
    from reconciler.engine.run import Run
    from reconciler.manifest.bounds import Bounds
    from reconciler.manifest.loader import Manifest
    from reconciler.manifest.references import Incomplete, Need, Resolution
    from reconciler.planning.rollout import Rollout

T = TypeVar("T")

ERASE_LINE = "\r\x1b[K"

ALL_NEEDS: frozenset[Need] = frozenset({"database", "connect", "admin", "provision"})


@dataclass(frozen=True, slots=True)
class RunSetup:
    """Everything that a command works with: resolved manifests, running servers, the run's shared part.

    `place` puts real URLs into a manifest that is resolved later. `beside`: the folder in which keys are created if
    needed, when every database is embedded. `others` are the reports of instances that are not run: their manifest
    can't be resolved (--keep-going), or no manifest declares them any more (--changed-since). `order` has the names of
    all instances in the order of the manifests. `lacking`: instances that lack something, with as much as their check
    and the record of their failure need. `broken`: the problems of manifests that are left out, if a command continues
    without them.
    """

    desired: tuple[Desired, ...]
    run: Run
    started_at: datetime
    place: Callable[[Desired], Desired]
    beside: Path | None = None
    others: tuple[InstanceReport, ...] = ()
    order: tuple[str, ...] = ()
    lacking: tuple[Desired, ...] = ()
    broken: ManifestError | None = None

    def in_order(self, reports: Sequence[InstanceReport]) -> tuple[InstanceReport, ...]:
        """These and the `others`, in the order of the manifests."""
        place = {name: number for number, name in enumerate(self.order)}
        return tuple(sorted((*reports, *self.others), key=lambda item: place.get(item.instance, len(place))))

    def build_report(self, reports: tuple[InstanceReport, ...], *, digest: str | None = None) -> Report:
        """The report that the command shows, as of now."""
        took = round((self.run.now() - self.started_at).total_seconds() * 1000)
        return Report(self.run.command, self.run.id, self.started_at, took, reports, digest=digest)


def today() -> date:
    """The day of a run: entries of `ignore` expire between runs, not within one."""
    return utc_now().date()


def load(settings: Settings) -> tuple[Manifest, ...]:
    """The manifests that the paths and --limit select."""
    from reconciler.manifest.loader import load_manifests

    return _choose(load_manifests(settings.paths, resolved_later=True, **read_with(settings)), settings)


def read_with(settings: Settings) -> dict[str, Any]:
    """What the loader reads manifests with, besides their paths."""
    stdin = sys.stdin.buffer if "-" in settings.paths else None
    return {"variables": settings.extra_vars, "environ": os.environ, "stdin": stdin}


def _load_each(settings: Settings) -> tuple[tuple[Manifest, ...], ManifestError | None]:
    """Like `load`, without broken manifests; returns also the problems of those that --limit may select. Raises
    ManifestError if none is left."""
    from reconciler.manifest.loader import load_sound
    from reconciler.manifest.selection import NoneChosen, may_choose

    manifests, broken = load_sound(settings.paths, **read_with(settings))
    problems = broken.problems if broken else ()
    chosen = tuple(one for one in problems if not one.instance or may_choose(one.instance, settings.limit))
    try:
        return _choose(manifests, settings), ManifestError(chosen, hint=broken.hint) if broken and chosen else None
    except NoneChosen as exc:
        raise broken if broken and chosen else exc from None


def _choose(manifests: Sequence[Manifest], settings: Settings) -> tuple[Manifest, ...]:
    from reconciler.manifest.selection import select, unmatched

    chosen = select(manifests, settings.limit)
    for words in unmatched(manifests, settings.limit):
        open_log(settings).warning("limit", f"⚠️ {words}")
    return chosen


def open_log(settings: Settings) -> EventLog:
    level = Level.ERROR if settings.quiet else (Level.DEBUG if settings.verbose else Level.INFO)
    return EventLog(sys.stderr, "json" if settings.log_format == "json" else "console", level)


@contextmanager
def open_run(
    settings: Settings,
    command: str,
    *,
    needs: frozenset[Need] = ALL_NEEDS,
    dry: bool = False,
    keyless: bool = False,
    each: bool = False,
    **more: Any,
) -> Iterator[RunSetup]:
    """Load, resolve, start embedded servers. Everything that can be wrong with the input is found here, before any
    write.

    `each`: a missing value affects only its instance, as with --keep-going, unless all lack something; so does a broken
    manifest.
    """
    log = open_log(settings)
    manifests, broken = _load_each(settings) if each else (load(settings), None)
    if broken is not None:
        say(broken.message, broken.hint, broken.code)
    others: tuple[InstanceReport, ...] = ()
    lacking: tuple[Desired, ...] = ()
    if settings.retry is not None:
        from reconciler.cli.retry import only_undone

        manifests = only_undone(manifests, settings.retry, log, command)
    if settings.changed_since is not None:
        from reconciler.cli.gitops import only_changed

        manifests, others = only_changed(manifests, settings, log, command)
    wanted = needs - {"provision"} if dry else needs  # a dry run creates no database
    if settings.keep_going or each:
        desired, incomplete = resolve_complete(manifests, settings, wanted, apart=each)
        if each and incomplete and not desired:
            resolve_all(manifests, settings, wanted, keyless=keyless)  # raises: no instance can be asked
        lacking = () if dry else tuple(filter(None, map(find_known, incomplete)))
        named = {item.instance for item in lacking}
        reports = (build_incomplete_report(item) for item in incomplete if item.manifest.instance not in named)
        others = (*reports, *others)
    else:
        desired = resolve_all(manifests, settings, wanted, keyless=keyless)
    keyless = keyless or not desired
    with start_servers(desired, settings, command, log, dry=dry, keyless=keyless, **more) as ready:
        order = tuple(manifest.instance for manifest in manifests)
        yield replace(ready, others=others, order=order, lacking=lacking, broken=broken)


def resolve_complete(
    manifests: Sequence[Manifest], settings: Settings, needs: frozenset[Need], *, apart: bool = False
) -> tuple[tuple[Desired, ...], tuple[Incomplete, ...]]:
    """Instances that can be resolved, and those that can't: what one lacks blocks no other. `apart`: the same for two
    on one database."""
    from reconciler.manifest.references import Incomplete, resolve_each

    resolution = resolution_of(settings)
    found = resolve_each(manifests, needs=needs, environ=os.environ, resolution=resolution, apart=apart)
    desired = tuple(item for item in found if not isinstance(item, Incomplete))
    return desired, tuple(item for item in found if isinstance(item, Incomplete))


def resolve_some(
    manifests: Sequence[Manifest], settings: Settings
) -> tuple[tuple[Desired, ...], tuple[Incomplete, ...]]:
    """Like `resolve_complete`; raises MissingSetting or ManifestError if none can be resolved, because nobody could
    have a turn."""
    desired, incomplete = resolve_complete(manifests, settings, ALL_NEEDS)
    if incomplete and not desired:
        resolve_all(manifests, settings, ALL_NEEDS)
    return desired, incomplete


def find_known(item: Incomplete) -> Desired | None:
    """Enough to read its database and record its failure; an embedded server is not started only for that."""
    return None if item.known is None or is_embedded(item.known.database.url.reveal()) else item.known


def build_incomplete_report(item: Incomplete) -> InstanceReport:
    manifest, error = item.manifest, item.error
    environment = manifest.document["environment"]["name"]
    said = ErrorInfo.of(error)
    return InstanceReport(
        manifest.instance, environment, "failed", 0, error.exit_code, error=said, **manifest.origin.place
    )


def resolve_all(
    manifests: Sequence[Manifest], settings: Settings, needs: frozenset[Need], *, keyless: bool = False
) -> tuple[Desired, ...]:
    """The values of the manifests' references. Raises MissingSetting naming everything that is missing, including the
    encryption key."""
    from reconciler.manifest.references import resolve

    resolution = resolution_of(settings)
    try:
        with one_environment():
            return resolve(manifests, needs=needs, environ=os.environ, resolution=resolution)
    except MissingSetting as exc:
        key = None if keyless else _missing_key(manifests, resolution)
        if key is None:
            raise
        message, hint = f"{exc.message}\n{key.message}", f"{exc.hint}; {key.hint}"
        error = MissingSetting(message, hint=hint, code=exc.code)
        error.places = exc.places
        raise error from exc


def resolution_of(settings: Settings) -> Resolution:
    """What the options allow references to do."""
    from reconciler.manifest.references import Resolution
    from reconciler.manifest.secrets.sources import COMMAND_S

    return Resolution(
        work_dir=settings.work_dir,
        secrets_dir=settings.secrets_dir,
        allow_command=settings.allow_command,
        allow_embedded=settings.allow_embedded,
        bounds=bounds_of(settings),
        command_s=min(COMMAND_S, settings.timeout),
    )


def bounds_of(settings: Settings) -> Bounds:
    from reconciler.manifest.bounds import Bounds

    return Bounds(settings.allow_env, settings.allow_connect, settings.allow_database, settings.allow_secret)


def _missing_key(manifests: Sequence[Manifest], resolution: Resolution) -> MissingSetting | None:
    """What is wrong with the encryption keys; if all databases are embedded none is required, because one is
    created."""
    from reconciler.manifest.references import resolve_databases

    try:
        KeyRing.from_environ(os.environ)
    except MissingSetting as exc:
        if is_set(os.environ):
            return exc
        found = resolve_databases(manifests, environ=os.environ, resolution=resolution)
        return None if all(url is not None and is_embedded(url.reveal()) for url in found) else exc
    return None


@contextmanager
def start_servers(
    desired: Sequence[Desired],
    settings: Settings,
    command: str,
    log: EventLog,
    *,
    dry: bool = False,
    keyless: bool = False,
    service: bool = False,
    **more: Any,
) -> Iterator[RunSetup]:
    """Keys and embedded servers for resolved manifests. `keyless` runs without keys if none is set; a `service` reads
    key files again when they change."""
    from reconciler.engine.embedded import embedded_folders, local_servers
    from reconciler.engine.run import Run, SharedConnect
    from reconciler.manifest.actor import find_actor

    folders = embedded_folders(desired, settings.work_dir)
    all_embedded = bool(folders) and all(is_embedded(item.database.url.reveal()) for item in desired)
    beside = folders[0].parent if all_embedded else None
    embedded = folders if all_embedded else ()
    if service and is_set(os.environ):
        keys = reread_ring(os.environ, partial(log.warning, command, error="key_files"))
    else:
        keys = _keys(embedded, keyless=keyless, dry=dry)
    _say_keys(keys, command, log)
    run_id, actor = str(uuid.uuid4()), find_actor(settings.actor, settings.paths, os.environ, recorded=not dry)
    run = Run(
        id=run_id,
        command=command,
        actor=actor,
        keys=keys,
        log=log.bind(run_id=run_id, commit=actor.git_commit),
        now=utc_now,
        work_dir=settings.work_dir,
        ca_file=settings.ca_file,
        timeout_s=settings.timeout,
        dry=dry,
        connect=SharedConnect(settings.forks),
        **more,
    )
    with local_servers(settings.work_dir, dry=dry) as servers:
        placed = tuple(servers.place(item) for item in desired)
        yield RunSetup(placed, run, run.now(), servers.place, beside)


def _say_keys(keys: KeyRing, command: str, log: EventLog) -> None:
    if keys.made:
        log.info(command, f"🔐 made an encryption key for the embedded database: {keys.made}")
    if keys.lost:
        log.warning(command, f"⚠️ {keys.beside} is gone; no new key is made, because the data may need the lost one")
    for path in exposed_files(os.environ):
        log.warning(command, f"⚠️ the encryption keys in {path} can be read by other users: chmod 600 {path}")


def _keys(embedded: Sequence[Path], *, keyless: bool, dry: bool) -> KeyRing:
    """The keys of the environment; otherwise, if all databases are embedded, those beside them. A dry run creates none,
    and nor does any run once there are databases: their content is encrypted with a key that existed before."""
    if is_set(os.environ):
        return KeyRing.from_environ(os.environ)
    if not embedded:
        return KeyRing(()) if keyless else KeyRing.from_environ(os.environ)
    from reconciler.database.embedded.server import is_initialised

    # Asked first: another run may create both meanwhile, the key before the server.
    is_old = any(map(is_initialised, embedded))
    places = [folder.parent for folder in embedded]
    beside = next((place for place in places if (place / FILE_NAME).exists()), None)
    if beside is None and (dry or is_old):
        return KeyRing.passing(places[0] / FILE_NAME, lost=not dry)
    return KeyRing.from_environ(os.environ, beside or places[0])


def run_instances(
    ready: RunSetup, one: One, settings: Settings, rollout: Rollout | None = None
) -> tuple[tuple[InstanceReport, ...], int]:
    """Run all instances through `one`. The second value is 128 + the signal that stopped the run, otherwise 0."""
    from reconciler.engine.batch import Stop, run_many

    stop = Stop(SIGNALS.note)

    async def work(done: Callable[[Any], None]) -> tuple[InstanceReport, ...]:
        SIGNALS.hold()
        async with stop.listening():
            if SIGNALS.number:
                stop.ask(SIGNALS.number)
            if rollout is not None and rollout.staged:
                from reconciler.engine.rollout import roll_out

                return await roll_out(
                    ready.desired, ready.run, one, rollout, forks=settings.forks, stop=stop, done=done
                )
            return await run_many(ready.desired, ready.run, one, forks=settings.forks, stop=stop, done=done)

    with one_environment(), progress(len(ready.desired), settings, ready.run.log) as done:
        collect()
        reports = run_async(ready.run, work(find_failures(ready.run, done)))
    return reports, 128 + stop.signal if stop.signal else 0


def run_async(run: Run, work: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, and closes the run's connections to Connect afterwards."""

    async def closing() -> T:
        try:
            return await work
        finally:
            if run.connect is not None:
                await run.connect.aclose()

    return asyncio.run(closing())


@contextmanager
def progress(total: int, settings: Settings, log: EventLog) -> Iterator[Callable[[Any], None]]:
    """A progress bar on stderr if it is a terminal and there is more than one instance; otherwise nothing. Lines of the
    log replace the bar, and its next step draws it below them."""
    if total < 2 or settings.quiet or not shows_bars():  # noqa: PLR2004 (one instance needs no bar)
        yield lambda _: None
        return
    with click.progressbar(length=total, label="instances", file=sys.stderr, show_pos=True) as bar:
        log.lead = ERASE_LINE
        try:
            yield lambda _: bar.update(1)
        finally:
            log.lead = ""
