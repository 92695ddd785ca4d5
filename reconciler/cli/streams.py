"""stdout and stderr in a state in which nothing that fivrec prints fails for want of a character or a reader, and
nothing that it prints commands the pipeline that it runs in."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

_COMMAND = re.compile(r"##(?=\w*\[)")
"""What GitHub's, Azure's and TeamCity's runners look for in a line: ##[, ##vso[, ##teamcity[. Ours is ::error."""
_HARMLESS = r"#\\u0023"  # an escape that JSON reads, and people too


_UNSEEN = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""What turns text around on a screen, commands a terminal, or shows nothing."""


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON that shows all that it holds: what can't be seen stands as its escape, which any reader takes back."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def prepare() -> None:
    """A file or pipe gets UTF-8, as JSON, YAML and SQL are read by; a terminal keeps its own encoding. What an
    encoding lacks, and bytes of a path that are no text, stand as escapes. A closed stream (`>&-`) is /dev/null."""
    sys.stdout = _prepared(sys.stdout)
    sys.stderr = _prepared(sys.stderr, matters=False)


def let_go_of_stderr() -> None:
    """At the end: what stderr does not take goes nowhere, else Python would end the process with 120."""
    try:
        io.TextIOWrapper.flush(sys.stderr)  # type: ignore[arg-type]  # not ours, which says nothing
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except (TypeError, ValueError):
        pass  # a test's stream, or a closed one


class HarmlessWrite:
    """A stream's `write` that hands no command to a pipeline, whatever text is printed. Where it does not `matter`
    whether the stream takes it (its reader is gone, its disk is full), that is no error; `failure` keeps its number for
    the log of a service, which counts what it lost."""

    def __init__(self, stream: TextIO, *, matters: bool = True) -> None:
        self.failure = 0
        self._write = stream.write
        self._matters = matters

    def __call__(self, text: str) -> int:
        try:
            self._write(_COMMAND.sub(_HARMLESS, text))
        except OSError as exc:
            if self._matters:
                raise
            self.failure = exc.errno or 0
        return len(text)


def _quiet(flush: Callable[[], None], write: HarmlessWrite) -> Callable[[], None]:
    def attempt() -> None:
        try:
            flush()
        except OSError as exc:
            write.failure = exc.errno or 0

    return attempt


def _prepared(stream: TextIO | None, *, matters: bool = True) -> TextIO:
    if stream is None:
        # Opened now, so that no connection gets its number.
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (it lives as long as the process)
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
        if not isinstance(stream.write, HarmlessWrite):
            # Not a wrapper around the stream: when it went, it would close what it wraps.
            write = HarmlessWrite(stream, matters=matters)
            stream.write = write  # type: ignore[method-assign]
            if not matters:
                stream.flush = _quiet(stream.flush, write)  # type: ignore[method-assign]
    return stream
