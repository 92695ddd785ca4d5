"""`fivrec watch`: the loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.collector import collect
from reconciler.cli.notifying import Receivers
from reconciler.cli.options import SECONDS, loop_options, manifest_options, settings_from

if TYPE_CHECKING:
    from reconciler.cli.options import Settings
    from reconciler.cli.watch_service import Own
    from reconciler.support.asgi_server import Listen


@click.command("watch", short_help="Keep reconciling and checking.")
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
    own = _own(options)
    settings = settings_from(options)
    stopped = _watch(settings, replace(own, watch=replace(own.watch, forks=settings.forks)))
    click.get_current_context().exit(128 + stopped)


def _own(options: dict[str, Any]) -> Own:
    from reconciler.cli.watch_service import Own
    from reconciler.engine.retention import Keep
    from reconciler.model.errors import UsageError
    from reconciler.watch.loop import WatchSettings

    if options["report_only"] and not options["reconciles"]:
        raise UsageError("--report-only looks at everything, and --check-only at nothing", hint="leave one of them out")
    return Own(
        watch=WatchSettings(
            forks=1,
            every_s=options.pop("every"),
            check_only=not options.pop("reconciles"),
            keep=Keep(options.pop("keep_logs"), options.pop("keep_audit")),
        ),
        listen=_listen(options.pop("listen")),
        receivers=Receivers.of(options.pop("notify_url"), options.pop("notify")),
        keep_connections=options.pop("keep_connections"),
        report_only=options.pop("report_only"),
    )


def _listen(text: str | None) -> Listen | None:
    if not text:
        return None
    from reconciler.support.asgi_server import listen_from_text  # uvicorn: 10 MiB

    return listen_from_text(text, what=None)


def _watch(settings: Settings, own: Own) -> int:
    """Returns the signal that ended it. Everything that can be wrong with the input is found first; an instance that
    lacks something waits until it is available, and blocks no other."""
    from reconciler.cli.runtime import open_log, resolution_of, resolve_some, start_servers
    from reconciler.cli.watch_service import manifest_source, run_loop
    from reconciler.support.log import QuietLog

    log = QuietLog.over(open_log(settings))
    source = manifest_source(settings, resolved_later=True)
    resolution = resolution_of(settings)
    desired, _ = resolve_some(source.held, settings)
    with start_servers(desired, settings, "watch", log, service=True, report_only=own.report_only) as ready:
        del desired
        collect()
        return asyncio.run(run_loop(source, resolution, ready, own))
