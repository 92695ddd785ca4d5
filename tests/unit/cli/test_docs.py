"""`fivrec docs`: the pages that hints and errors name exist, in an installation too."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.docs import command
from reconciler.model.errors import UsageError

ROOT = Path(__file__).parents[3]
INSTALLED = {
    target.removeprefix("reconciler/")
    for target in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ].values()
}
BUSY = """\
code: `busy`
exit: 4
means: Another run holds the instance; the message names it.
do: Wait for it. If it is stuck, the server ends its transaction within 10 s; \
a lock that stays longer is [another session's](troubleshooting.md#exit-code-4-busy).
"""


def printed(*words: str) -> str:
    return CliRunner().invoke(command, words, catch_exceptions=False).output


def test_an_error_is_explained_by_its_code_or_its_place_in_json() -> None:
    assert [printed(word) for word in ("busy", "errors#busy", "docs/errors.md#busy")] == [BUSY] * 3


def test_every_code_is_explained() -> None:
    codes = re.findall(r'<a id="(\w+)">', (ROOT / "docs/errors.md").read_text(encoding="utf-8"))
    assert len(codes) > 50
    for code in codes:
        lines = printed(code).splitlines()
        assert (lines[0], len(lines)) == (f"code: `{code}`", 4)


def test_what_hints_name_is_there_and_in_an_installation_too() -> None:
    found = set()
    for path in {*(ROOT / "reconciler").rglob("*.py")} - {ROOT / "reconciler/cli/docs.py"}:
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"fivrec docs ([\w/-]+(?:#[\w-]+)?)", text))
    assert "keys#if-a-key-is-lost" in found
    for name in found:
        page = f"docs/{name.partition('#')[0]}.md"
        assert {page, str(Path(page).parent)} & INSTALLED, name
        assert printed(name)


def test_a_section_ends_where_the_next_one_begins() -> None:
    text = (ROOT / "docs/keys.md").read_text(encoding="utf-8")
    section = printed("keys#if-a-key-is-lost")
    assert section.startswith("## If a key is lost\n")
    assert section.rstrip("\n") in text
    assert "\n## " not in section
    assert printed("keys") == text


@pytest.mark.parametrize("page", ["nope", "../README", "keys#nope", "/etc/passwd", "keys#"])
def test_unknown_pages_and_sections_are_refused(page: str) -> None:
    if page == "keys#":
        assert printed(page) == printed("keys")
        return
    with pytest.raises(UsageError, match="there is no page, section or error code"):
        printed(page)


def test_without_a_page_all_are_listed() -> None:
    assert {"errors", "how-to/unlock", "recipes/README"} <= set(printed().splitlines())
