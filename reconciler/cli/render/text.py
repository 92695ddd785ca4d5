"""Reports as text for people: a block per instance with changes, then a recap like Ansible's."""

from __future__ import annotations

from collections.abc import Iterable

import click

from reconciler.cli.render.values import accepted_line, change_line, conflict_line, field_line, former_line, since_words
from reconciler.model.changes import Change
from reconciler.model.names import one_line, printable
from reconciler.planning.report import InstanceReport, Report

COLORS = {"create": "green", "update": "yellow", "deactivate": "red", "remove": "red"}
OUTCOME_COLORS = {"in_sync": "green", "changed": "yellow", "skipped": "cyan"}


def render(report: Report, *, fields: bool) -> str:
    """`fields` shows each field before and after."""
    lines: list[str] = []
    for item in report.instances:
        lines += _block(item, fields=fields)
    width = max((len(item.instance) for item in report.instances), default=0)
    lines += [_recap(item, width) for item in report.instances]
    if len(report.instances) > 1:
        lines.append(_total(report))
    return "\n".join(lines)


def _block(item: InstanceReport, *, fields: bool) -> Iterable[str]:
    lines = [*_differences(item, fields=fields), *_beside(item)]
    if not lines:
        return
    yield click.style(item.instance, bold=True) + f" ({item.environment})" + _state(item)
    yield from lines
    if item.audit_head and item.changes:
        yield click.style(f"  audit head {item.audit_head}", dim=True)
    yield ""


def _differences(item: InstanceReport, *, fields: bool) -> Iterable[str]:
    for conflict in item.conflicts:
        yield click.style(f"  {conflict_line(conflict)}", fg="magenta")
    for change in item.changes:
        yield _change(change) + since_words(change, item.since)
        if fields:
            yield from (f"      {field_line(field)}" for field in change.fields)
    for accepted in item.plan.accepted if item.plan else ():
        yield click.style(f"  ≈ {accepted_line(accepted)}", fg="cyan")
    for former in item.former:
        yield click.style(f"  {former_line(former)}", fg="cyan")


def _beside(item: InstanceReport) -> Iterable[str]:
    for note in item.notes:
        yield f"  {printable(note)}"
    if item.error is not None:
        said = item.error.message if item.row in item.error.message else f"{item.error.message} ({item.row})"
        yield click.style(f"  ✗ [{item.error.code}] {one_line(said, '; ')}", fg="red")
        if item.error.hint:
            yield f"    {printable(item.error.hint)}"


def _state(item: InstanceReport) -> str:
    return "" if item.outcome in ("changed", "in_sync") else f" {item.outcome}"


def _change(change: Change) -> str:
    line, bracket, why = change_line(change).rpartition(" (")
    return click.style(f"  {line}", fg=COLORS[change.action]) + bracket + why


def _recap(item: InstanceReport, width: int) -> str:
    failed = 0 if item.outcome in ("in_sync", "changed", "skipped") else 1
    changed = len(item.changes) if item.outcome in ("changed", "degraded") else 0
    status = item.connect.status if item.connect else None
    skipped = " skipped=1" if item.outcome == "skipped" else ""
    parts = (
        f"ok={item.resources} changed={changed} conflicts={len(item.conflicts)} failed={failed}{skipped} ",
        f"status={status.status if status else 'unknown'} billing={status.billing_status if status else 'unknown'} ",
        f"{item.duration_ms} ms",
        *([f" {printable(why)}"] if skipped and (why := _why_skipped(item)) else []),
    )
    color = OUTCOME_COLORS.get(item.outcome, "red")
    return click.style(item.instance.ljust(width), fg=color) + " : " + " ".join(parts)


def _why_skipped(item: InstanceReport) -> str:
    return item.error.message if item.error is not None else next(iter(item.notes), "")


def _total(report: Report) -> str:
    outcomes = [item.outcome for item in report.instances]
    counted = ((name, outcomes.count(name)) for name in sorted(set(outcomes)))
    listed = " ".join(f"{name}={count}" for name, count in counted)
    digest = f"  plan {report.digest}" if report.digest else ""
    return f"{len(outcomes)} instances: {listed}  {report.duration_ms} ms{digest}"
