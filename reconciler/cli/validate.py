"""`fivrec validate`: checks manifests offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OFFLINE, manifest_options, settings_from
from reconciler.cli.streams import json_text
from reconciler.model.errors import ManifestError, ManifestProblem, MissingSetting, group_problems, merge_problems
from reconciler.model.names import printable
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.manifest.loader import Manifest


@click.command("validate")
@manifest_options("text", "json", "markdown", unused=OFFLINE)
@click.option("--strict", is_flag=True, help="Also refuse what is valid but probably a mistake.")
def command(**options: Any) -> None:
    """Check manifests: YAML, schema, templates, rules. Offline: no secret is resolved, no connection made.

    Every problem of every file is shown, with its file, line and column; the exit code is then 65. --strict also
    refuses variables that no template reads, accepted drift that has expired, has no end, fits nothing, or takes the
    lock along without naming it, settings that look like secrets and are none, and names that differ only in case, have
    invisible characters, or mix alphabets that look alike.

    Example: fivrec validate manifests/
    """
    from datetime import UTC, datetime

    from reconciler.cli.runtime import bounds_of, open_log, read_with
    from reconciler.manifest.bounds import check_bounds
    from reconciler.manifest.lint import lint
    from reconciler.manifest.loader import load_manifests
    from reconciler.manifest.selection import select, unmatched

    settings = settings_from(options)
    manifests: tuple[Manifest, ...] = ()
    problems: tuple[ManifestProblem, ...] = ()
    code = 0
    try:
        loaded = load_manifests(settings.paths, **read_with(settings))
        manifests = select(loaded, settings.limit)
        for words in unmatched(loaded, settings.limit):
            open_log(settings).warning("validate", f"⚠️ {words}")
        problems = tuple(check_bounds(manifests, bounds_of(settings)))
        if options["strict"]:
            problems += lint(manifests, datetime.now(UTC).date())
        code = ManifestError.exit_code if problems else 0
    except ManifestError as exc:
        problems, code = exc.problems, exc.exit_code
        if exc.hint:
            open_log(settings).warning("validate", f"⚠️ {exc.hint}")
    except MissingSetting as exc:
        problems, code = (ManifestProblem("environment", 0, 0, exc.message, exc.hint),), exc.exit_code
    if settings.output == "json":
        _write_json(manifests, problems)
    elif settings.output == "markdown":
        _write_markdown(manifests, problems)
    else:
        count = _write_text(manifests, problems)
        if count and settings.log_format != "json":  # a JSON log contains only events
            click.echo(f"{count} problem{'s' if count > 1 else ''}", err=True)
    click.get_current_context().exit(code)


def _write_text(manifests: Sequence[Manifest], problems: Sequence[ManifestProblem]) -> int:
    """Returns how many problems were written."""
    for path, count in _sound(manifests, problems):
        click.echo(f"{printable(path)}: {click.style('ok', fg='green')} ({counted(count, 'instance')})")
    groups = group_problems(problems)
    for group in groups:
        click.echo(printable(str(merge_problems(group))))
    return len(groups)


def _write_markdown(manifests: Sequence[Manifest], problems: Sequence[ManifestProblem]) -> None:
    from reconciler.cli.reading_commands import write_table

    sound = [(path, f"✅ {counted(count, 'instance')}") for path, count in _sound(manifests, problems)]
    groups = map(merge_problems, group_problems(problems))
    wrong = [(problem.place, f"❌ {problem.words()}") for problem in groups]
    write_table(("manifest", "result"), [*sound, *wrong], markdown=True)


def _sound(manifests: Sequence[Manifest], problems: Sequence[ManifestProblem]) -> Iterator[tuple[str, int]]:
    """The files that nothing is wrong with, and how many instances each declares."""
    wrong = {problem.path for problem in problems}
    found = Counter(manifest.origin.path for manifest in manifests)
    return ((path, count) for path, count in found.items() if path not in wrong)


def _write_json(manifests: Sequence[Manifest], problems: Sequence[ManifestProblem]) -> None:
    instances = [
        {"instance": manifest.instance, "path": manifest.origin.path, "line": manifest.origin.line}
        for manifest in manifests
    ]
    document = {
        "version": 1,
        "command": "validate",
        "valid": not problems,
        "instances": instances,
        "problems": [asdict(problem) for problem in problems],
    }
    click.echo(json_text(document))
