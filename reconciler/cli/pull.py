"""`fivrec pull`: drift becomes what the manifest declares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_APPLY, Settings, manifest_options, settings_from
from reconciler.cli.streams import json_text
from reconciler.model.errors import FivrecError, Refused, UsageError
from reconciler.model.names import printable
from reconciler.model.types import Key
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.manifest.editing import ChangedFile, Edited
    from reconciler.planning.pull import Drift, Edit
    from reconciler.planning.report import InstanceReport


@click.command("pull")
@manifest_options("text", "json", "markdown", unused=OF_APPLY)
@click.option("--write", is_flag=True, help="Write the files. Default: only show the difference.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="KIND/NAME",
    help="Only this resource, such as queue/Sales. Repeatable.",
)
def command(**options: Any) -> None:
    """Write what others changed in the databases back into the manifests.

    Shows a unified diff; --write writes the files. The line that declares a value is changed, and comments stay. A
    value that is one cell of a CSV file is changed there; any other value from a fleet's defaults becomes a key of the
    instance, or of its entry in overrides. Drift that no key can express is listed with the reason, and secrets are
    never pulled. Writes nothing to a database.

    Example: fivrec pull manifests/

    Example: fivrec pull --write --resource queue/Sales manifests/client.yaml
    """
    settings = settings_from(options)
    click.get_current_context().exit(_pull(settings, options["resources"], write=options["write"]))


def _pull(settings: Settings, resources: Sequence[str], *, write: bool) -> int:
    from reconciler.cli.gitops import explained_key
    from reconciler.cli.runtime import open_run, run_instances
    from reconciler.engine.reconcile import preview
    from reconciler.manifest.editing import Editor
    from reconciler.manifest.files import STDIN, read_manifest_files
    from reconciler.model.kinds import folded_key
    from reconciler.planning.report import exit_code

    if STDIN in settings.paths:
        raise UsageError("pull edits files and can't edit -", hint="name the manifest's file")
    keys = frozenset(key for text in resources if (key := explained_key(text, "text", "--resource")) is not None)
    files, _ = read_manifest_files(settings.paths, None)  # the loader below reports what is wrong with them
    with open_run(settings, "pull", dry=True, find_drift=True) as ready:
        reports, stopped = run_instances(ready, preview, settings)
        drift = {report.instance: _chosen(report, keys) for report in reports if report.drift is not None}
        editor = Editor(files, settings.extra_vars, os.environ)
        edited = editor.apply({instance: edits for instance, (edits, _) in drift.items() if edits})
        if write and not stopped:
            _write(edited.files)
        _show(settings, edited, drift, reports, written=write and not stopped)
        if settings.output == "text":
            found = {folded_key(item.key) for chosen in drift.values() for part in chosen for item in part}
            for key in sorted(key for key in keys if folded_key(key) not in found):
                ready.run.log.warning("pull", f"⚠️ {key}: no drift of it was found")
            _summarise(ready.run.log, edited, reports, written=write and not stopped)
    return stopped or exit_code(reports)


def _chosen(report: InstanceReport, keys: frozenset[Key]) -> Drift:
    """The drift of one instance that --resource names; all of it without --resource."""
    edits, left = report.drift or ((), ())
    if not keys:
        return edits, left
    from reconciler.model.kinds import folded_key

    meant = set(map(folded_key, keys))
    edits = tuple(item for item in edits if folded_key(item.key) in meant)
    return edits, tuple(item for item in left if folded_key(item.key) in meant)


def _write(changed: Sequence[ChangedFile]) -> None:
    """Write all files or none: if somebody edited one since it was read, all are left alone.

    If one can't be written, those before it are restored.
    """
    from reconciler.manifest.editing import read_bytes
    from reconciler.support.files import replace_bytes

    for file in changed:
        if read_bytes(file.path) != file.before:
            raise Refused(
                f"{file.path} was changed since it was read; nothing was written",
                hint="run again",
                code="manifest_changed",
            )
    written: list[ChangedFile] = []
    try:
        for file in changed:
            replace_bytes(file.path, file.after)
            written.append(file)
    except FivrecError as exc:
        kept = [file.path for file in written if not _put_back(file)]
        said = f"{', '.join(kept)} stays changed" if kept else "nothing was written"
        raise FivrecError(f"{exc}; {said}", hint=exc.hint) from exc


def _put_back(file: ChangedFile) -> bool:
    from reconciler.support.files import replace_bytes

    try:
        replace_bytes(file.path, file.before)
    except FivrecError:
        return False
    return True


def _summarise(log: Any, edited: Edited, reports: Sequence[InstanceReport], *, written: bool) -> None:
    for report in reports:
        if report.error is not None:
            unknown = "" if report.drift is not None else "its drift is not known: "
            log.error("pull", f"❌ {unknown}{report.error.words}", instance=report.instance, error=report.error.code)
    count = sum(map(len, edited.made.values()))
    if not count:
        if any(report.drift is not None for report in reports):
            log.info("pull", "🔎 nothing to pull")
    elif written:
        log.info("pull", f"✏️ {counted(count, 'value')} written to {counted(len(edited.files), 'file')}")
    else:
        log.info("pull", f"🔎 --write would write {counted(count, 'value')} to {counted(len(edited.files), 'file')}")


def _show(
    settings: Settings,
    edited: Edited,
    drift: dict[str, Drift],
    reports: Sequence[InstanceReport],
    *,
    written: bool,
) -> None:
    left = [
        (instance, item)
        for instance, (_, unsaid) in drift.items()
        for item in (*unsaid, *edited.left.get(instance, ()))
    ]
    if settings.output == "json":
        document = {
            "version": 1,
            "command": "pull",
            "written": written,
            "files": [{"path": file.path, "diff": _diff(file)} for file in edited.files],
            "pulled": [_as_json(instance, item) for instance, made in edited.made.items() for item in made],
            "left": [
                {"instance": name, "kind": item.key.kind, "name": item.key.name, "field": item.field,
                 "reason": item.reason}
                for name, item in left
            ],
            "failed": [
                {"instance": report.instance, **report.error.as_json()}
                for report in reports if report.error is not None
            ],
            "error": None,
        }  # fmt: skip
        click.echo(json_text(document))
        return

    unpulled = [
        (instance, f"{item.key}" if item.field == "*" else f"{item.key}/{item.field}", item.reason)
        for instance, item in left
    ]
    if settings.output == "markdown":
        _write_markdown(edited, unpulled, reports, written=written)
        return
    for file in edited.files:
        click.echo(_diff(file), nl=False)
    for instance, name, reason in unpulled:
        click.echo(f"! {instance}: {printable(name)} is left: {printable(reason)}")


def _write_markdown(
    edited: Edited, left: Sequence[tuple[str, str, str]], reports: Sequence[InstanceReport], *, written: bool
) -> None:
    from reconciler.cli.reading_commands import write_notices, write_table
    from reconciler.cli.render.markdown import fenced

    count = counted(sum(map(len, edited.made.values())), "value")
    done = "written" if written else "to write"
    click.echo(f"<!-- fivrec pull -->\n### fivrec pull: {count} {done} in {counted(len(edited.files), 'file')}\n")
    if edited.files:
        click.echo(fenced("".join(map(_diff, edited.files)), "diff"))
    if left:
        write_table(("instance", "left", "reason"), left, markdown=True)
    write_notices([(report.instance, report.error) for report in reports if report.error is not None])


def _as_json(instance: str, item: Edit) -> dict[str, Any]:
    live = None if item.action == "remove" else item.live
    known = {"instance": instance, "kind": item.key.kind, "name": item.key.name, "field": item.field}
    return {**known, "action": item.action, "value": live}


def _diff(file: ChangedFile) -> str:
    """As `git diff` and `diff -u` write it, so that `patch -p0` can read it."""
    from difflib import unified_diff

    before, after = (text.decode("utf-8").splitlines(keepends=True) for text in (file.before, file.after))
    name = printable(file.path)
    lines = unified_diff(before, after, name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
