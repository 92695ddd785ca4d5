"""docs/environments.md names a test beside each promise: every one of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_promises_about_environments_name_existing_tests() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "environments.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    named = [set(re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])) for row in rows]
    assert all(named)
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert set().union(*named) - defined == set()
