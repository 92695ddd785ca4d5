"""`fivrec fleet`: the same work spread over machines, on a queue in PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from reconciler.cli.gitops import adopt_option, deep_option, rollout_options, show_fields_option, strict_option
from reconciler.cli.options import (
    SECONDS,
    listen_option,
    log_options,
    loop_options,
    manifest_options,
    output_option,
    settings_from,
    text_or_variable,
)
from reconciler.model.secret import Secret

queue_option = click.option(
    "--queue-url",
    required=True,
    metavar="URL|env:NAME",
    envvar="FIVREC_QUEUE_URL",
    show_envvar=True,
    help="The queue's database. A URL on the command line shows in ps: set the variable instead.",
)
store_option = click.option(
    "--store",
    is_flag=True,
    help="Keep the rendered manifests in the queue, signed, for workers without PATH.",
)


def queue_url(options: dict[str, Any]) -> Secret:
    return Secret(text_or_variable(options["queue_url"]))


@click.group("fleet")
def command() -> None:
    """Spread the work over machines: a scheduler queues the instances that are due, workers reconcile them.

    The queue is Procrastinate's, in a PostgreSQL database of its own. Needs the extra fleet.

    \b
    Example:
      fivrec fleet init
      fivrec fleet schedule manifests/
      fivrec fleet worker manifests/ -f 16
    """


@command.command("init", short_help="Make the queue's database and tables.")
@queue_option
@log_options
def init(**options: Any) -> None:
    """Make the queue's database, if it is missing, and its tables. You can run it again.

    Example: fivrec fleet init --queue-url env:QUEUE_URL
    """
    url, settings = queue_url(options), settings_from(options)
    from reconciler.cli.runtime import open_log
    from reconciler.workers.job_queue import open_queue

    async def make() -> None:
        async with open_queue(url, create=True) as queue:
            made = await queue.make_schema()
            open_log(settings).info("fleet", f"📬 {queue.where}: {'tables made' if made else 'tables are there'}")

    asyncio.run(make())


@command.command("schedule", short_help="Queue instances as they are due.")
@manifest_options("text")
@queue_option
@store_option
@click.option("--every", type=SECONDS, metavar="SPAN", help="One interval for all, not the manifests' own.")
@click.option("--once", is_flag=True, help="Queue the instances that are due now, and end.")
@listen_option
def schedule(**options: Any) -> None:
    """Queue one job for each instance and interval, spread over the interval, until SIGINT or SIGTERM.

    Several schedulers may run: each due time is queued once. An instance that leaves its manifests is no longer
    scheduled, unless another scheduler declares it; with --once or --limit none is removed.

    Example: fivrec fleet schedule manifests/ --listen 127.0.0.1:9465
    """
    from reconciler.cli.fleet_service import run_schedule

    click.get_current_context().exit(run_schedule(queue_url(options), settings_from(options), options))


@command.command("worker", short_help="Reconcile what is queued.")
@manifest_options("text", required=False)
@queue_option
@loop_options
def worker(**options: Any) -> None:
    """Take jobs from the queue and reconcile their instances, until SIGINT or SIGTERM.

    With PATH the manifests are this machine's, and must be those that the jobs name. Without it they are those that
    the scheduler stored (--store).

    Example: fivrec fleet worker manifests/ -f 16
    """
    from reconciler.cli.fleet_service import run_worker
    from reconciler.cli.watch_service import LoopOptions

    url, own = queue_url(options), LoopOptions.of(options)
    click.get_current_context().exit(run_worker(url, settings_from(options), own))


@command.command("apply", short_help="Roll manifests out across the workers.")
@manifest_options("text", "json", "markdown", "codequality", "junit")
@queue_option
@store_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the workers, and report.")
@show_fields_option
@click.option(
    "--accept",
    multiple=True,
    metavar="DIGEST",
    help="Let exactly this plan of an instance through a guard: the digest that its refusal names. Repeatable.",
)
@adopt_option
@strict_option
@deep_option
@rollout_options
def apply(**options: Any) -> None:
    """Have the workers apply the manifests, now. No secret is read here.

    The report is that of fivrec apply. If no result arrives within --timeout, jobs without one count as lost.
    --forks limits how many instances are under way at once.

    Example: fivrec fleet apply --canary 1 --serial 10% --max-fail 5% --wait manifests/
    """
    from click.core import ParameterSource

    from reconciler.cli.fleet_apply import run_fleet_apply

    context = click.get_current_context()
    url, settings = queue_url(options), settings_from(options)
    limited = context.get_parameter_source("forks") is not ParameterSource.DEFAULT
    context.exit(run_fleet_apply(url, settings, options, forks=settings.forks if limited else None))


@command.command("status", short_help="Show the queue, the workers, and the instances that fail.")
@queue_option
@output_option("text", "json", "markdown")
@log_options
def status(**options: Any) -> None:
    """Show how many instances wait and for how long, how many workers there are, and which instances fail.

    Exits 0, or 5 if an instance fails or had no good turn for two intervals, or if instances wait and there is no
    worker.

    Example: fivrec fleet status -o json
    """
    url, settings = queue_url(options), settings_from(options)
    from reconciler.cli.fleet_status import exit_code, read, write
    from reconciler.workers.job_queue import open_queue

    async def ask() -> dict[str, Any]:
        async with open_queue(url) as queue:
            return await read(queue)

    found = asyncio.run(ask())
    write(found, settings.output)
    click.get_current_context().exit(exit_code(found))
