"""The page's texts in English and Portuguese (translations.json), chosen by the browser's preference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "pt")
"""In the order of translations.json."""


def choose_language(accept: str) -> str:
    """The first of our languages by the weights of Accept-Language (RFC 9110, 12.5.4); English if none matches."""
    wanted: list[tuple[float, int, str]] = []
    for number, part in enumerate(accept.split(",")[:20]):
        tag, _, parameter = part.strip().partition(";")
        weight = _weight(parameter)
        base = tag.strip().lower().partition("-")[0]
        if weight > 0 and base in LANGUAGES:
            wanted.append((-weight, number, base))
    return min(wanted)[2] if wanted else LANGUAGES[0]


@cache
def load_translations(language: str) -> Mapping[str, str]:
    words = json.loads(Path(__file__).with_name("translations.json").read_text(encoding="utf-8"))
    place = LANGUAGES.index(language)
    return {name: both[place] for name, both in words.items()}


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
