"""libyaml's event stream, or PyYAML's own where libyaml is not there. One event at a time, nothing built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

NextEvent: TypeAlias = Callable[[], Any]
"""Returns the next yaml.Event (its attributes depend on its class), None after the last; yaml.YAMLError if the
text is not YAML."""


class _PureParser(Reader, Scanner, Parser):
    def __init__(self, text: bytes) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def open_events(text: bytes, *, pure: bool = False) -> NextEvent:
    """`pure` asks for the parser written in Python: ten times slower, the same events."""
    if yaml.__with_libyaml__ and not pure:
        from yaml import cyaml

        parser: Any = cyaml.CParser(text)  # type: ignore[attr-defined]  # the stubs leave it out
    else:
        parser = _PureParser(text)
    next_event: NextEvent = parser.get_event
    return next_event
