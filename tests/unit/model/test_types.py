"""canonical and same: equality as JSON has it."""

from __future__ import annotations

import json

import pytest

from reconciler.model.secret import Secret
from reconciler.model.types import Key, Value, canonical, same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, None),
        (1, 1.0),
        (0.0, -0.0),
        (29, 2.9e1),
        (1e20, 10**20),
        (1.5e300, int("15" + "0" * 299)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, {"x": 2.0}], [1.0, {"x": 2}]),
        ((1, 2), [1, 2]),
        ("é", "\u00e9"),
        (Secret("a"), Secret("a")),
    ],
)
def test_the_same(one: Value, other: Value) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (False, 0),
        (False, None),
        (None, ""),
        (0, ""),
        ("1", 1),
        (1, 1.5),
        (2**53, 2**53 + 1),
        (2**63, 2**63 + 1),
        ([1, 2], [2, 1]),
        ([], {}),
        ({"a": None}, {}),
        ("é", "e\u0301"),
        ("a", "A"),
        (Secret("a"), Secret("b")),
        (Secret("a"), "a"),
        (Secret(""), None),
        (Secret("(sensitive)"), "(sensitive)"),
    ],
)
def test_not_the_same(one: Value, other: Value) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_canonical_is_json_with_sorted_keys_and_no_spaces() -> None:
    assert canonical({"b": [True, None, 1.0, 0.5], "a": "é"}) == '{"a":"é","b":[true,null,1,0.5]}'


def test_a_lone_surrogate_can_be_hashed_and_is_not_its_escape() -> None:
    assert canonical(["\ud800", "\\ud800", "😀"]) == '["\\ud800","\\\\ud800","😀"]'
    assert json.loads(canonical("\ud800")) == "\ud800"


def test_canonical_refuses_a_secret_without_showing_it() -> None:
    with pytest.raises(TypeError) as caught:
        canonical({"password": Secret("hunter2")})
    assert "hunter2" not in str(caught.value)


def test_keys_are_shown_and_sorted_by_kind_then_name() -> None:
    keys = [Key("queue", "b"), Key("plan", "z"), Key("queue", "a")]
    assert [str(key) for key in sorted(keys)] == ["plan/z", "queue/a", "queue/b"]
