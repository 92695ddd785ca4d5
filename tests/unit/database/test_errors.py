"""database/errors: causes that share a SQLSTATE with others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from psycopg import errors

from reconciler.database.errors import translated

NO_NUMBERS = "database is not accepting commands to avoid wraparound data loss in database"


def limit_exceeded(function: str, words: str) -> errors.ProgramLimitExceeded:
    """As a server raises it: PostgreSQL uses 54000 for an index row that is too long, too."""

    class Raised(errors.ProgramLimitExceeded):
        @property
        def diag(self) -> Any:
            unset = dict.fromkeys(("context", "schema_name", "table_name", "column_name", "constraint_name"))
            return SimpleNamespace(source_function=function, message_primary=words, **unset)

    return Raised(words)


@pytest.mark.parametrize("function", ["GetNewTransactionId", "GetNewMultiXactId"])
def test_a_server_before_the_wraparound_of_its_numbers_is_read_only(function: str) -> None:
    error = translated(limit_exceeded(function, NO_NUMBERS), "database a on b:5432")
    assert error.code == "database_read_only"
    assert str(error) == f"database a on b:5432: the server does not accept writes: {NO_NUMBERS} (SQLSTATE 54000)"
    assert "VACUUM" in error.hint


def test_a_long_index_row_is_a_value_that_does_not_fit() -> None:
    error = translated(limit_exceeded("_bt_check_third_page", "index row size 3000 exceeds"), "database a")
    assert error.code == "value_unfit"
