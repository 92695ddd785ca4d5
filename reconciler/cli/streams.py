"""Prepare the standard streams: output never fails because of an unsupported character or a missing reader, and nothing
that is printed commands the pipeline that runs fivrec."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any, TextIO

from reconciler.model.patterns import late

_COMMAND = late(r"##(?=\w*\[)")
"""What the runners of GitHub, Azure and TeamCity look for in a line: ##[, ##vso[, ##teamcity[."""
_HARMLESS = r"#\\u0023"  # an escape that both JSON parsers and people can read
_AT_THE_START = late(
    r"((?:^|\r)[^\S\n]*):(?=:(?:(?:add|remove|set|save|stop|internal)-[a-z-]+|debug|echo|endgroup|group"
    r"|(?:error|notice|warning)(?! title=fivrec ))[ :])",
    re.IGNORECASE | re.MULTILINE,
)
"""What GitHub's runner looks for at the start of a line, after white space. fivrec's own commands have a title."""


_UNSEEN = late(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters that turn text around on a screen, command a terminal, or are invisible."""


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON in which everything is visible: invisible characters are escaped, which any reader reverses."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def prepare() -> None:
    """Files and pipes get UTF-8, which readers of JSON, YAML and SQL expect; a terminal keeps its own encoding.
    Characters that the encoding lacks, and invalid bytes of a path, are escaped. A closed stdin or stderr (`<&-`,
    `2>&-`) becomes /dev/null; a closed stdout (`>&-`) takes nothing, so that a result is not lost in silence."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 (as long as the process)
    sys.stdout = _prepared(sys.stdout)
    sys.stderr = _prepared(sys.stderr, matters=False)


def is_plain() -> bool:
    """Whether colours are unwanted (no-color.org), or not supported by the terminal, such as an editor's."""
    return bool(os.environ.get("NO_COLOR")) or _is_dumb()


def shows_bars() -> bool:
    return sys.stderr.isatty() and not _is_dumb()


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


def let_go_of_stderr() -> None:
    """At the end: discard what stderr does not take, otherwise Python would end the process with 120."""
    try:
        io.TextIOWrapper.flush(sys.stderr)  # type: ignore[arg-type]  # not ours, which says nothing
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except (TypeError, ValueError):
        pass  # a test's stream, or a closed one


class HarmlessWrite:
    """A stream's `write` that hands no command to a pipeline, whatever text is printed. If the stream does not
    `matter`, a failed write (the reader is gone, the disk is full) is not an error; `failure` keeps its errno for the
    log of a service, which counts lost lines."""

    def __init__(self, stream: TextIO, *, matters: bool = True) -> None:
        self.failure = 0
        self._write = stream.write
        self._flush = stream.flush
        self._matters = matters

    def __call__(self, text: str) -> int:
        try:
            shown = _COMMAND.sub(_HARMLESS, text)
            self._write(_AT_THE_START.sub(r"\1\\u003a", shown) if "::" in shown else shown)
        except OSError as exc:
            if self._matters:
                raise
            self.failure = exc.errno or 0
        return len(text)

    def flush(self) -> None:
        """The `flush` of a stream that does not matter."""
        try:
            self._flush()
        except OSError as exc:
            self.failure = exc.errno or 0


def _prepared(stream: TextIO | None, *, matters: bool = True) -> TextIO:
    if stream is None:
        # Opened now, so that no connection gets its number. What is written to a file for reading is EBADF.
        opened = os.open(os.devnull, os.O_RDONLY if matters else os.O_WRONLY)
        stream = io.TextIOWrapper(io.FileIO(opened, "w"), encoding="utf-8", write_through=True)
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")
        if not isinstance(stream.write, HarmlessWrite):
            # Not a wrapper around the stream: when it is freed, it would close the stream.
            write = HarmlessWrite(stream, matters=matters)
            stream.write = write  # type: ignore[method-assign]
            if not matters:
                stream.flush = write.flush  # type: ignore[method-assign]
    return stream
