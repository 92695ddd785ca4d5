"""When two names are the same, what is invisible in a name, and how much of names and texts is shown. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from reconciler.model.patterns import late

_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode counts as letters, marks or symbols, but that show nothing."""
_SELECTORS: Final = late("[\ufe00-\ufe0f\u180b-\u180d\U000e0100-\U000e01ef]")
_WORD: Final = late(r"[^\W\d_]+")
_SCRIPTS: Final = frozenset(
    {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "CHEROKEE", "COPTIC", "FULLWIDTH", "MATHEMATICAL", "LISU"}
)
"""Scripts with letters that look like each other's. Japanese mixes three others, which is fine."""


def same_name(name: str) -> str:
    """Returns a form that is equal for two spellings of one name: é may be one character or two (Unicode's NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_invisible(char: str, before: str) -> bool:
    """Whether a character shows nothing. `before` is the character before it: within an emoji it is allowed."""
    if char.isascii():
        return False
    if char == "\u200d" or _SELECTORS.match(char):
        return unicodedata.category(before) not in ("So", "Sk", "Mn")
    return char in _FILLERS or unicodedata.category(char) in ("Cf", "Zl", "Zp") or (char.isspace() and char != " ")


def invisible_characters(text: str) -> tuple[str, ...]:
    """Returns the invisible characters as U+200B, each once."""
    if text.isascii():
        return ()
    pairs = zip(text, " " + text, strict=False)
    return tuple(dict.fromkeys(f"U+{ord(char):04X}" for char, before in pairs if is_invisible(char, before)))


def printable(text: str) -> str:
    """Returns the text in one line, with escapes for what can't be printed or seen (\\n, \\x1b, \\u202e, \\u3164)."""
    if text.isascii() and text.isprintable():
        return text
    pairs = zip(text, " " + text, strict=False)
    return "".join(
        char.encode("unicode_escape").decode() if not _is_seen(char, before) else char for char, before in pairs
    )


def one_line(text: str, between: str = " ") -> str:
    """Like `printable`, with spaces, or `between`, for line breaks."""
    return printable(text.replace("\n", between))


def _is_seen(char: str, before: str) -> bool:
    return (char.isprintable() or char == "\u200d") and not is_invisible(char, before)


def mixed_scripts(text: str) -> tuple[str, ...]:
    """Returns the scripts of the first word that mixes similar-looking ones; none if no word does."""
    if text.isascii():
        return ()
    for word in _WORD.findall(text):
        scripts = {unicodedata.name(char, "").partition(" ")[0] for char in word} & _SCRIPTS
        if len(scripts) > 1:
            return tuple(sorted(script.capitalize() for script in scripts))
    return ()


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def first_of(names: Sequence[str], most: int) -> str:
    """Returns the first names and how many are left: `a, b and 3 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def near_hint(word: object, known: Iterable[object]) -> str:
    """Returns `did you mean "x"?` for the known word that is nearest; "" if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(str(word)[:100], map(str, known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""
