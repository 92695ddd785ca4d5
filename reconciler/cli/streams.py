"""stdout and stderr in a state in which nothing that fivrec prints fails for want of a character or a reader."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """A file or pipe gets UTF-8, as JSON, YAML and SQL are read by; a terminal keeps its own encoding. What an
    encoding lacks, and bytes of a path that are no text, stand as escapes. A closed stream (`>&-`) is /dev/null."""
    sys.stdout = _prepared(sys.stdout)
    sys.stderr = _prepared(sys.stderr)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        # Opened now, so that no connection gets its number.
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (it lives as long as the process)
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
    return stream
