"""`diff --explain` as text: each field as declared, applied and live, below each other."""

from __future__ import annotations

from collections.abc import Iterator

import click

from reconciler.cli.render.values import accepted_words, show
from reconciler.model.names import one_line, printable
from reconciler.model.secret import MASK
from reconciler.model.types import rfc3339
from reconciler.planning.report import Report
from reconciler.planning.three_way_view import Explained, ExplainedField


def render(report: Report) -> str:
    """A block per instance; one that could not be compared says why."""
    lines: list[str] = []
    for item in report.instances:
        lines.append(click.style(item.instance, bold=True) + f" ({item.environment})")
        if item.explained is not None:
            lines += _resource(item.explained)
        if item.error is not None:
            lines.append(click.style(f"  ✗ [{item.error.code}] {one_line(item.error.message, '; ')}", fg="red"))
        lines += [f"  {printable(note)}" for note in item.notes if item.explained is None]
    return "\n".join(lines)


def _resource(item: Explained) -> Iterator[str]:
    yield f"  {printable(str(item.key))}: {_standing(item)}"
    if item.applied_at is not None:
        yield f"    last applied {rfc3339(item.applied_at)} by run {item.applied_run}"
        if item.provenance:
            yield f"    {printable(item.provenance)}"
    elif item.declared_by is not None or item.live:
        yield "    never applied"
    for field in item.fields:
        yield f"    {printable(field.field)}"
        yield from _field(field, item)


def _standing(item: Explained) -> str:
    if item.action is not None:
        return click.style(f"{item.action} ({item.cause})", fg="yellow")
    if item.accepted is not None:
        return click.style(accepted_words(item.accepted), fg="cyan")
    if item.declared_by is None:
        return "not declared, left alone" if item.live else "not declared, not there"
    return click.style("in sync", fg="green")


def _field(field: ExplainedField, item: Explained) -> Iterator[str]:
    mark = click.style("  ← differs", fg="yellow") if field.differs else ""
    if field.sensitive:
        yield f"      declared  {MASK}  {printable(field.origin)}{mark}"
        return
    values = [show(field.declared), show(field.applied), show(field.live)]
    width = max(map(len, values))
    if field.origin:
        yield f"      declared  {values[0].ljust(width)}  {printable(field.origin)}"
    if item.applied_at is not None:
        yield f"      applied   {values[1]}"
    yield f"      live      {values[2] if item.live else 'not there'}{mark}"
