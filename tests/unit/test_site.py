"""The documentation site's home page and its pages of one task."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import __version__

DOCS = Path(__file__).parents[2] / "docs"
TASKS = sorted(set((DOCS / "how-to").glob("*.md")) - {DOCS / "how-to/README.md"})
MOST_WORDS = 250


def test_the_home_page_says_which_version_it_is_of() -> None:
    assert f"This site is of version {__version__};" in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_a_task_is_a_short_page_that_its_index_names(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= MOST_WORDS
    index = (DOCS / "how-to/README.md").read_text(encoding="utf-8")
    assert f"]({page.name})" in index
