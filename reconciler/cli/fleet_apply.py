"""`fivrec fleet apply`: roll out across the workers; progress, stop by a signal, one report."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import field
from datetime import datetime
from typing import Any

from reconciler.cli.gitops import build_rollout
from reconciler.cli.options import Settings
from reconciler.cli.render.output import write_report
from reconciler.cli.runtime import load, open_log, progress
from reconciler.cli.signals import SIGNALS
from reconciler.engine.batch import Stop
from reconciler.engine.rollout import roll_out
from reconciler.engine.run import Run
from reconciler.manifest.actor import find_actor
from reconciler.manifest.loader import Manifest
from reconciler.manifest.references import Resolution, resolve
from reconciler.model.errors import UsageError
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.planning.report import InstanceReport, Report, exit_code
from reconciler.planning.rollout import Rollout
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.log import utc_now
from reconciler.workers.apply import NO_LIMIT_S, Jobs, queued
from reconciler.workers.job_queue import open_queue
from reconciler.workers.manifests import stored_rows


def run_fleet_apply(url: Secret, settings: Settings, options: dict[str, Any], *, forks: int | None) -> int:
    """Roll out, write the report, return the exit code."""
    rollout = build_rollout(options)
    if not options["wait"] and rollout.staged:
        raise UsageError("--canary, --serial and --max-fail need --wait", hint="leave --no-wait out")
    manifests = load(settings)
    run, stop = _run(settings), Stop(SIGNALS.note)
    with progress(len(manifests), settings, run.log) as done:
        work = _Work(url, settings, options, rollout, stop, done, forks or len(manifests))
        reports = asyncio.run(work.roll_out(manifests, run))
    took = round((utc_now() - work.started_at).total_seconds() * 1000)
    write_report(
        Report("fleet apply", run.id, work.started_at, took, reports), settings.output, fields=options["show_fields"]
    )
    return 128 + stop.signal if stop.signal else exit_code(reports, strict=options["strict"])


@dataclass(frozen=True, slots=True)
class _Work:
    """One rollout: its options, what can stop it, and who is notified of its progress."""

    url: Secret
    settings: Settings
    options: Mapping[str, Any]
    rollout: Rollout
    stop: Stop
    done: Callable[[Any], None]
    forks: int
    started_at: datetime = field(default_factory=utc_now)

    async def roll_out(self, manifests: tuple[Manifest, ...], run: Run) -> tuple[InstanceReport, ...]:
        wish = {
            "actor": run.actor.name,
            "commit": run.actor.git_commit,
            "accept": sorted(self.options["accept"]),
            "adopt": self.options["adopt"],
            "deep": self.options["deep"],
        }
        store = self.options["store"]
        async with AsyncExitStack() as stack:
            queue = await stack.enter_async_context(open_queue(self.url))
            if store:
                await queue.run("store", **stored_rows(manifests, KeyRing.from_environ(os.environ)))
            jobs = Jobs(queue, run.id, wish, store, self.settings.timeout)
            # Without any secret: none is needed here.
            resolution = Resolution(self.settings.work_dir)
            desired = resolve(manifests, needs=frozenset(), environ={}, resolution=resolution)
            if not self.options["wait"]:
                return await queued(jobs, desired)
            SIGNALS.hold()
            await stack.enter_async_context(self.stop.listening())
            if SIGNALS.number:
                self.stop.ask(SIGNALS.number)
            await stack.enter_async_context(jobs.listening(run))
            return await roll_out(
                desired, run, jobs.apply, self.rollout, forks=self.forks, stop=self.stop, done=self.done
            )


def _run(settings: Settings) -> Run:
    return Run(
        id=str(uuid.uuid4()),
        command="fleet apply",
        actor=find_actor(settings.actor, settings.paths, os.environ, recorded=True),
        keys=KeyRing(()),
        log=open_log(settings),
        now=utc_now,
        timeout_s=NO_LIMIT_S,
    )
