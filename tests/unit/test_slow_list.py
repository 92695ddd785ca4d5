"""Each line of tests/slow.txt names an existing test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_slow_test_is_there() -> None:
    lines = (ROOT / "tests/slow.txt").read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))
    gone = [line for line in lines if not _is_there(*line.split("::"))]
    assert gone == []


def _is_there(path: str, name: str) -> bool:
    found = ROOT / path
    text = found.read_text(encoding="utf-8") if found.is_file() else ""
    return re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE) is not None
