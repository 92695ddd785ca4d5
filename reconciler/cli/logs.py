"""`fivrec logs`: the recorded status checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.follow import PAGE, follow
from reconciler.cli.options import OF_DATABASE, SECONDS, lines_option, manifest_options, settings_from
from reconciler.cli.reading_commands import (
    DATABASE,
    ask_all,
    cell_text,
    check_result,
    exit_code,
    format_moment,
    open_readonly,
    since_moment,
    write_found,
    write_json,
)
from reconciler.model.records import dataclass
from reconciler.model.types import Desired

if TYPE_CHECKING:
    from reconciler.database.status_queries import CheckLog, LogFilter
    from reconciler.engine.run import Run

LATE = timedelta(seconds=60)
"""Seconds by which a check may be committed later than the time in its row."""
WINDOW = 100_000
HEADINGS = ("time", "instance", "type", "result", "received", "ms", "error")


@click.command("logs")
@manifest_options("text", "json", "markdown", unused=OF_DATABASE)
@click.option("--since", type=SECONDS, metavar="SPAN", help="Only checks of the last 30m, 12h, 7d …")
@click.option("--type", "check_type", type=click.Choice(["startup", "scheduled", "manual"]), help="Only this type.")
@click.option("--failed", is_flag=True, help="Only failed checks.")
@lines_option
@click.option("--follow", is_flag=True, help="Keep printing new checks as they come; with json, one per line.")
def command(**options: Any) -> None:
    """Show the recorded status checks, newest first.

    Example: fivrec logs manifests/ --since 24h --failed
    """
    from reconciler.database.status_queries import LogFilter
    from reconciler.engine.status_and_logs import query_checks

    settings = settings_from(options)
    since = since_moment(options["since"])
    wanted = LogFilter(since, options["check_type"], failed=options["failed"], limit=options["lines"])
    with open_readonly(settings, "logs", DATABASE) as ready:
        if options["follow"]:
            follow(ready, settings, _Following(wanted).ask, check_as_json, _row)
        readings = ask_all(ready, settings, lambda item, run: query_checks(item, run, wanted))
    if settings.output == "json":
        write_json("logs", readings, lambda found: {"checks": list(map(check_as_json, found or ()))}, ready.broken)
    else:
        rows = [_row(item.instance, check) for item in readings for check in item.value or ()]
        rows.sort(key=lambda row: row[0], reverse=True)
        write_found(settings, HEADINGS, rows, readings, ready.broken)
    click.get_current_context().exit(exit_code(readings, ready.broken))


def check_as_json(check: CheckLog) -> dict[str, Any]:
    return {"id": check.id, **check_result(check)}


def _row(instance: str, check: CheckLog) -> tuple[str, ...]:
    took = cell_text(check.response_time_ms)
    result = "ok" if check.success else "FAILED"
    received, error = check.status_received or "-", check.error_message or ""
    return (format_moment(check.at) or "", instance, check.check_type, result, received, took, error)


@dataclass(slots=True)
class _Following:
    """`shown`: per instance, the checks of the last LATE and their times. New rows may be older than rows that were
    shown: a transaction took long, or a clock was put back."""

    wanted: LogFilter
    shown: dict[str, dict[str, datetime]] = field(default_factory=dict)

    async def ask(self, item: Desired, run: Run, *, first: bool) -> Sequence[CheckLog]:
        from reconciler.engine.status_and_logs import query_checks

        shown = self.shown.setdefault(item.instance, {})
        if first:
            found = (await query_checks(item, run, self.wanted))[::-1]
            shown |= {check.id: check.at for check in found}
            before = await query_checks(item, run, self._recent(run, shown, WINDOW)) if found else ()
            shown |= {check.id: check.at for check in before if check.at <= found[-1].at}
            return found
        recent = self._recent(run, shown, PAGE + len(shown))
        found = tuple(check for check in await query_checks(item, run, recent) if check.id not in shown)
        shown |= {check.id: check.at for check in found}
        oldest = self._recent(run, shown, 0).since
        for check_id in [check_id for check_id, at in shown.items() if oldest is not None and at < oldest]:
            del shown[check_id]
        return found

    def _recent(self, run: Run, shown: dict[str, datetime], limit: int) -> LogFilter:
        since = [min(max(shown.values()), run.now()) - LATE] if shown else []
        if self.wanted.since is not None:
            since.append(self.wanted.since)
        return replace(self.wanted, since=max(since, default=None), limit=limit, oldest_first=True)
