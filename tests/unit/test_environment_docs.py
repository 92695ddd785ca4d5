"""docs/environments.md and docs/serve.md name a test beside each promise: all these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def promises(page: str) -> list[str]:
    """Returns the rows of the page's tables of promises."""
    text = (ROOT / "docs" / page).read_text()
    tables = re.findall(r"^\| promise \| test \|\n\| --- \| --- \|\n((?:\| .*\n)+)", text, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()]


@pytest.mark.parametrize(("page", "least"), [("environments.md", 30), ("serve.md", 15)])
def test_each_promise_names_tests_that_exist(page: str, least: int) -> None:
    named = [set(re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])) for row in promises(page)]
    assert len(named) >= least
    assert all(named)
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert set().union(*named) - defined == set()
