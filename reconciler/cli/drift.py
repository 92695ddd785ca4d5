"""`fivrec drift`: the dry run of what others changed alone."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli.gitops import deep_option, keep_going_option
from reconciler.cli.options import OF_APPLY, manifest_options, settings_from


@click.command("drift")
@manifest_options("text", "json", "markdown", "codequality", "junit", unused=OF_APPLY)
@keep_going_option
@click.option("--exit-zero", is_flag=True, help="Exit 0 even if there is drift.")
@deep_option
def command(**options: Any) -> None:
    """Show what others changed in the databases since the last apply.

    What is declared and not applied yet is not shown. Opens read-only transactions only, and writes nothing. Exits 0 if
    there is no drift, 2 if there is some. An instance to which nothing was ever applied fails: it may be new, or its
    data may be lost.

    Example: fivrec drift manifests/

    Example: fivrec drift -o json manifests/client.yaml
    """
    from reconciler.cli.diff import run_diff

    settings = settings_from(options)
    options |= {"adopt": False, "strict": False}
    click.get_current_context().exit(run_diff(settings, options, command="drift"))
