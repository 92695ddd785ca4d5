"""Commands that read and show: ask every instance, then write a table or a JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.cli.failure_events import say_failure
from reconciler.cli.options import Settings
from reconciler.cli.streams import json_text
from reconciler.model.errors import DatabaseError, FivrecError, ManifestError, Unforeseen
from reconciler.model.names import cut, one_line
from reconciler.model.types import Desired, ErrorInfo, rfc3339
from reconciler.planning.report import DONE, FAILED, PARTLY

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.database.status_queries import CheckLog
    from reconciler.engine.run import Run
    from reconciler.engine.status_and_logs import QueryResult
    from reconciler.manifest.references import Need

T = TypeVar("T")

DATABASE: frozenset[Need] = frozenset({"database"})
CONNECT: frozenset[Need] = frozenset({"connect"})


def open_readonly(settings: Settings, command: str, needs: frozenset[Need]) -> AbstractContextManager[RunSetup]:
    """A run that only reads: needs no encryption key, and creates no server. An instance that lacks something, or has
    an error, prevents reading no other."""
    from reconciler.cli.runtime import open_run

    return open_run(settings, command, needs=needs, dry=True, keyless=True, each=True)


def unresolved(ready: RunSetup) -> tuple[QueryResult[Any], ...]:
    """Instances that lack something or whose manifest is broken, as readings that failed."""
    from reconciler.engine.status_and_logs import QueryResult

    problems = ready.broken.problems if ready.broken else ()
    names = dict.fromkeys(one.instance for one in problems if one.instance)
    broken = ((name, ManifestError(tuple(one for one in problems if one.instance == name))) for name in names)
    return (
        *(
            QueryResult(item.instance, item.environment, None, item.error, item.exit_code, row=item.row)
            for item in ready.others
        ),
        *(
            QueryResult(name, "unknown", None, ErrorInfo.of(exc), exc.exit_code, said=True, row=exc.problems[0].row)
            for name, exc in broken
        ),
    )


def ask_all(
    ready: RunSetup, settings: Settings, ask: Callable[[Desired, Run], Awaitable[T]]
) -> tuple[QueryResult[T], ...]:
    """Every instance's reading, a limited number at a time, in the order of the manifests."""
    from reconciler.cli.runtime import run_async
    from reconciler.engine.status_and_logs import try_reading
    from reconciler.support.places import ask_each

    async def one(item: Desired) -> QueryResult[T]:
        return await try_reading(item, lambda: ask_within(ask, item, ready.run))

    place = {name: number for number, name in enumerate(ready.order)}
    readings = (*run_async(ready.run, ask_each(ready.desired, one, settings.forks)), *unresolved(ready))
    found = tuple(sorted(readings, key=lambda item: place.get(item.instance, len(place))))
    for item in found:
        say_failure(ready.run, item.instance, item.error)
    return found


def show_connects(
    settings: Settings,
    command: str,
    ask: Callable[[Desired, Run], Awaitable[Sequence[T]]],
    headings: Sequence[str],
    row: Callable[[str, T], tuple[str, ...]],
) -> int:
    """Show what Connect has for each instance: a table with a `row` each, or JSON under the command's name. Returns the
    exit code."""
    with open_readonly(settings, command, CONNECT) as ready:
        readings = ask_all(ready, settings, ask)
    if settings.output == "json":
        write_json(command, readings, lambda found: {command: [asdict(item) for item in found or ()]}, ready.broken)  # type: ignore[call-overload]  # dataclasses all
    else:
        rows = [row(item.instance, one) for item in readings for one in item.value or ()]
        write_found(settings, headings, rows, readings, ready.broken)
    return exit_code(readings, ready.broken)


async def ask_within(ask: Callable[[Desired, Run], Awaitable[T]], item: Desired, run: Run) -> T:
    """The result of `ask`, within --timeout. An unexpected exception is an error of this instance, like others."""
    try:
        async with asyncio.timeout(run.timeout_s):
            return await ask(item, run)
    except TimeoutError as exc:
        side = "the database" if item.database.url else "Fi.V Connect"
        message = f"no answer within {run.timeout_s:g} s from {side}"
        raise DatabaseError(message, hint="--timeout sets the limit", code="timeout") from exc
    except FivrecError:
        raise
    except Exception as exc:
        raise Unforeseen.of(exc) from exc


