"""`fivrec fmt`: formats manifests, comments kept."""

from __future__ import annotations

import sys

import click

from reconciler.cli.options import log_options
from reconciler.model.errors import ManifestError, ManifestProblem


@click.command("fmt")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option(
    "--check", is_flag=True, help="Write nothing; list what is not formatted, and exit with 1 if there is any."
)
@log_options
def command(paths: tuple[str, ...], *, check: bool, verbose: int, quiet: bool, log_format: str) -> None:  # noqa: ARG001
    """Format manifests: two spaces, the keys in their order, comments kept. Prints the files that it changed.

    A path is a file, a folder, or - for standard input, which is printed formatted.

    Example: fivrec fmt --check manifests/
    """
    from reconciler.manifest.files import STDIN, read_manifest_files
    from reconciler.manifest.formatter import Unformattable, format_text
    from reconciler.model.names import printable
    from reconciler.support.files import replace_text

    files, problems = read_manifest_files(paths, sys.stdin.buffer if STDIN in paths else None)
    changed = []
    invalid, kept = list(problems), list[ManifestProblem]()
    for file in files:
        name, text = file.yaml.path, file.yaml.text
        try:
            formatted = format_text(name, text)
        except Unformattable as exc:
            kept.extend(exc.problems)
            continue
        except ManifestError as exc:
            invalid.extend(exc.problems)
            continue
        if name == "<stdin>" and not check:
            click.echo(formatted.encode(), nl=False)  # unchanged: an escape would be another value
        elif formatted.encode() != text:
            changed.append(name)
            if not check:
                replace_text(name, formatted)
    for name in changed:
        click.echo(printable(name))
    if invalid:
        raise ManifestError((*invalid, *kept))
    if kept:
        raise Unformattable(tuple(kept))
    click.get_current_context().exit(1 if check and changed else 0)
