"""The documentation site's home page and its pages of one task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler import __version__

DOCS = Path(__file__).parents[2] / "docs"
TASKS = sorted(set((DOCS / "how-to").glob("*.md")) - {DOCS / "how-to/README.md"})
MOST_WORDS = 250


def test_the_home_page_says_which_version_it_is_of() -> None:
    assert f"This site is of version {__version__};" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_the_home_page_has_readmes_first_command() -> None:
    fence = re.compile(r"```sh\n(.*?)```", re.DOTALL)
    first = [
        fence.findall(page.read_text(encoding="utf-8"))[0] for page in (DOCS / "index.md", DOCS.parent / "README.md")
    ]
    assert first[0] == first[1]


@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_a_task_is_a_short_page_that_its_index_names(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= MOST_WORDS
    index = (DOCS / "how-to/README.md").read_text(encoding="utf-8")
    assert f"]({page.name})" in index


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_no_numbered_list_is_broken_by_a_paragraph(page: Path) -> None:
    """The site numbers the rest of a broken list from 1 again."""
    broken, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if item := re.match(r"(\d+)\. ", line):
            if item[1] != "1" and not inside:
                broken.append(line)
            inside = True
        elif line and not line.startswith(" "):
            inside = False
    assert broken == []


def test_the_index_of_decisions_has_each_once_by_its_title() -> None:
    index = (DOCS / "decisions/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d+)\]\((.*)\) \| (.*?)(?: \(given up: \d+\))? \|$", index, re.MULTILINE)
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in pages]
    assert [(name, f"# {number}: {title}") for number, name, title in rows] == [
        (page.name, title) for page, title in zip(pages, titles, strict=True)
    ]
