"""Patterns that are compiled when they are first used."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import reconciler
from reconciler.model.patterns import _LatePattern, late


def test_it_is_used_like_a_compiled_pattern() -> None:
    pattern = late(r"([a-z]+)=(\d)", re.IGNORECASE)
    found = pattern.fullmatch("Ab=1")
    assert found is not None
    assert (found.groups(), pattern.sub("-", "a=1 b"), pattern.findall("a=1 b=2")) == (
        ("Ab", "1"),
        "- b",
        [("a", "1"), ("b", "2")],
    )
    assert (pattern.pattern, pattern.flags & re.IGNORECASE, late(rb"\d").search(b"a1") is not None) == (
        r"([a-z]+)=(\d)",
        re.IGNORECASE,
        True,
    )


def test_a_wrong_one_is_told_when_it_is_used() -> None:
    pattern = late("(")
    with pytest.raises(re.error, match="unterminated"):
        pattern.search("")


def test_all_of_fivrecs_can_be_compiled() -> None:
    names = [one.name for one in pkgutil.walk_packages(reconciler.__path__, "reconciler.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    found = [it for module in modules for it in vars(module).values() if isinstance(it, _LatePattern)]
    assert len(found) > 70
    assert all(isinstance(it.pattern, str | bytes) for it in found)
