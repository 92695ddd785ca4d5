"""`fivrec fleet status`: depth, age and failures, as text, Markdown or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.reading_commands import format_moment, write_table
from reconciler.cli.streams import json_text

if TYPE_CHECKING:
    from reconciler.workers.job_queue import Queue

FAILING_SHOWN = 50


async def read(queue: Queue) -> dict[str, Any]:
    """The document that -o json prints."""
    depth, workers, totals = await queue.standing()
    failing = await queue.rows("failing", most=FAILING_SHOWN)
    return {
        "version": 1,
        "command": "fleet status",
        "queue": {**depth, "oldest_s": round(depth["oldest_s"], 1)},
        "workers": workers,
        "instances": totals,
        "failing": [
            {**row, "ended_at": format_moment(row["ended_at"]), "last_success": format_moment(row["last_success"])}
            for row in failing
        ],
    }


def exit_code(found: dict[str, Any]) -> int:
    """5 if an instance fails, or if instances are due and nobody works."""
    totals, unattended = found["instances"], found["queue"]["waiting"] and not found["workers"]["alive"]
    return 5 if totals["failing"] or totals["overdue"] or unattended else 0


def write(found: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json_text(found))
        return
    queue, workers, totals = found["queue"], found["workers"], found["instances"]
    markdown = output == "markdown"
    write_table(
        ("waiting", "oldest", "running", "workers", "lost", "instances", "never run", "failing", "overdue"),
        [
            [
                *(str(queue["waiting"]), f"{queue['oldest_s']:g} s", str(queue["running"])),
                *(str(workers["alive"]), str(workers["lost"])),
                *(str(totals[name]) for name in ("instances", "never", "failing", "overdue")),
            ]
        ],
        markdown=markdown,
    )
    if found["failing"]:
        click.echo()
        headings = ("instance", "failures", "outcome", "error", "last success", "message")
        names = ("instance", "failures", "outcome", "error", "last_success", "message")
        rows = [[str("" if row[name] is None else row[name]) for name in names] for row in found["failing"]]
        write_table(headings, rows, markdown=markdown)
