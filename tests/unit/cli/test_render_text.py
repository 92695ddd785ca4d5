"""render/text: what people read on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from reconciler.cli.render.text import render
from reconciler.model.changes import Former
from reconciler.model.types import Key
from tests.support.examples import NOON, view
from tests.support.reports import (
    CHANGED,
    DEGRADED,
    HOSTILE,
    IN_SYNC,
    PASSWORD,
    UPDATED,
    ended,
    hostile,
    report,
)


def plain(*args: object, fields: bool = True, **more: object) -> str:
    return click.unstyle(render(report(*args, **more), fields=fields))  # type: ignore[arg-type]


def test_a_block_per_instance_with_changes_then_a_recap() -> None:
    assert (
        plain(CHANGED, IN_SYNC, DEGRADED)
        == """\
client-a (production)
  ! status/client-a/status: expected "active", Connect says "suspended"
  + admin/a@e.com (new)
      name: null → "A"
      password: (sensitive)
  ~ queue/Sales (drift)
      description: "old" → "new"
  - plan/plan_basic (intent, connect)
      is_active: true → false
  - queue/Spare (new)
      description: "spare" → null
  ≈ queue/Night/description: accepted drift, no end: a campaign
  1 queue row would be removed: Spare

client-c (production) degraded
  ~ queue/Sales (drift)
      description: "old" → "new"
  ✗ [connect_unreachable] Fi.V Connect cannot be reached
    check the network

client-a : ok=9 changed=4 conflicts=1 failed=0  status=active billing=paid  398 ms
client-b : ok=4 changed=0 conflicts=0 failed=0  status=active billing=paid  398 ms
client-c : ok=0 changed=1 conflicts=0 failed=1  status=unknown billing=unknown  398 ms
3 instances: changed=1 degraded=1 in_sync=1  412 ms"""
    )


def test_fields_are_shown_only_on_request() -> None:
    assert "description" not in plain(DEGRADED, fields=False)


def test_in_sync_is_one_line() -> None:
    assert plain(IN_SYNC) == "client-b : ok=4 changed=0 conflicts=0 failed=0  status=active billing=paid  398 ms"


@pytest.mark.parametrize(
    ("line", "color"), [("+ admin", "green"), ("~ queue", "yellow"), ("- plan", "red"), ("! status", "magenta")]
)
def test_each_sign_has_its_colour(line: str, color: str) -> None:
    start = click.style("  ", fg=color, reset=False)
    assert f"{start}{line}" in render(report(CHANGED), fields=True)


def test_no_secret_is_shown() -> None:
    assert PASSWORD not in render(report(CHANGED), fields=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_steers_no_terminal_and_adds_no_line(text: str) -> None:
    shown = plain(*hostile(text).instances)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown.splitlines()) == len(plain(*hostile("harmless").instances).splitlines())


def test_former_rows_and_the_start_of_a_drift_are_shown() -> None:
    night = Former(Key("queue", "Night"), "644bad66-0000", datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    item = ended("client-a", "changed", (UPDATED,), former=(night,), since={UPDATED.key: NOON}, connect=view())
    lines = click.unstyle(render(report(item), fields=False)).splitlines()
    assert lines[1:3] == [
        "  ~ queue/Sales (drift) since 2026-10-01T12:00:00Z",
        "  ? queue/Night (former: applied 2026-11-20 by run 644bad66)",
    ]
