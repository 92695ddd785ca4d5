"""What runs alongside the loop of `fivrec watch`: signals, kept connections, the health page, alerts, systemd."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.cli.notifying import Receivers, notifying, settler
from reconciler.cli.options import Settings
from reconciler.cli.runtime import ALL_NEEDS, RunSetup
from reconciler.cli.signals import outlive_hangup
from reconciler.database.pool import ConnectionPool
from reconciler.engine.retention import Keep
from reconciler.engine.run import Run
from reconciler.manifest.actor import find_commit
from reconciler.manifest.loader import Made, Manifest, load_manifests, load_sound
from reconciler.manifest.references import Incomplete, Resolution, asks_others, resolve_each
from reconciler.manifest.reuse import Reuse
from reconciler.manifest.selection import NoneChosen, select
from reconciler.model.errors import ManifestError
from reconciler.model.records import dataclass
from reconciler.model.types import Desired
from reconciler.support.cancellation import on_hangup
from reconciler.support.log import EventLog, counted
from reconciler.watch.files import looks_or, name_directory, scan_files, watch_files
from reconciler.watch.health import Health, notify, watchdog_s
from reconciler.watch.loop import Watch, WatchSettings
from reconciler.watch.manifests import ManifestSource
from reconciler.watch.messages import say_manifests
from reconciler.watch.supervisor import supervised

if TYPE_CHECKING:  # what not every service needs: httpx, uvicorn, the metrics' library
    from reconciler.connect.pool import ConnectPool
    from reconciler.support.asgi_server import Listen
    from reconciler.watch.metrics import Metrics
    from reconciler.watch.notify import Notifier


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """The values of `loop_options`."""

    listen: Listen | None
    receivers: Receivers
    keep_connections: int
    check_only: bool
    keep: Keep

    @classmethod
    def of(cls, options: dict[str, Any]) -> LoopOptions:
        """Raises UsageError or MissingSetting if one can't be used."""
        return cls(
            parse_listen(options["listen"]),
            Receivers.of(options["notify_url"], options["notify"]),
            options["keep_connections"],
            check_only=not options["reconciles"],
            keep=Keep(options["keep_logs"], options["keep_audit"]),
        )


def parse_listen(text: str | None) -> Listen | None:
    """The value of `listen_option`: nothing that is served there is secret."""
    if not text:
        return None
    from reconciler.support.asgi_server import listen_from_text  # uvicorn: 10 MiB

    return listen_from_text(text, what=None)


class Troubled(Protocol):
    """Reports what is wrong; None if nothing is."""

    def trouble_alive(self) -> str | None: ...
    def trouble_ready(self) -> str | None: ...


THREADS = 32
LAST_RESORT_S = 9.5
BEAT_S = 10.0


async def run_loop(
    source: ManifestSource, resolution: Resolution, ready: RunSetup, settings: WatchSettings, own: LoopOptions
) -> int:
    """Watch until a signal ends it; returns the signal."""
    # A hanging name server blocks a thread per database: more of them than the loop's usual handful.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    stop, signals = listen_to_signals()
    log = ready.run.log
    async with AsyncExitStack() as stack:
        connect_pool = await stack.enter_async_context(shared_connect(ready.run))
        pool = ConnectionPool(kept=own.keep_connections)
        stack.push_async_callback(pool.aclose)
        run = replace(ready.run, pool=pool)
        notifier = own.receivers.build_notifier(connect_pool, log)
        run = replace(run, stored_alerts=notifier.take if notifier else None)
        metrics = _metrics(lambda: watch, pool, log, notifier) if own.listen is not None else None
        resolve = resolver(resolution, ready)
        watch = Watch(source, resolve, run, settings, metrics)
        if own.listen is not None and metrics is not None:
            await stack.enter_async_context(serving(own.listen, watch, metrics.page, log))
        if notifier is not None:
            notifier.settle = settler(lambda: watch.instances, resolve, run)
            await stack.enter_async_context(notifying(notifier, log))
        await stack.enter_async_context(supervised(log, {"systemd": partial(_beat, watch)}))
        log.info("watch", f"👀 watching {counted(len(watch.instances), 'instance')}", instances=len(watch.instances))
        say_broken(source, log)
        await watch.run(stop, looks_of(source, log))
        notify("STOPPING=1")
    return signals[0] if signals else 0


def looks_of(source: ManifestSource, log: EventLog) -> Callable[[], AsyncIterator[None]]:
    """When to look at the manifests: when they may have changed, and at SIGHUP. Each call starts listening."""
    asked = hear_hangups(source, log)
    return lambda: looks_or(watch_files(source.paths), asked)


def hear_hangups(source: ManifestSource | None, log: EventLog) -> asyncio.Event:
    """SIGHUP sets the event, which makes manifests be read again whether or not they changed. Key files, CA files and
    certificates are checked whenever they are used."""
    asked = asyncio.Event()

    def hang_up() -> None:
        log.info("reload", "🔄 SIGHUP: manifests, keys and certificates are read again")
        if source is not None:
            source.seen = ()
        asked.set()

    on_hangup(hang_up)
    return asked


