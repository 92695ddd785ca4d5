"""The bar of instances on a terminal, and the log's lines next to it."""

from __future__ import annotations

import io
import re
import sys

import pytest

from reconciler.cli.options import Settings
from reconciler.cli.runtime import progress
from reconciler.support.log import EventLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(written: str) -> list[str]:
    """Returns the lines left on the screen at the end: text after a carriage return overwrites the line."""
    screen = []
    for line in written.removesuffix("\n").split("\n"):
        there = ""
        for piece in re.sub(r"\x1b\[\?25[lh]", "", line).split("\r"):
            there = piece[3:] if piece.startswith("\x1b[K") else piece + there[len(piece) :]
        screen.append(there.rstrip())
    return screen


def run(total: int, settings: Settings, stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stderr)
    log = EventLog(stderr)
    with progress(total, settings, log) as done:
        for name in ("client-a", "client-b"):
            log.info("check", "verified", instance=name)
            done(None)
    log.info("check", "after")
    return shown(stderr.getvalue())


def test_each_line_stands_alone_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    *lines, bar, last = run(2, Settings(), Terminal(), monkeypatch)
    assert (lines, last) == (["client-a: verified", "client-b: verified"], "after")
    assert re.fullmatch(r"instances  \[#{36}\]  2/2", bar)


@pytest.mark.parametrize(
    ("total", "stderr"), [(1, Terminal()), (2, io.StringIO())], ids=["one instance", "no terminal"]
)
def test_there_is_no_bar_without_a_terminal_or_for_one(
    total: int, stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run(total, Settings(), stderr, monkeypatch)
    assert lines == ["client-a: verified", "client-b: verified", "after"]
