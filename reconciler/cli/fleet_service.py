"""The processes of `fivrec fleet schedule` and `fivrec fleet worker`: signals, connections, health page, alerts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.cli import watch_service
from reconciler.cli.notifying import notifying, settler
from reconciler.cli.options import Settings
from reconciler.cli.runtime import RunSetup, open_log, resolution_of, start_servers
from reconciler.cli.signals import outlive_hangup
from reconciler.cli.watch_service import LoopOptions
from reconciler.database.pool import ConnectionPool
from reconciler.manifest.references import Resolution
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import reread_ring
from reconciler.support.log import EventLog, counted
from reconciler.support.quiet_log import QuietLog
from reconciler.watch.cycle import Cycle
from reconciler.watch.manifests import ManifestSource
from reconciler.workers.job_queue import forward_logs, open_queue
from reconciler.workers.manifests import Checkout, Stored
from reconciler.workers.scheduler import ALL, Scheduler
from reconciler.workers.worker import FleetClock, FleetWorker, Manifests

if TYPE_CHECKING:
    from reconciler.watch.metrics import Metrics


def quiet_log(settings: Settings) -> EventLog:
    log = QuietLog.over(open_log(settings))
    forward_logs(lambda message: log.warning("queue", f"⚠️ the queue's client: {message}"))
    return log


def run_schedule(url: Secret, settings: Settings, options: dict[str, Any]) -> int:
    """Returns the exit code: 0 with --once, otherwise that of the signal that ended it."""
    source, log = watch_service.manifest_source(settings), quiet_log(settings)
    return asyncio.run(_schedule(url, source, log, options))


async def _schedule(url: Secret, source: ManifestSource, log: EventLog, options: dict[str, Any]) -> int:
    keys = reread_ring(os.environ, partial(log.warning, "fleet", error="key_files")) if options["store"] else None
    listen, once = watch_service.parse_listen(options["listen"]), options["once"]
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(open_queue(url))
        scheduler = Scheduler(queue, source, log, every_s=options["every"], keys=keys, once=once)
        if once and source.trouble is not None:
            raise source.trouble
        await scheduler.declare(source.held)
        if once:
            count = await scheduler.enqueue(ALL)
            said = f"📅 {counted(count, 'instance')} queued, {scheduler.declared} declared here"
            log.info("fleet", said, instances=count)
            return 0
        stop, signals = watch_service.listen_to_signals()
        if listen is not None:
            from reconciler.watch.metrics import Gauges
            from reconciler.workers.metrics import GAUGES

            scheduler.shows_instances = True
            metrics = Gauges(scheduler.queue_facts, scheduler.instance_facts, GAUGES)
            await stack.enter_async_context(watch_service.serving(listen, scheduler, metrics.page, log))
        watch_service.say_broken(source, log)
        await scheduler.run(stop, watch_service.looks_of(source, log))
    return 128 + signals[0] if signals else 0


def run_worker(url: Secret, settings: Settings, own: LoopOptions) -> int:
    """Returns the exit code of the signal that ended it."""
    outlive_hangup()
    source, log = watch_service.manifest_source(settings) if settings.paths else None, quiet_log(settings)
    resolution = resolution_of(settings)
    with start_servers((), settings, "fleet worker", log, service=True) as ready:
        return asyncio.run(_work(url, source, resolution, ready, own=own, settings=settings))


async def _work(
    url: Secret,
    source: ManifestSource | None,
    resolution: Resolution,
    ready: RunSetup,
    *,
    own: LoopOptions,
    settings: Settings,
) -> int:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(watch_service.THREADS))
    files = resolution.secrets_dir or settings.work_dir / "files"
    manifests: Manifests = Checkout(source) if source is not None else Stored(ready.run.keys, files)
    log, clock = ready.run.log, FleetClock()
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(open_queue(url))
        await queue.version()  # missing tables are an error at the start, as in the other commands
        stop, signals = watch_service.listen_to_signals()
        watch_service.hear_hangups(source, log)
        connect_pool = await stack.enter_async_context(watch_service.shared_connect(ready.run))
        pool = ConnectionPool(kept=own.keep_connections)
        stack.push_async_callback(pool.aclose)
        notifier = own.receivers.build_notifier(connect_pool, log)
        waiting = (lambda: notifier.waiting) if notifier else (lambda: 0)
        metrics = _metrics(lambda: worker, source, pool, log, alerts=waiting) if own.listen is not None else None
        run = replace(ready.run, pool=pool, stored_alerts=notifier.take if notifier else None)
        resolve = watch_service.resolver(resolution, ready)
        commit = (lambda: source.commit) if source is not None else None
        turning = Cycle(resolve, run, own.check_only, own.keep, metrics, clock, commit=commit)
        worker = FleetWorker(queue, manifests, turning, clock, settings.forks)
        if own.listen is not None and metrics is not None:
            await stack.enter_async_context(watch_service.serving(own.listen, worker, metrics.page, log))
        if notifier is not None:
            notifier.settle = settler(lambda: worker.known, resolve, run)
            notifier.done = metrics.notified if metrics else notifier.done
            await stack.enter_async_context(notifying(notifier, log))
        if source is not None:
            watch_service.say_broken(source, log)
        await worker.run(stop)
    return 128 + signals[0] if signals else 0


def _metrics(
    worker: Callable[[], FleetWorker],
    source: ManifestSource | None,
    pool: ConnectionPool,
    log: EventLog,
    *,
    alerts: Callable[[], int],
) -> Metrics:
    from reconciler.watch.metrics import Metrics

    def loop() -> dict[str, float]:
        it = worker()
        return {
            "due": it.depth["waiting"],
            "running": it.running,
            "kept_connections": len(pool),
            "manifest_broken": source is not None and source.trouble is not None,
            "alerts_waiting": alerts(),
            "silence_s": it.silence_s(),
        }

    metrics = Metrics(loop, tuple)  # the schedulers show the instances, which move from worker to worker
    log.listeners.append(metrics.hear)
    return metrics
