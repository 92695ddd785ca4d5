"""stdout and stderr in a state in which nothing that fivrec prints fails for want of a character or a reader, and
nothing that it prints commands the pipeline that it runs in."""

from __future__ import annotations

import io
import json
import os
import re
import sys
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
    sys.stderr = _prepared(sys.stderr)


class HarmlessWrite:
    """A stream's `write` that hands no command to a pipeline, whatever text is printed."""

    def __init__(self, stream: TextIO) -> None:
        self._write = stream.write

    def __call__(self, text: str) -> int:
        self._write(_COMMAND.sub(_HARMLESS, text))
        return len(text)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        # Opened now, so that no connection gets its number.
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (it lives as long as the process)
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
        if not isinstance(stream.write, HarmlessWrite):
            # Not a wrapper around the stream: when it went, it would close what it wraps.
            stream.write = HarmlessWrite(stream)  # type: ignore[method-assign]
    return stream
