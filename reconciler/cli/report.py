"""`fivrec report`: the status page as one file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import OF_APPLY, manifest_options, refuse_manifest, settings_from
from reconciler.cli.reading_commands import ask_within, unresolved, write_errors, write_found, write_json
from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.types import Desired, ErrorInfo
from reconciler.support.log import counted

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.engine.status_and_logs import QueryResult
    from reconciler.web.overview import Detail

STDOUT = "-"


@click.command("report")
@manifest_options("text", "json", "markdown", unused=OF_APPLY)
@click.option("--out", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="The file; - is stdout.")
@click.option("--language", type=click.Choice(["en", "pt"]), help="Default: LANG decides.")
def command(**options: Any) -> None:
    """Write the status page of the instances as one HTML file that loads nothing: for a pipeline's artifacts.

    It has what the page of `fivrec serve` has: status, checks, the current diff, plans, audit history. Nothing is
    written to any database. Exits 5 if some instances could not be read or compared as a whole, 1 if none could be
    read.

    Example: fivrec report manifests/ --out report.html
    """
    from reconciler.cli.runtime import open_run, run_async
    from reconciler.web import page

    settings = settings_from(options)
    out, language = options["out"], options["language"] or _language()
    if out == STDOUT and settings.output != "text":
        raise UsageError(
            f"with --out - the page is on stdout, and -o {settings.output} would be there too", hint="name a file"
        )
    refuse_manifest(out, "report.html")
    with open_run(settings, "report", dry=True, each=True) as ready:
        others = unresolved(ready)
        details = (*run_async(ready.run, _details(ready, settings.forks)), *map(_unread, others))
        broken = ready.broken.message if ready.broken else ""
        text = page.report(details, language, ready.run.now(), broken)
    _write(out, text)
    where = "on stdout" if out == STDOUT else f"in {out}"
    ready.run.log.info("report", f"📄 {counted(len(details), 'instance')} {where}")
    readings = (*map(_reading, details[: len(details) - len(others)]), *others)
    if settings.output == "json":
        write_json("report", readings, lambda _: {}, ready.broken, file=out)
    elif settings.output == "markdown":
        rows = [(item.instance, item.environment, "❌" if item.error else "✅") for item in readings]
        write_found(settings, ("instance", "environment", "read"), rows, readings, ready.broken)
    else:
        write_errors(readings, settings)
    unread = sum(detail.overview.error is not None for detail in details)
    partly = any(item.error for item in readings) or ready.broken is not None
    click.get_current_context().exit(0 if not partly else 1 if unread == len(details) else 5)


def _reading(detail: Detail) -> QueryResult[Any]:
    """Why an instance could not be read, or not compared as a whole: the page may then lack changes."""
    from reconciler.engine.status_and_logs import QueryResult

    overview, diff = detail.overview, detail.diff
    return QueryResult(overview.instance, overview.environment, None, overview.error or (diff.error if diff else None))


def _unread(item: QueryResult[Any]) -> Detail:
    from reconciler.web.overview import Detail, Overview

    return Detail(Overview(item.instance, item.environment, {}, error=item.error))


async def _details(ready: RunSetup, at_once: int) -> tuple[Detail, ...]:
    from reconciler.database.pool import ConnectionPool
    from reconciler.support.places import ask_each
    from reconciler.web.overview import Detail, Overview, read_detail

    pool = ConnectionPool(kept=at_once)
    run = replace(ready.run, pool=pool)

    async def one(desired: Desired) -> Detail:
        try:
            return await ask_within(read_detail, desired, run)
        except FivrecError as exc:
            error = ErrorInfo.of(exc)
            return Detail(Overview(desired.instance, desired.environment.name, desired.labels, error=error))

    try:
        return tuple(await ask_each(ready.desired, one, at_once))
    finally:
        await pool.aclose()


def _language() -> str:
    return "pt" if os.environ.get("LANG", "").lower().startswith("pt") else "en"


def _write(path: str, text: str) -> None:
    if path == STDOUT:
        click.echo(text, nl=False)
        return
    from reconciler.support.files import replace_text

    replace_text(path, text)
