"""Write plain values as YAML that reads back as the same values, here and under YAML 1.1. Values in, text out.

A file that is JSON, which is YAML too, gets JSON: other programs read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from reconciler.manifest.yaml.scalars import MAX_NUMBER
from reconciler.model.patterns import late

Quote: TypeAlias = Literal["'", '"']

_PLAIN: Final = late(r"[^\W\d_](?:[\w ./@()+%&;!?=*'-]|:(?=\S))*")
"""Text that no reader misreads: it begins with a letter and contains no indicator of flow style or comments."""
_PIPELINE_COMMAND: Final = late(r"##(?=\w*\[)")
"""What a pipeline would execute if it read it in a log. In double quotes an escape keeps the value."""
_WORDS: Final = frozenset(["y", "yes", "n", "no", "on", "off", "true", "false", "null", "nan", "inf"])
"""Words that some reader of YAML takes for a boolean, null or number, in any case."""
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_BMP: Final = 0xFFFF


def inline(value: Any, quote: Quote | None = None) -> str:
    """On one line, lists and maps in flow style. `quote` quotes text that could be plain."""
    match value:
        case str():
            return _text(value, quote)
        case Mapping():
            return "{" + ", ".join(f"{_text(key)}: {inline(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(inline, value)) + "]"
        case float():
            return _number(value)
        case _:
            return "null" if value is None else str(value).lower()  # true, false, a whole number


def is_json(text: str) -> bool:
    """Whether a YAML file is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def inline_json(value: Any) -> str:
    match value:
        case str():
            return _json_text(value)
        case Mapping():
            return "{" + ", ".join(f"{_json_text(key)}: {inline_json(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(inline_json, value)) + "]"
        case _:
            return inline(value)


def block_json(value: Any, step: str = "  ") -> list[str]:
    """Lines of JSON, indented by `step` per level; empty collections and scalars take one line."""
    if isinstance(value, Mapping) and value:
        entries = [(f"{_json_text(key)}: ", item) for key, item in value.items()]
        return ["{", *_json_lines(entries, step), "}"]
    if isinstance(value, list | tuple) and value:
        return ["[", *_json_lines([("", item) for item in value], step), "]"]
    return [inline_json(value)]


def _json_lines(entries: Sequence[tuple[str, Any]], step: str) -> Iterator[str]:
    for number, (key, item) in enumerate(entries, start=1):
        *lines, last = block_json(item, step)
        lines.append(last if number == len(entries) else f"{last},")
        yield f"{step}{key}{lines[0]}"
        yield from (f"{step}{line}" for line in lines[1:])


def block(value: Any) -> list[str]:
    """Lines in block style, two spaces per level, the items of a list below the text of its key. Empty collections and
    scalars take one line."""
    if isinstance(value, Mapping) and value:
        return [line for key, item in value.items() for line in _entry(_text(key) + ":", item)]
    if isinstance(value, list | tuple) and value:
        return [line for item in value for line in block_item(item)]
    return [inline(value)]


def block_item(value: Any) -> Iterator[str]:
    """One item of a list, with its dash."""
    first, *rest = block(value) if not isinstance(value, list | tuple) else [inline(value)]
    yield f"- {first}"
    yield from (f"  {line}" for line in rest)


def _entry(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield key
        yield from (f"  {line}" for line in block(value))
    else:
        yield f"{key} {inline(value)}"


def _text(text: str, quote: Quote | None = None) -> str:
    if not text.isprintable():  # invisible characters too: a reader must be able to see them
        return _double(text)
    if quote == '"' or _PIPELINE_COMMAND.search(text):
        return _double(text)
    plain = _PLAIN.fullmatch(text) and text[-1] not in " :" and text.lower() not in _WORDS and " #" not in text
    if plain and quote is None:
        return text
    return "'" + text.replace("'", "''") + "'" if quote == "'" else _double(text)


def _double(text: str) -> str:
    escaped = "".join(map(_escaped, text))
    return '"' + _PIPELINE_COMMAND.sub(r"#\\x23", escaped) + '"'


def _json_text(text: str) -> str:
    """Surrogate pairs are not characters in YAML: characters beyond 16 bits are not escaped."""
    escaped = "".join(char if ord(char) > _BMP else _escaped(char) for char in text)
    return '"' + _PIPELINE_COMMAND.sub(r"#\\u0023", escaped) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\U{code:08x}" if code > _BMP else f"\\u{code:04x}"


def _number(value: float) -> str:
    """Without an exponent: `1e20` is text in one version of YAML, and a number in the other. An infinite number, or one
    that is too long without an exponent, is written in YAML's way, for the loader to refuse."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf"
    text = format(Decimal(repr(value)), "f")
    if len(text) + 2 > MAX_NUMBER:
        return repr(value)
    return text if "." in text else f"{text}.0"
