"""database/errors: causes that share a SQLSTATE with others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import errors

from reconciler.database.errors import translated

NO_NUMBERS = "database is not accepting commands to avoid wraparound data loss in database"


def raised(kind: type[psycopg.Error], function: str, words: str, context: str | None = None) -> psycopg.Error:
    """As a server raises it."""

    class Raised(kind):  # type: ignore[misc,valid-type]
        @property
        def diag(self) -> Any:
            unset = dict.fromkeys(
                ("schema_name", "table_name", "column_name", "constraint_name", "message_hint", "message_detail")
            )
            return SimpleNamespace(source_function=function, message_primary=words, context=context, **unset)

    made: psycopg.Error = Raised(words)
    return made


def limit_exceeded(function: str, words: str) -> psycopg.Error:
    """PostgreSQL uses 54000 for an index row that is too long, too."""
    return raised(errors.ProgramLimitExceeded, function, words)


@pytest.mark.parametrize("function", ["GetNewTransactionId", "GetNewMultiXactId"])
def test_a_server_before_the_wraparound_of_its_numbers_is_read_only(function: str) -> None:
    error = translated(limit_exceeded(function, NO_NUMBERS), "database a on b:5432")
    assert error.code == "database_read_only"
    assert str(error) == f"database a on b:5432: the server does not accept writes: {NO_NUMBERS} (SQLSTATE 54000)"
    assert "VACUUM" in error.hint


def test_a_long_index_row_is_a_value_that_does_not_fit() -> None:
    error = translated(limit_exceeded("_bt_check_third_page", "index row size 3000 exceeds"), "database a")
    assert error.code == "value_unfit"


def test_a_full_disk_says_to_make_room() -> None:
    error = translated(raised(errors.DiskFull, "mdextend", "could not extend file"), "database a")
    assert (error.code, error.hint) == ("disk_full", "make room there, then run again")


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ("PL/pgSQL function inline_code_block line 3 at RAISE", True),
        ("PL/pgSQL function inline_code_block() line 3 at RAISE", False),
        ("PL/pgSQL function note() line 3 at RAISE", False),
        ("PL/pgSQL function inline_code_block line 1 at RAISE\nSQL statement\nPL/pgSQL function note() line 3", False),
    ],
    ids=["a DO block of fivrec's", "a function of that name", "a function", "a function's DO block"],
)
def test_raised_words_are_shown_only_if_they_are_fivrecs(context: str, shown: bool) -> None:
    error = translated(raised(errors.UndefinedTable, "exec_stmt_raise", "who: 123", context), "database a")
    assert ("who: 123" in str(error)) == shown
