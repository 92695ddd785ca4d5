"""Hooks for Python's JSON reader, which accepts NaN, turns 1e999 into infinity, and drops repeated keys."""

from __future__ import annotations

import math
from typing import Any, NoReturn


class RepeatedKeyError(ValueError):
    """JSON readers differ on which of the two values counts."""


def refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("no such number")
    return value


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKeyError
    return found
