"""`fivrec apply`: reconcile instances with their manifests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from reconciler.cli.gitops import (
    adopt_option,
    build_rollout,
    changed_since_option,
    deep_option,
    keep_going_option,
    max_changed_option,
    rollout_options,
    show_fields_option,
    strict_option,
)
from reconciler.cli.options import manifest_options, settings_from
from reconciler.model.errors import UsageError


@click.command("apply")
@manifest_options("text", "json", "markdown", "codequality", "junit")
@click.option("--check", "-C", is_flag=True, help="The dry run, as fivrec diff. Not to be confused with fivrec check.")
@show_fields_option
@click.option(
    "--plan", metavar="FILE", help="Apply exactly this plan, saved by fivrec diff --out; a stale one is refused."
)
@click.option(
    "--accept",
    multiple=True,
    metavar="DIGEST",
    help="Let exactly this plan through a guard: an instance's digest, or that of diff's whole plan. Repeatable.",
)
@adopt_option
@strict_option
@deep_option
@keep_going_option
@click.option(
    "--retry",
    metavar="REPORT",
    help="Only the instances that this JSON report of an apply says were not done.",
)
@changed_since_option
@max_changed_option
@rollout_options
def command(**options: Any) -> None:
    """Reconcile instances with their manifests.

    Observes the database and Connect, computes the difference, and applies it in one transaction per instance.
    A second apply changes nothing. With --check it writes nothing at all; fivrec check is what records a status check.

    Example: fivrec apply manifests/client.yaml

    Example: fivrec apply --canary 1 --serial 10% --max-fail 5% manifests/

    \b
    Example:
      fivrec apply --keep-going -o json manifests/ > report.json
      fivrec apply --retry report.json manifests/
    """
    settings = settings_from(options)
    context = click.get_current_context()
    if options["check"]:
        _refuse_with_check(options)
        from reconciler.cli.diff import run_diff

        context.exit(run_diff(settings, options))
    context.exit(run_apply(settings, options))


def run_apply(settings: Any, options: dict[str, Any]) -> int:
    """Apply, write the report, return the exit code."""
    from reconciler.cli.failure_events import say_failure
    from reconciler.cli.planned import limit_rollout
    from reconciler.cli.render.output import write_report
    from reconciler.cli.runtime import open_run, run_instances, today
    from reconciler.engine.reconcile import reconcile
    from reconciler.planning.report import exit_code

    accept = frozenset(options["accept"])
    more = {"accept": accept, "adopt": options["adopt"], "deep": options["deep"], "day": today()}
    with open_run(settings, "apply", **more) as loaded:
        ready = limit_rollout(loaded, settings, options)
        done, stopped = run_instances(ready, reconcile, settings, build_rollout(options))
        if ready.lacking:  # record their failures, which `status` shows; their checks and locks too
            lacking, again = run_instances(replace(ready, desired=ready.lacking), reconcile, settings)
            done, stopped = (*done, *lacking), stopped or again
        for item in ready.others:
            say_failure(ready.run, item.instance, item.error, outcome=item.outcome)
        reports = ready.in_order(done)
        report = ready.build_report(reports)
    write_report(report, settings.output, fields=options["show_fields"])
    return stopped or exit_code(reports, strict=options["strict"])


def _refuse_with_check(options: dict[str, Any]) -> None:
    for name in ("plan", "max_changed", "canary", "serial", "max_fail"):
        if options[name] is not None:
            raise UsageError(f"--{name.replace('_', '-')} says how to apply, and --check applies nothing")
