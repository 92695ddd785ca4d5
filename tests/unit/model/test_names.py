"""Equal names, invisible characters, and words of letters that look alike."""

from __future__ import annotations

import pytest

from reconciler.model.names import invisible_characters, mixed_scripts, same_name


def test_one_name_in_two_spellings_is_one() -> None:
    assert same_name("Suporte te\u0301cnico") == same_name("Suporte t\u00e9cnico")
    assert same_name("Sales") != same_name("sales")


INVISIBLE = {
    "Sales\u200b": ("U+200B",),
    "\u3164 \u202ex\u202e": ("U+3164", "U+202E"),
    "no\u00a0break": ("U+00A0",),
    "\u2764\ufe0f love": (),
    "\U0001f469\u200d\U0001f4bb": (),
    "a\ufe0f": ("U+FE0F",),
    "Suporte técnico 日本": (),
}


@pytest.mark.parametrize("text", INVISIBLE)
def test_invisible_characters_are_named(text: str) -> None:
    assert invisible_characters(text) == INVISIBLE[text]


MIXED = {
    "S\u0430les": ("Cyrillic", "Latin"),
    "Vendas \u03bfnline": ("Greek", "Latin"),
    "Продажи Sales": (),
    "サポート営業": (),
    "Atenção 24h": (),
    "日本語 Sales": (),
}


@pytest.mark.parametrize("text", MIXED)
def test_a_word_of_two_alphabets_is_named(text: str) -> None:
    assert mixed_scripts(text) == MIXED[text]