def exit_code(readings: Sequence[QueryResult[Any]], broken: ManifestError | None = None) -> int:
    """0; the code that all failed ones share; 5 if some were read and some were not; otherwise 1."""
    codes = {item.exit_code for item in readings}
    if broken is not None:
        codes.add(broken.exit_code)
    if len(codes) <= 1:
        return codes.pop() if codes else DONE
    return PARTLY if DONE in codes else FAILED


def write_json(
    command: str,
    readings: Sequence[QueryResult[T]],
    show: Callable[[T | None], dict[str, Any]],
    broken: ManifestError | None = None,
    **more: Any,
) -> None:
    """One JSON document; `more` of the whole, each instance with what `show` makes of its value, and its error;
    `error` if manifests are broken."""
    instances = [
        {
            "instance": item.instance,
            "environment": item.environment,
            **({"row": item.row} if item.row else {}),
            **show(item.value),
            "error": _problem(item),
        }
        for item in readings
    ]
    document: dict[str, Any] = {"version": 1, "command": command, **more, "instances": instances}
    if broken is not None:
        document["error"] = {**ErrorInfo.of(broken).as_json(), "problems": [asdict(one) for one in broken.problems]}
    click.echo(json_text(document))


def write_found(
    settings: Settings,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    readings: Sequence[QueryResult[Any]],
    broken: ManifestError | None = None,
) -> None:
    """A table, and what kept instances from being read: on stderr, and below the table too if that is Markdown."""
    markdown = settings.output == "markdown"
    write_table(headings, rows, markdown=markdown)
    if markdown:
        errors = [(item.instance, item.error) for item in readings if item.error is not None]
        own = {problem.instance for problem in broken.problems} if broken else set()
        if broken is not None and not own <= {name for name, _ in errors}:
            errors.append(("manifests", ErrorInfo.of(broken)))
        write_notices(errors)
    write_errors(readings, settings)


def write_notices(errors: Sequence[tuple[str, ErrorInfo]]) -> None:
    """A list below a Markdown table: whose error, its code, what it says, what to do."""
    from reconciler.cli.render.markdown import error_line

    lines = [error_line(name, error) for name, error in errors]
    click.echo("".join(f"\n{line}" for line in lines), nl=bool(lines))


def write_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> None:
    """Columns aligned for a terminal, or a Markdown table."""
    if markdown:
        from reconciler.cli.render.markdown import cell

        lines = ["| " + " | ".join(cell(cut(text, _LONGEST)) for text in row) + " |" for row in (headings, *rows)]
        lines.insert(1, "|" + " --- |" * len(headings))
        click.echo("\n".join(lines))
        return
    shown = [[show_cell(text) for text in row] for row in rows]
    widths = [max(len(row[index]) for row in (list(headings), *shown)) for index in range(len(headings))]
    click.echo(click.style(_line([heading.upper() for heading in headings], widths), bold=True))
    for row in shown:
        click.echo(_line(row, widths))


_LONGEST = 1000
"""Characters. Columns are padded to their longest cell: a text of a megabyte in one row would make every line as
long."""


def show_cell(text: str) -> str:
    """Returns the cell's text, in one line."""
    return one_line(cut(text, _LONGEST))


def write_errors(readings: Sequence[QueryResult[Any]], settings: Settings) -> None:
    """Write on stderr why an instance could not be read; a JSON log already has it as events."""
    for item in readings:
        if item.error is not None and not item.said and settings.log_format != "json":
            beside = "" if item.row in item.error.message else f" ({item.row})"
            write_problem(f"{item.instance}{beside}", item.error)


def write_problem(instance: str, problem: ErrorInfo) -> None:
    click.echo(click.style(f"{instance}: [{problem.code}] {one_line(problem.message, '; ')}", fg="red"), err=True)
    if problem.hint:
        click.echo(f"  {one_line(problem.hint)}", err=True)


def cell_text(value: object) -> str:
    """Returns a value as a cell: `-` for None, yes or no for a bool."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def format_moment(value: datetime | None) -> str | None:
    return rfc3339(value) if value else None


def check_result(check: CheckLog) -> dict[str, Any]:
    return {
        "at": format_moment(check.at),
        "type": check.check_type,
        "success": check.success,
        "received": check.status_received,
        "error": check.error_message,
        "response_time_ms": check.response_time_ms,
    }


def since_moment(seconds: float | None) -> datetime | None:
    from datetime import UTC, timedelta

    return datetime.now(UTC) - timedelta(seconds=seconds) if seconds else None


def _problem(item: QueryResult[Any]) -> dict[str, str] | None:
    return item.error.as_json() if item.error else None


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
