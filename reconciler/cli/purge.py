"""`fivrec purge`: delete an instance's development rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Settings, manifest_options, settings_from
from reconciler.cli.streams import shows_bars
from reconciler.model.types import Desired, ErrorInfo
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.planning.report import InstanceReport

MORE = "purge_more"


@click.command("purge")
@manifest_options("text", "json", "markdown")
@click.option(
    "--environment",
    type=click.Choice(["development"]),
    help="Whose rows. Required if the manifest's environment is production.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(**options: Any) -> None:
    """Delete the development rows of one instance.

    Counts them first, then deletes messages, conversations, clients, queues and users of the development environment in
    one transaction, and records the counts in the audit log. Rows of production are never touched. Exits 3 if
    there is any doubt, or if it was not confirmed.

    Example: fivrec purge manifests/client.yaml --yes
    """
    from reconciler.cli.reading_commands import DATABASE
    from reconciler.cli.render.output import write_report
    from reconciler.cli.runtime import open_run
    from reconciler.engine.purge import with_purge

    settings = settings_from(options)
    with open_run(settings, "purge", needs=DATABASE, dry=True, check_only=True) as ready:
        item = with_purge(ready.desired, options["environment"])
        found, stopped = _purge(item, ready, settings, yes=options["yes"])
        report = ready.build_report((found,))
    write_report(report, settings.output, fields=True)
    click.get_current_context().exit(stopped or found.exit_code)


def _purge(item: Desired, ready: RunSetup, settings: Settings, *, yes: bool) -> tuple[InstanceReport, int]:
    """Count, show, ask, and delete what was shown; if there is more by then, delete nothing and ask again."""
    from reconciler.cli.failure_events import say_failure
    from reconciler.cli.runtime import run_async
    from reconciler.engine.purge import count_development_rows, counts

    while True:
        shown = run_async(ready.run, count_development_rows(item, ready.run))
        found = counts(shown)
        if shown.error is not None:
            say_failure(ready.run, item.instance, shown.error, outcome=shown.outcome)
            return shown, 0
        _say(item, found, ready)
        if not found:
            return shown, 0
        if not yes and not _confirmed(settings, sum(found.values())):
            refused = _unconfirmed(shown, sum(found.values()))
            say_failure(ready.run, item.instance, refused.error, outcome=refused.outcome)
            return refused, 0
        report, stopped = _delete(item, shown, ready, settings)
        if stopped or yes or report.error is None or report.error.code != MORE:
            return report, stopped


def _delete(item: Desired, shown: InstanceReport, ready: RunSetup, settings: Settings) -> tuple[InstanceReport, int]:
    from reconciler.cli.runtime import run_instances
    from reconciler.engine.purge import counts
    from reconciler.engine.reconcile import reconcile

    with _progress(sum(counts(shown).values()), settings) as removed:
        run = replace(ready.run, accept=frozenset({shown.digest or ""}), removed=removed)
        (report,), stopped = run_instances(replace(ready, desired=(item,), run=run), reconcile, settings)
    if report.error is not None and report.error.code == "guard":
        said = "the development rows are no longer those that were counted; nothing was deleted"
        report = replace(report, error=ErrorInfo(MORE, said, "stop what writes test data, then run again"))
    return report, stopped


def _say(item: Desired, found: Mapping[str, int], ready: RunSetup) -> None:
    listed = ", ".join(f"{count:,} {table}" for table, count in sorted(found.items()))
    said = f"🧹 development rows in {item.database_name}: {listed or 'none'}"
    ready.run.log.info("purge", said, instance=item.instance)


def _confirmed(settings: Settings, total: int) -> bool:
    if settings.output != "text" or not sys.stdin.isatty():
        return False
    return click.confirm(f"Delete these {total:,} rows?", err=True)


def _unconfirmed(report: InstanceReport, total: int) -> InstanceReport:
    from reconciler.planning.report import REFUSED

    error = ErrorInfo(
        "purge_refused", f"{counted(total, 'development row')} would be deleted; nothing was", "confirm with --yes"
    )
    return replace(report, outcome="refused", exit_code=REFUSED, error=error, notes=())


@contextmanager
def _progress(total: int, settings: Settings) -> Iterator[Callable[[str, int], None]]:
    """A progress bar on stderr if it is a terminal."""
    if settings.quiet or not shows_bars():
        yield lambda _table, _rows: None
        return
    with click.progressbar(length=total, label="rows", file=sys.stderr, show_pos=True) as bar:
        yield lambda _table, rows: bar.update(rows)
