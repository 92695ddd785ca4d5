"""The meaning of an unquoted YAML scalar, and which of them are refused. Messages never quote values.

YAML 1.1 like PyYAML, without its surprises: octal, binary, hexadecimal and sexagesimal numbers, numbers with `_` or
with an exponent that only YAML 1.2 reads, .inf and .nan are refused. `yes`, `on` and dates are passed on with a note,
because only their path tells whether they fit.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from reconciler.model.patterns import late
from reconciler.model.records import dataclass

Scalar: TypeAlias = bool | int | float | str | None

UNSTORABLE: Final = late("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that a file may not contain, but that escapes in double quotes, a cell or a command line argument could
bring in."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is odd about a scalar: `refused` everywhere, or `boolean`/`date` if its path does not want one."""

    kind: Literal["refused", "boolean", "date"]
    message: str
    hint: str = "write it in quotes"


def _words() -> dict[str, tuple[Scalar, Note | None]]:
    words: dict[str, tuple[Scalar, Note | None]] = {
        **dict.fromkeys(("", "~", "null", "Null", "NULL"), (None, None)),
        **dict.fromkeys(("true", "True", "TRUE"), (True, None)),
        **dict.fromkeys(("false", "False", "FALSE"), (False, None)),
    }
    for word, value in (("yes", True), ("on", True), ("no", False), ("off", False)):
        for form in (word, word.capitalize(), word.upper()):
            meaning = str(value).lower()
            message = f"{form} without quotes is {meaning} in YAML 1.1"
            words[form] = (value, Note("boolean", message, f'write "{form}" in quotes, or {meaning}'))
    return words


_WORDS = _words()
_OCTAL = late(r"[-+]?0[0-9_]+|0o[0-7_]+")
_SEXAGESIMAL = late(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_INTEGER = late(r"[-+]?(0|[1-9][0-9]*)")
_BASED = late(r"[-+]?0([bB][01_]*[01]_*|[xX][0-9a-fA-F_]*[0-9a-fA-F]_*)")
_FLOAT = late(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_EXPONENT = late(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_UNDERSCORES = late(r"[-+]?([0-9]+_[0-9_]*\.?[0-9_]*|[0-9]*\.[0-9]+_[0-9_]*)([eE][-+]?[0-9]+)?")
_NOT_FINITE = late(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE = late(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+[0-9]|$).*", re.DOTALL)
_NUMBER_STARTS = frozenset("-+.0123456789")
MAX_NUMBER: Final = 100  # characters: longer scalars are text, and are not matched
_LARGEST = 2**63

_IS_OCTAL = Note("refused", "a number that begins with 0 is octal in YAML 1.1")
_IS_SEXAGESIMAL = Note("refused", "digits with colons are a base 60 number in YAML 1.1")
_IS_BASED = Note("refused", "what begins with 0b or 0x is a number of another base in YAML")
_IS_EXPONENT = Note("refused", "a number with an exponent is text in YAML 1.1 and a number in YAML 1.2")
_HAS_UNDERSCORES = Note("refused", "digits with _ are a number in YAML 1.1 and text in YAML 1.2")
_IS_NOT_FINITE = Note("refused", "infinity and not-a-number cannot be stored", "write a number")
_IS_TOO_LARGE = Note("refused", "the number does not fit into 64 bits")
_IS_DATE = Note("date", "an unquoted date is not text in YAML 1.1")
_SURPRISES: Final = (
    (_BASED, _IS_BASED),
    (_SEXAGESIMAL, _IS_SEXAGESIMAL),
    (_EXPONENT, _IS_EXPONENT),
    (_UNDERSCORES, _HAS_UNDERSCORES),
    (_NOT_FINITE, _IS_NOT_FINITE),
)


@lru_cache(maxsize=8192)
def read_plain(text: str) -> tuple[Scalar, Note | None]:
    """The value of a scalar without quotes and tag, and what is odd about it."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > MAX_NUMBER:
        return text, None
    return _read_number(text)


def _read_number(text: str) -> tuple[Scalar, Note | None]:
    if _OCTAL.fullmatch(text):
        return text, _IS_OCTAL
    if _INTEGER.fullmatch(text):
        number = int(text)
        return (number, None) if -_LARGEST <= number < _LARGEST else (text, _IS_TOO_LARGE)
    if _FLOAT.fullmatch(text):
        real = float(text)
        return (real, None) if math.isfinite(real) else (text, _IS_TOO_LARGE)
    for form, note in _SURPRISES:
        if form.fullmatch(text):
            return text, note
    if _DATE.fullmatch(text):
        return text, _IS_DATE
    return text, None
