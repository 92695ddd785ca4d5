"""Reports as text for people: a block per instance with changes, then a recap as Ansible's."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from reconciler.core.changes import Change, Conflict, FieldChange
from reconciler.core.model import Value
from reconciler.core.report import InstanceReport, Report
from reconciler.core.secret import MASK

SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "deactivate": ("-", "red"), "remove": ("-", "red")}
OUTCOME_COLORS = {"in_sync": "green", "changed": "yellow", "skipped": "cyan"}
LONGEST = 100
"""Values are shown up to this many characters; JSON output has them whole."""


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
    if not (item.changes or item.conflicts or item.error or item.notes or (item.plan and item.plan.accepted)):
        return
    yield click.style(item.instance, bold=True) + f" ({item.environment})" + _state(item)
    for conflict in item.conflicts:
        yield _conflict(conflict)
    for change in item.changes:
        yield _change(change)
        if fields:
            yield from (f"      {_field(field)}" for field in change.fields)
    for accepted in item.plan.accepted if item.plan else ():
        yield click.style(f"  ≈ {accepted.key}/{accepted.field}: accepted drift: {accepted.reason}", fg="cyan")
    for note in item.notes:
        yield f"  {note}"
    if item.error is not None:
        yield click.style(f"  ✗ [{item.error.code}] {item.error.message}", fg="red")
        if item.error.hint:
            yield f"    {item.error.hint}"
    if item.audit_head and item.changes:
        yield click.style(f"  audit head {item.audit_head}", dim=True)
    yield ""


def _state(item: InstanceReport) -> str:
    return "" if item.outcome in ("changed", "in_sync") else f" {item.outcome}"


def _change(change: Change) -> str:
    sign, color = SIGNS[change.action]
    source = "" if change.source == "manifest" else f", {change.source}"
    return click.style(f"  {sign} {change.key}", fg=color) + f" ({change.cause}{source})"


def _field(field: FieldChange) -> str:
    if field.sensitive:
        return f"{field.field}: {MASK}"
    return f"{field.field}: {show(field.before)} → {show(field.after)}"


def _conflict(conflict: Conflict) -> str:
    line = f"  ! {conflict.key}/{conflict.field}: expected {show(conflict.expected)}, Connect says "
    return click.style(line + show(conflict.observed), fg="magenta")


def show(value: Value) -> str:
    """A value as JSON, cut where it is long; control characters can't reach the terminal."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _recap(item: InstanceReport, width: int) -> str:
    failed = 0 if item.outcome in ("in_sync", "changed", "skipped") else 1
    changed = len(item.changes) if item.outcome in ("changed", "degraded") else 0
    status = item.connect.status if item.connect else None
    parts = (
        f"ok={item.resources} changed={changed} conflicts={len(item.conflicts)} failed={failed} ",
        f"status={status.status if status else 'unknown'} billing={status.billing_status if status else 'unknown'} ",
        f"{item.duration_ms} ms",
    )
    color = OUTCOME_COLORS.get(item.outcome, "red")
    return click.style(item.instance.ljust(width), fg=color) + " : " + " ".join(parts)


def _total(report: Report) -> str:
    outcomes = [item.outcome for item in report.instances]
    counted = ((name, outcomes.count(name)) for name in sorted(set(outcomes)))
    listed = " ".join(f"{name}={count}" for name, count in counted)
    return f"{len(outcomes)} instances: {listed}  {report.duration_ms} ms"
