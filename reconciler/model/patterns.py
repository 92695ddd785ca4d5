"""Regular expressions that are compiled when they are first used: a command uses few of those that it imports."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class _LatePattern:
    """Has the attributes of the compiled pattern; is no `re.Pattern`, so that `re.sub(pattern, …)` does not take it."""

    def __init__(self, pattern: Any, flags: int) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(re.compile(*self._source), name)
        self.__dict__[name] = found  # asked for once: afterwards it is as fast as the pattern's own
        return found


def late(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Like `re.compile`; a pattern that is wrong raises `re.error` when it is first used."""
    return cast("re.Pattern[AnyStr]", _LatePattern(pattern, flags))
