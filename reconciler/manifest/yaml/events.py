"""libyaml's event stream, or PyYAML's own if libyaml is not available. One event at a time; builds nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from reconciler.model.patterns import late
from reconciler.model.types import SURROGATES

MAX_PAIRS_BYTES: Final = 256 * 1024
"""The largest file with surrogate pairs that is read: it needs the parser in Python, since libyaml refuses them."""

_PAIR = late(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
NextEvent: TypeAlias = Callable[[], Any]
"""Returns the next yaml.Event (its attributes depend on its class), None after the last; yaml.YAMLError if the
text is not YAML."""


class _PureParser(Reader, Scanner, Parser):
    def __init__(self, text: bytes) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def open_events(text: bytes, *, pure: bool | None = None) -> NextEvent:
    r"""`pure` asks for the parser written in Python: ten times slower, the same events. It is also used if the text
    contains what libyaml refuses: JSON writes "😀" as "\ud83d\ude00", and JSON is YAML."""
    if pure is None:
        pure = len(text) <= MAX_PAIRS_BYTES and _PAIR.search(text) is not None
    if yaml.__with_libyaml__ and not pure:
        from yaml import cyaml

        parser: Any = cyaml.CParser(text)  # type: ignore[attr-defined]  # the stubs leave it out
    else:
        parser = _PureParser(text)
    next_event: NextEvent = parser.get_event
    return next_event


def scalar_text(event: Any) -> str:
    """The parser in Python returns an escaped surrogate pair as its two halves."""
    text: str = event.value
    if event.style == '"' and SURROGATES.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text
