"""Whether a value fits a schema, said by code that docs/compile_schemas.py makes from schemas/ (decision 0013)."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from reconciler.model.types import SURROGATES


class Unfit(Exception):
    """The value does not fit. jsonschema has the words."""


def is_number(value: Any) -> bool:
    """NaN and the infinities are none: JSON does not have them."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def is_text(value: Any) -> bool:
    """Half of a surrogate pair is none."""
    return isinstance(value, str) and (value.isascii() or not SURROGATES.search(value))


def matches(pattern: str, text: str) -> bool:
    return is_text(text) and ecma(pattern).search(text) is not None


@cache
def ecma(pattern: str) -> re.Pattern[str]:
    """As ECMA-262 has it: `$` is the end of the text, not what precedes a last line break."""
    return re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern))
