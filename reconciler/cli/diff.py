"""`fivrec diff`: the dry run."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli.gitops import changed_since_option, deep_option, explained_key, keep_going_option, strict_option
from reconciler.cli.options import OF_APPLY, manifest_options, refuse_manifest, settings_from
from reconciler.model.errors import UsageError


def _complete_resource(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    from reconciler.cli.completion import complete_resource  # only when a shell asks

    return complete_resource(ctx, incomplete)


@click.command("diff")
@manifest_options("text", "json", "markdown", "codequality", "junit", unused=OF_APPLY)
@click.option("--out", metavar="FILE", help="Save the plan, for fivrec apply --plan.")
@click.option(
    "--explain",
    metavar="KIND/NAME",
    shell_complete=_complete_resource,
    help="Show where each value of this resource is declared, what was last applied, and what is there.",
)
@click.option("--exit-zero", is_flag=True, help="Exit 0 even if there are changes.")
@strict_option
@deep_option
@click.option("--adopt", is_flag=True, help="Compare even if the database belongs to another instance.")
@keep_going_option
@changed_since_option
def command(**options: Any) -> None:
    """Show what apply would change.

    Opens read-only transactions only, and writes nothing. Exits 0 if everything is in sync, 2 if there are changes.

    Example: fivrec diff manifests/client.yaml

    Example: fivrec diff --explain queue/Sales manifests/client.yaml

    Example: fivrec diff -o markdown --out plan.json manifests/ > comment.md
    """
    settings = settings_from(options)
    click.get_current_context().exit(run_diff(settings, options))


def run_diff(settings: Any, options: dict[str, Any], command: str = "diff") -> int:
    """Shared with `apply --check` and `drift`. Returns the exit code."""
    from reconciler.cli.planned import save_plan
    from reconciler.cli.render.output import write_report
    from reconciler.cli.runtime import open_run, run_instances, today
    from reconciler.engine.guards import saved_instances
    from reconciler.engine.reconcile import preview
    from reconciler.engine.rollout import accepted_digests, whole_digest
    from reconciler.planning.report import CHANGES, DONE, exit_code

    if options.get("out") == "-":
        raise UsageError("--out needs a file, not -", hint="such as --out plan.json")
    refuse_manifest(options.get("out"), "plan.json")
    key = explained_key(options.get("explain"), settings.output)
    more = {"deep": options.get("deep", False), "adopt": options["adopt"], "drift_only": command == "drift"}
    with open_run(settings, command, dry=True, explain=key, day=today(), **more) as ready:
        found, stopped = run_instances(ready, preview, settings)
        saved = saved_instances(ready.desired, found)
        if options.get("accept"):  # set by apply --check, which refuses what apply would refuse
            accepted_digests(saved, ready.desired, frozenset(options["accept"]))
        if options.get("out"):
            save_plan(options["out"], ready, saved, stopped, settings.paths)
        reports = ready.in_order(found)
        digest = whole_digest(saved, ready.desired) if command == "diff" else None
        report = ready.build_report(reports, digest=digest)
    explained = options.get("explain") and settings.output == "text"
    write_report(report, "explained" if explained else settings.output, fields=True)
    code = stopped or exit_code(reports, diff=True, strict=options["strict"])
    return DONE if code == CHANGES and options.get("exit_zero") else code
