"""`fivrec watch`: the loop."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from reconciler.cli.collector import collect
from reconciler.cli.options import SECONDS, Settings, loop_options, manifest_options, settings_from
from reconciler.model.errors import UsageError


@click.command("watch")
@manifest_options("text")
@click.option("--every", type=SECONDS, metavar="SPAN", help="One interval for all, not the manifests' own.")
@click.option(
    "--report-only",
    is_flag=True,
    help="Report changes and drift and follow Connect's lock, but change nothing else.",
)
@loop_options
def command(**options: Any) -> None:
    """Keep reconciling: a startup check of each instance, then one every check_interval_minutes.

    Changed manifests are picked up; if one is broken, the last good one stays in use. What fails is tried again after
    1 second to 5 minutes. Ends on SIGINT or SIGTERM, within 10 seconds: turns finish or roll back.

    Example: fivrec watch manifests/ --listen 127.0.0.1:9464

    Example: fivrec watch manifests/ --report-only
    """
    settings = settings_from(options)
    if options["report_only"] and not options["reconciles"]:
        raise UsageError("--report-only looks at everything, and --check-only at nothing", hint="leave one of them out")
    click.get_current_context().exit(128 + _watch(settings, options))


def _watch(settings: Settings, options: dict[str, Any]) -> int:
    """Returns the signal that ended it. Everything that can be wrong with the input is found first; an instance that
    lacks something waits until it is available, and blocks no other."""
    from reconciler.cli.runtime import open_log, resolution_of, resolve_some, start_servers
    from reconciler.cli.watch_service import LoopOptions, manifest_source, run_loop
    from reconciler.support.quiet_log import QuietLog
    from reconciler.watch.loop import WatchSettings

    own = LoopOptions.of(options)
    watch = WatchSettings(settings.forks, options["every"], own.check_only, own.keep)
    log = QuietLog.over(open_log(settings))
    source = manifest_source(settings, resolved_later=True)
    resolution = resolution_of(settings)
    desired, _ = resolve_some(source.held, settings)
    with start_servers(desired, settings, "watch", log, service=True, report_only=options["report_only"]) as ready:
        del desired
        collect()
        return asyncio.run(run_loop(source, resolution, ready, watch, own))
