"""Values of the app's columns as the terms of `core`: converted where that loses nothing, else refused by name."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import BY_NAME
from reconciler.model.types import Value

MOST_DIGITS: Final = 300
"""A whole number of more is kept as text: Python writes none of thousands, and none of our columns needs it."""


def plain_value(value: Any, kind: str, column: str, row_id: Any) -> Value:
    """A column's value. DatabaseError `column_type`, naming table, column and row, if its type has no JSON form."""
    match value:
        case None | bool() | int() | str() | list() | dict():
            return value
        case float():
            return value if math.isfinite(value) else str(Decimal(value))
        case Decimal():
            return _number(value)
        case UUID():
            return str(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                pass
    raise _other_type(value, kind, column, row_id)


def time_value(value: Any, kind: str, column: str, row_id: Any) -> datetime | None:
    """A column's time, aware: also a day, or the text of one. DatabaseError as of `plain_value`."""
    match value:
        case None:
            return None
        case datetime():
            found = value
        case date():
            found = datetime.combine(value, time())
        case str():
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                raise _other_type(value, kind, column, row_id) from None
        case _:
            raise _other_type(value, kind, column, row_id)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def yes_no_value(value: Any) -> bool:
    """A column's yes or no, also where the app keeps it as a number or as a word of PostgreSQL's."""
    return value.strip().lower() in ("t", "true", "y", "yes", "on", "1") if isinstance(value, str) else bool(value)


def _other_type(value: Any, kind: str, column: str, row_id: Any) -> DatabaseError:
    table = BY_NAME[kind].table if kind in BY_NAME else kind
    return DatabaseError(
        f"{table}.{column}, row {row_id}: its type ({type(value).__name__}) is not the documented one",
        hint="change the column's type, or compare the app's tables with what `fivrec sql` prints",
        code="column_type",
    )


def _number(value: Decimal) -> Value:
    """An int or float if it is that very number, else its text: PostgreSQL's numeric holds more than JSON does."""
    if not value.is_finite() or value.adjusted() > MOST_DIGITS:
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)
