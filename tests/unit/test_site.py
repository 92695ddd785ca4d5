"""The documentation site's home page and its how-to pages."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from reconciler import __version__

DOCS = Path(__file__).parents[2] / "docs"
TASKS = sorted(set((DOCS / "how-to").glob("*.md")) - {DOCS / "how-to/README.md"})
MOST_WORDS = 250

# Operators' questions, the page that answers each, and the words that do.
QUESTIONS = [
    ("How do I unlock a client now?", "how-to/unlock.md", "fivrec check clients/ --limit client-abc-123"),
    ("What does refused mean?", "how-to/let-through.md", "a safety guard stopped the plan before anything was written"),
    ("Which rights does the login need?", "logins.md", "owns the database and its tables"),
    ("How do I undo a commit?", "how-to/undo.md", "git revert"),
    ("A client has not paid: why does it have access?", "how-to/unlock.md", "send an alert and lock nothing"),
    ("apply was killed halfway: what now?", "errors.md", "What was not committed was rolled back"),
    ("Who holds the instance (busy)?", "troubleshooting.md", "The message names it as PostgreSQL knows it"),
    ("How do I take over hundreds of databases?", "deploy.md", "--all-databases --out clients/"),
    ("One client needs another value: how?", "manifests.md", "`overrides` wins over both"),
    ("May I stop using fivrec, and what stays?", "how-to/leave.md", "The rows stay"),
    ("How do I prove that nobody edited the log?", "how-to/prove-the-log.md", "--expect-head HASH"),
    ("May fivrec delete my rows?", "gitops.md", "removes rows,"),
    ("How do I run it from cron?", "how-to/on-a-schedule.md", "17 3 * * * /opt/fivrec/nightly"),
    ("What does a script read?", "reference/exit-codes.md", "`fivrec schema report` prints its"),
    ("What is sent to Connect about my customers?", "reference/connect.md", "The body counts rows"),
    ("In which time zone are the times?", "troubleshooting.md", "the audit log's times"),
    ("The app gets a new version: what do I do?", "upgrades.md", "Run the app's migration, then `fivrec diff --deep`"),
    ("May the app have administrators of its own?", "how-to/rename.md", "Other administrators are"),
    ("How do I show the page to colleagues?", "sign-in.md", "| viewer |"),
    ("What do I need to run it?", "index.md", "on Linux or macOS, with Python 3.11"),
    ("Which PostgreSQL?", "index.md", "PostgreSQL 15 or newer"),
    ("How often is an instance checked?", "reference/manifest.md", "`config.check_interval_minutes`"),
    ("A plan that Connect does not have: is it lost?", "reference/manifest.md", "`plans.unmanaged`"),
    ("What do 10,000 instances need?", "scale.md", "| 60 min | 10,000 |"),
]


def test_the_home_page_says_which_version_it_is_of() -> None:
    assert f"This site is of version {__version__};" in (DOCS / "index.md").read_text(encoding="utf-8")
    assert f"Este site é da versão {__version__};" in (DOCS / "index.pt-BR.md").read_text(encoding="utf-8")


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
    """The site would number the rest of a broken list from 1 again."""
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


@pytest.mark.parametrize(("question", "page", "words"), QUESTIONS, ids=[question for question, _, _ in QUESTIONS])
def test_a_question_is_answered_two_clicks_from_home(question: str, page: str, words: str) -> None:
    home, tasks = ((DOCS / name).read_text(encoding="utf-8") for name in ("index.md", "how-to/README.md"))
    first = {"index.md", *re.findall(r"\]\(([\w/.-]+\.md)", home)}
    assert "how-to/README.md" in first
    second = {os.path.normpath(f"how-to/{link}") for link in re.findall(r"\]\(([\w/.-]+\.md)", tasks)}
    assert page in first | second, question
    assert words in (DOCS / page).read_text(encoding="utf-8"), question
