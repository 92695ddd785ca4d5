"""`fivrec key`: make encryption keys, and put instances under a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Settings, manifest_options, settings_from
from reconciler.model.errors import FivrecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.manifest.loader import Manifest
    from reconciler.model.types import Desired


@click.group("key")
def command() -> None:
    """Make and rotate the keys that encrypt instance keys at rest.

    \b
    Example:
      (umask 077; fivrec key generate > fivrec.key)
      export FIVREC_ENCRYPTION_KEY_FILE=fivrec.key
    """


@command.command("generate", short_help="Print a new key.")
def generate() -> None:
    """Print one new key, ready for FIVREC_ENCRYPTION_KEY, and nothing else.

    Example: (umask 077; fivrec key generate > fivrec.key)
    """
    from reconciler.support.crypto.key_files import generate_key

    click.echo(generate_key())


@command.command("rotate", short_help="Re-encrypt with the first key.")
@manifest_options("text", "json", "markdown")
def rotate(**options: Any) -> None:
    """Re-encrypt the instances' secrets with the first key of FIVREC_ENCRYPTION_KEY; the old key has to follow it.

    One transaction per instance: wherever it is stopped, each is under one key or the other, and the next run goes on.
    The former key may go once this ends with 0.

    Example: FIVREC_ENCRYPTION_KEY="$NEW,$OLD" fivrec key rotate manifests/
    """
    from reconciler.cli.render.output import write_report
    from reconciler.cli.runtime import load, open_log, run_instances, start_servers
    from reconciler.engine.rotate_keys import rotate as rotate_one
    from reconciler.planning.report import exit_code

    settings = settings_from(options)
    desired = _resolved(load(settings), settings)
    with start_servers(desired, settings, "key rotate", open_log(settings), dry=True) as ready:
        reports, stopped = run_instances(ready, rotate_one, settings)
        report = ready.build_report(reports)
    write_report(report, settings.output, fields=True)
    click.get_current_context().exit(stopped or exit_code(reports))


def _resolved(manifests: Sequence[Manifest], settings: Settings) -> tuple[Desired, ...]:
    """The databases; and the admins' passwords where they are at hand, so that their fingerprints are renewed too."""
    from reconciler.cli.reading_commands import DATABASE
    from reconciler.cli.runtime import resolve_all

    bare = resolve_all(manifests, settings, DATABASE)
    try:
        return resolve_all(manifests, settings, DATABASE | {"admin"})
    except FivrecError:
        return bare