@asynccontextmanager
async def shared_connect(run: Run) -> AsyncIterator[ConnectPool]:
    """The connections to Connect that all turns share; an unusable CA file is an error now."""
    shared = run.connect
    assert shared is not None  # noqa: S101 (a run that a command began has them)
    try:
        yield shared.pool(run)
    finally:
        await shared.aclose()


def manifest_source(settings: Settings, *, resolved_later: bool = False) -> ManifestSource:
    """The manifests of the command line, to be read again when they change. `resolved_later`: a missing environment
    variable is found when its instance is resolved."""
    outlive_hangup()
    reuse: Reuse[Made] = Reuse()
    stdin = sys.stdin.buffer.read() if "-" in settings.paths else b""

    def given() -> dict[str, Any]:
        return {"variables": settings.extra_vars, "environ": os.environ, "stdin": io.BytesIO(stdin), "reuse": reuse}

    def load(paths: Sequence[str]) -> tuple[Manifest, ...]:
        return select(load_manifests(paths, resolved_later=resolved_later, **given()), settings.limit)

    more = tuple(word[1:] for word in settings.extra_vars if word.startswith("@"))
    seen = scan_files(settings.paths, more)
    held, trouble = _load_sound(settings, load, given)
    return ManifestSource(
        settings.paths,
        load,
        held,
        more,
        seen,
        trouble,
        whole=not settings.limit,
        directory=name_directory(),
        commit=find_commit(settings.paths),
    )


def _load_sound(
    settings: Settings, load: Callable[[Sequence[str]], tuple[Manifest, ...]], given: Callable[[], dict[str, Any]]
) -> tuple[tuple[Manifest, ...], ManifestError | None]:
    """The manifests to start with, and what is wrong with the rest. Raises ManifestError if nothing is left, or if a
    path of the command line does not exist."""
    try:
        return load(settings.paths), None
    except ManifestError as exc:
        if any(problem.path in settings.paths and not problem.line for problem in exc.problems):
            raise
    held, trouble = load_sound(settings.paths, **given())
    try:
        return select(held, settings.limit), trouble
    except NoneChosen as exc:
        raise trouble or exc from None


def say_broken(source: ManifestSource, log: EventLog) -> None:
    """The alert about manifests that were left out at the start, if any."""
    say_manifests(log, None, source.trouble)


def resolver(resolution: Resolution, ready: RunSetup) -> Callable[[Manifest], Awaitable[Desired]]:
    """The values of a manifest's references, at each call. Raises FivrecError if not even its database is known; other
    missing values are in `lacks`."""

    def resolved(manifest: Manifest) -> Desired:
        (item,) = resolve_each((manifest,), needs=ALL_NEEDS, environ=os.environ, resolution=resolution)
        if isinstance(item, Incomplete):
            if item.known is None:
                raise item.error
            item = item.known
        return ready.place(item)

    async def resolve_again(manifest: Manifest) -> Desired:
        # A program or a server may take long; files and variables do not.
        return await asyncio.to_thread(resolved, manifest) if asks_others(manifest) else resolved(manifest)

    return resolve_again


def listen_to_signals() -> tuple[asyncio.Event, list[int]]:
    stop = asyncio.Event()
    signals: list[int] = []

    def end(number: int) -> None:
        if not signals:
            # Everything is transactional: if a name server or a disk blocks a thread, a hard end loses nothing.
            resort = threading.Timer(LAST_RESORT_S, os._exit, (128 + number,))
            resort.daemon = True
            resort.start()
        signals.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, int(number))
    return stop, signals


async def _beat(watch: Watch) -> None:
    """Tell systemd that the service is ready and alive. The loop itself runs this, which proves it."""
    notify("READY=1")
    every = watchdog_s()
    while True:
        notify(f"STATUS=watching {counted(len(watch.instances), 'instance')}")
        if every is not None and watch.trouble_alive() is None:
            notify("WATCHDOG=1")
        await asyncio.sleep(min(every or BEAT_S, BEAT_S))


@asynccontextmanager
async def serving(listen: Listen, watch: Troubled, metrics: Callable[[], bytes], log: EventLog) -> AsyncIterator[None]:
    from reconciler.support.asgi_server import AppServer, bound_socket
    from reconciler.watch.metrics import CONTENT_TYPE

    app = Health(watch.trouble_alive, watch.trouble_ready, lambda: (metrics(), CONTENT_TYPE))
    with bound_socket(listen) as bound:
        server = AppServer(
            app, listen, bound, lambda url: log.info("watch", f"🩺 health and metrics on {url}"), log=log
        )
        task = asyncio.create_task(server.serve([bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await task


def _metrics(watch: Callable[[], Watch], pool: ConnectionPool, log: EventLog, notifier: Notifier | None) -> Metrics:
    from reconciler.watch.metrics import Metrics, build_instance_facts

    def loop() -> dict[str, float]:
        it = watch()
        return {
            "instances": len(it.instances),
            "due": it.queue.waiting(asyncio.get_running_loop().time()),
            "running": it.running,
            "kept_connections": len(pool),
            "manifest_broken": it.source.trouble is not None,
            "alerts_waiting": notifier.waiting if notifier else 0,
        }

    metrics = Metrics(loop, lambda: build_instance_facts(watch().instances, asyncio.get_running_loop().time()))
    log.listeners.append(metrics.hear)
    if notifier is not None:
        notifier.done = metrics.notified
    return metrics
