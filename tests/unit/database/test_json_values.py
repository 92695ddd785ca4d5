"""Values of JSON columns: as they are, or as text if not every JSON reader accepts them."""

from __future__ import annotations

import json

import pytest

from reconciler.database.rows import loads
from reconciler.model.types import MAX_DEPTH, JsonText, same


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "29",
        "-1.5e3",
        '"ação"',
        '"\\u00e7"',
        '"\\ud83d\\ude00"',
        '{"a": [1, {"b": "c"}]}',
        '"\\\\u0000"',
        "9" * 4000,
        nested(MAX_DEPTH),
        "[" + ",".join(["[]"] * 500) + "]",
    ],
)
def test_what_every_reader_takes_is_read_as_it_is(text: str) -> None:
    value = loads(text.encode())
    assert (value, type(value)) == (json.loads(text), type(json.loads(text)))


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        '{"a": [-1e999]}',
        '"\\u0000"',
        '{"\\u0000": 1}',
        '"\\ud800"',
        '["\\uDFFF"]',
        '{"a": {"\\udc00": 1}}',
        '{"a": 1, "a": 1}',
        '[{"a": {"b": 1, "\\u0062": 2}}]',
        "9" * 5000,
        nested(MAX_DEPTH + 1),
        nested(1200),
        '{"a":' * 200_000 + "1" + "}" * 200_000,
    ],
)
def test_what_not_every_reader_takes_is_read_as_its_text(text: str) -> None:
    value = loads(text.encode())
    assert (value, type(value)) == (text, JsonText)
    assert json.loads(json.dumps(value, allow_nan=False)) == text


def test_such_a_text_equals_no_declared_value() -> None:
    text = JsonText("1e999")
    assert not same("1e999", text)
    assert not same(text, "1e999")
    assert same(text, JsonText("1e999"))
    assert not same(text, float("inf"))


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        loads(b'"\xff"')
