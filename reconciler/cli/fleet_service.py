"""The processes of `fivrec fleet schedule` and `fivrec fleet worker`: signals, connections, health page, alerts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from reconciler.cli import watch_service
from reconciler.cli.notifying import notifying, settler
from reconciler.cli.signals import outlive_hangup
from reconciler.model.records import dataclass

if TYPE_CHECKING:
    from reconciler.cli.notifying import Receivers
    from reconciler.cli.options import Settings
    from reconciler.cli.runtime import RunSetup
    from reconciler.database.pool import ConnectionPool
    from reconciler.engine.retention import Keep
    from reconciler.manifest.references import Resolution
    from reconciler.model.secret import Secret
    from reconciler.support.log import EventLog
    from reconciler.watch.manifests import ManifestSource
    from reconciler.watch.metrics import Metrics
    from reconciler.workers.worker import FleetWorker, Manifests


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The options of `schedule` alone."""

    url: Secret
    every_s: float | None
    listen: str | None
    store: bool
    once: bool


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `worker` alone."""

    url: Secret
    listen: str | None
    receivers: Receivers
    keep_connections: int
    check_only: bool
    keep: Keep


def quiet_log(settings: Settings) -> EventLog:
    from reconciler.cli.runtime import open_log
    from reconciler.support.log import QuietLog
    from reconciler.workers.job_queue import forward_logs

    log = QuietLog.over(open_log(settings))
    forward_logs(lambda message: log.warning("queue", f"⚠️ the queue's client: {message}"))
    return log


def run_schedule(settings: Settings, own: ScheduleOptions) -> int:
    """Returns the exit code: 0 with --once, otherwise that of the signal that ended it."""
    source, log = watch_service.manifest_source(settings), quiet_log(settings)
    return asyncio.run(_schedule(source, log, own))


async def _schedule(source: ManifestSource, log: EventLog, own: ScheduleOptions) -> int:
    from reconciler.support.asgi_server import listen_from_text
    from reconciler.support.crypto.keyring import reread_ring
    from reconciler.support.log import counted
    from reconciler.workers.job_queue import open_queue
    from reconciler.workers.metrics import FleetMetrics
    from reconciler.workers.scheduler import ALL, Scheduler

    keys = reread_ring(os.environ, partial(log.warning, "fleet", error="key_files")) if own.store else None
    listen = listen_from_text(own.listen, what=None) if own.listen else None
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(open_queue(own.url))
        scheduler = Scheduler(queue, source, log, every_s=own.every_s, keys=keys, once=own.once)
        if own.once and source.trouble is not None:
            raise source.trouble
        await scheduler.declare(source.held)
        if own.once:
            count = await scheduler.enqueue(ALL)
            said = f"📅 {counted(count, 'instance')} queued, {scheduler.declared} declared here"
            log.info("fleet", said, instances=count)
            return 0
        stop, signals = watch_service.listen_to_signals()
        if listen is not None:
            scheduler.shows_instances = True
            metrics = FleetMetrics(scheduler.queue_facts, scheduler.instance_facts)
            await stack.enter_async_context(watch_service.serving(listen, scheduler, metrics.page, log))
        watch_service.say_broken(source, log)
        await scheduler.run(stop, watch_service.looks_of(source, log))
    return 128 + signals[0] if signals else 0


def run_worker(settings: Settings, own: WorkerOptions) -> int:
    """Returns the exit code of the signal that ended it."""
    from reconciler.cli.runtime import resolution_of, start_servers

    outlive_hangup()
    source, log = watch_service.manifest_source(settings) if settings.paths else None, quiet_log(settings)
    resolution = resolution_of(settings)
    with start_servers((), settings, "fleet worker", log, service=True) as ready:
        return asyncio.run(_work(source, resolution, ready, settings, own))


async def _work(
    source: ManifestSource | None, resolution: Resolution, ready: RunSetup, settings: Settings, own: WorkerOptions
) -> int:
    from reconciler.database.pool import ConnectionPool
    from reconciler.support.asgi_server import listen_from_text
    from reconciler.watch.cycle import Cycle
    from reconciler.workers.job_queue import open_queue
    from reconciler.workers.manifests import Checkout, Stored
    from reconciler.workers.worker import FleetClock, FleetWorker

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(watch_service.THREADS))
    listen = listen_from_text(own.listen, what=None) if own.listen else None
    files = resolution.secrets_dir or settings.work_dir / "files"
    manifests: Manifests = Checkout(source) if source is not None else Stored(ready.run.keys, files)
    log, clock = ready.run.log, FleetClock()
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(open_queue(own.url))
        await queue.version()  # missing tables are an error at the start, as in the other commands
        stop, signals = watch_service.listen_to_signals()
        watch_service.hear_hangups(source, log)
        connect_pool = await stack.enter_async_context(watch_service.shared_connect(ready.run))
        pool = ConnectionPool(kept=own.keep_connections)
        stack.push_async_callback(pool.aclose)
        notifier = own.receivers.build_notifier(connect_pool, log)
        waiting = (lambda: notifier.waiting) if notifier else (lambda: 0)
        metrics = _metrics(lambda: worker, source, pool, log, alerts=waiting) if listen is not None else None
        run = replace(ready.run, pool=pool, stored_alerts=notifier.take if notifier else None)
        resolve = watch_service.resolver(resolution, ready)
        commit = (lambda: source.commit) if source is not None else None
        turning = Cycle(resolve, run, own.check_only, own.keep, metrics, clock, commit=commit)
        worker = FleetWorker(queue, manifests, turning, clock, settings.forks)
        if listen is not None and metrics is not None:
            await stack.enter_async_context(watch_service.serving(listen, worker, metrics.page, log))
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
    from reconciler.watch.metrics import LoopFacts, Metrics

    def loop() -> LoopFacts:
        it = worker()
        broken = source is not None and source.trouble is not None
        return LoopFacts(None, int(it.depth["waiting"]), it.running, len(pool), broken, alerts(), it.silence_s())

    metrics = Metrics(lambda: (), loop)  # the schedulers show the instances, which move from worker to worker
    log.listeners.append(metrics.hear)
    return metrics
