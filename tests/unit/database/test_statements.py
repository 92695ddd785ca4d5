"""The parts of statements that Python fills in."""

from __future__ import annotations

import re

import pytest

from reconciler.database.column_values import yes_no_value
from reconciler.database.statements import query, statement
from reconciler.model.kinds.base import YES_NO

LOCKS = {
    "create": statement("status", "create", "public"),
    "update": statement("status", "update", "public"),
    "answered": query("record", "answered", "public"),
}


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_is_written_in_the_words_that_are_read(name: str) -> None:
    pairs = re.findall(r"\(\d+, '([^']*)', '([^']*)'\)", LOCKS[name])
    assert pairs == [pair for pair in YES_NO if "".join(pair).isascii()]
    assert [(yes_no_value(yes), yes_no_value(no)) for yes, no in pairs] == [(True, False)] * len(pairs)


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_fits_a_database_of_any_encoding(name: str) -> None:
    assert LOCKS[name].isascii()
    assert "{" not in LOCKS[name]
