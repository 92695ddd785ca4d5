"""`fivrec check`: one manual status check of each instance, recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.gitops import keep_going_option
from reconciler.cli.options import manifest_options, settings_from

if TYPE_CHECKING:
    from reconciler.planning.report import InstanceReport

ATTENTION = 6


@click.command("check")
@manifest_options("text", "json", "markdown")
@keep_going_option
@click.option("--strict", is_flag=True, help="End with 1 if Connect says something other than what is expected.")
def command(**options: Any) -> None:
    """One manual status check of each instance. This is not the dry run: that is apply --check, or diff.

    It is recorded in status_check_logs; suspended locks the instance, active unlocks it. Nothing else is changed.
    It also compares the database that Connect lists for the instance, and adds a note if its name differs, if it is not
    active, or if it has no backup from the last two days.
    Exits 6 if an instance is suspended, pending payment or overdue, 1 if Connect could not be asked.

    Example: fivrec check manifests/
    """
    from reconciler.cli.reading_commands import CONNECT, DATABASE
    from reconciler.cli.render.output import write_report
    from reconciler.cli.runtime import open_run, run_instances
    from reconciler.engine.databases import check

    settings = settings_from(options)
    with open_run(settings, "check", needs=DATABASE | CONNECT, check_only=True) as ready:
        # For instances that lack something the failure is recorded, and the check if Connect's part is known.
        bare = tuple(item.without_declarations() for item in ready.desired)
        reports, stopped = run_instances(replace(ready, desired=(*bare, *ready.lacking)), check, settings)
        judged = ready.in_order(tuple(_judged(item) for item in reports))
        report = ready.build_report(judged)
    write_report(report, settings.output, fields=True)
    click.get_current_context().exit(stopped or exit_code(judged, strict=options["strict"]))


def _judged(item: InstanceReport) -> InstanceReport:
    """A check that could not be done counts as failed here; one that needs attention ends with 6."""
    from reconciler.planning.report import FAILED, PARTLY
    from reconciler.planning.status_check import KnownStatus, needs_attention

    if item.exit_code == PARTLY:  # degraded, or suspended by its manifest: Connect could not be asked
        return replace(item, outcome="failed", exit_code=FAILED)
    status = item.connect.status if item.connect else None
    if item.exit_code == 0 and status and needs_attention(KnownStatus(status.status, status.billing_status)):
        return replace(item, exit_code=ATTENTION)
    return item


def exit_code(reports: tuple[InstanceReport, ...], *, strict: bool) -> int:
    """0 and 6 are both success: 6 if any instance has it; if others failed, 5."""
    from reconciler.planning.report import DONE
    from reconciler.planning.report import exit_code as of_run

    done = [replace(item, exit_code=DONE) if item.exit_code == ATTENTION else item for item in reports]
    code = of_run(done, strict=strict)
    return ATTENTION if code == DONE and any(item.exit_code == ATTENTION for item in reports) else code
