"""The Portuguese pages match the English ones: the same headings, the same blocks, the same rows of each table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRANSLATED = sorted([*ROOT.glob("*.pt-BR.md"), *(ROOT / "docs").rglob("*.pt-BR.md")])
FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]+`")
NO_PROSE = re.compile(r"`[^`]*`|(?<=\])\([^)]*\)|<[^>]*>|\ufe0f")
DICTIONARY = Path("/usr/share/hunspell/pt_BR.dic")
TERMS = Path(__file__).with_name("terms_pt_br.txt")


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".pt-BR.md", ".md"))


def shape(page: Path) -> list[str]:
    """Returns what no translation changes, in order: levels of headings, blocks as they are, the code that begins a
    row."""
    text = page.read_text(encoding="utf-8")
    found: list[str] = []
    for piece in re.split(f"({FENCE.pattern})", text, flags=FENCE.flags):
        if piece.startswith("```"):
            found.append(piece)
            continue
        for line in piece.splitlines():
            if heading := re.match(r"#+ ", line):
                found.append(heading[0])
            elif line.startswith("|"):
                found.append(" ".join(["|", *CODE.findall(line.split("|")[1])]))
    return found


def test_the_seeds_readers_find_their_pages_in_portuguese() -> None:
    assert {str(page.relative_to(ROOT)) for page in TRANSLATED} >= {
        "README.pt-BR.md",
        "docs/deploy.pt-BR.md",
        "docs/going-live.pt-BR.md",
        "docs/index.pt-BR.md",
        "docs/troubleshooting.pt-BR.md",
        "docs/tutorial.pt-BR.md",
    }


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_translated_page_is_in_step_with_its_original(page: Path) -> None:
    assert shape(page) == shape(original(page))


@pytest.mark.skipif(shutil.which("hunspell") is None or not DICTIONARY.exists(), reason="no hunspell-pt-br here")
def test_every_word_is_portuguese_or_a_term() -> None:
    prose = "\n".join(NO_PROSE.sub("", FENCE.sub("", page.read_text(encoding="utf-8"))) for page in TRANSLATED)
    spelled = subprocess.run(
        ["hunspell", "-d", "pt_BR", "-i", "utf-8", "-l"],
        input=f"errro\n{prose}",
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=True,
    )
    terms = set(TERMS.read_text(encoding="utf-8").split())
    assert sorted(set(spelled.stdout.split()) - terms) == ["errro"]
