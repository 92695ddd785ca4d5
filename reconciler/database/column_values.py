"""Values of the app's columns as the model's values: converted if that loses nothing, else refused by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from psycopg import DataError, adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.string import TextLoader

from reconciler.model.errors import DatabaseError
from reconciler.model.kinds import BY_NAME
from reconciler.model.kinds.base import YES_NO
from reconciler.model.types import Value

MOST_DIGITS: Final = 300
"""Longer numbers are kept as text: Python won't write thousands of digits, and no column of fivrec's needs them."""


_FIRST: Final = datetime(1, 1, 2)  # noqa: DTZ001 (as columns without a time zone are read)
_LAST: Final = datetime(9999, 12, 30)  # noqa: DTZ001


class _BoundedTime(Loader):
    """Reads infinity, and years after 9999 or before Christ, as the last or first day that Python can handle: one such
    row, no matter who wrote it, must not keep all others from being read."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        found = adapters.get_loader(oid, Format.TEXT)
        assert found is not None  # noqa: S101 (for the type checker: psycopg has one for each time)
        self._usual = found(oid, context)
        self._zone = UTC if oid == adapters.types["timestamptz"].oid else None

    def load(self, data: Buffer) -> Any:
        try:
            return self._usual.load(data)
        except DataError:
            text = bytes(data)
            bound = _FIRST if text.startswith(b"-") or text.endswith(b"BC") else _LAST
            return bound.replace(tzinfo=self._zone)


class _Unpadded(TextLoader):
    """Strips the blanks that pad a char(n): PostgreSQL ignores them too when it compares or casts the value."""

    def load(self, data: Buffer) -> str | bytes:
        return super().load(bytes(data).rstrip(b" "))


def register_loaders(context: AdaptContext) -> None:
    """Register the loaders above for connections that take their adapters from `context`."""
    for name in ("timestamp", "timestamptz"):
        context.adapters.register_loader(name, _BoundedTime)
    context.adapters.register_loader("bpchar", _Unpadded)


def plain_value(value: Any, kind: str, column: str, row_id: Any) -> Value:
    """Returns a column's value. Raises DatabaseError `column_type`, naming table, column and row, if it isn't JSON."""
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


def whole_value(value: Any) -> int | None:
    """Returns a column's number, rounded for display, or None if it holds none."""
    try:
        found = Decimal(value) if isinstance(value, (str, int, float, Decimal)) else None
    except ArithmeticError:
        return None
    return round(found) if found is not None and found.is_finite() and found.adjusted() <= MOST_DIGITS else None


def time_value(value: Any, kind: str, column: str, row_id: Any) -> datetime | None:
    """Returns a column's time, aware; also from a date, or a text. Raises DatabaseError like `plain_value`."""
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


def text_value(value: Any) -> str | None:
    """Returns a column's text for display, whatever its type: one odd column must not make the rest unreadable."""
    match value:
        case None | str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


_YES = frozenset(yes.lower() for yes, _ in YES_NO)


def yes_no_value(value: Any) -> bool:
    """Returns a column's yes or no, even if the app stores it as a number or a word. A list or an object is a no."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value.strip().lower() in _YES
    return bool(value) and not isinstance(value, (list, dict))


def spellings(text: str) -> tuple[str, ...]:
    """Returns how a name may look when it is cast to text from a column of type text, json, bytea, array or record."""
    return (text, f'"{text}"', f"\\x{text.encode().hex()}", f"{{{text}}}", f'["{text}"]', f"({text})")


def _other_type(value: Any, kind: str, column: str, row_id: Any) -> DatabaseError:
    table = BY_NAME[kind].table if kind in BY_NAME else kind
    return DatabaseError(
        f"{table}.{column}, row {row_id}: its type ({type(value).__name__}) is not the documented one",
        hint="change the column's type, or compare the app's tables with what `fivrec sql` prints",
        code="column_type",
    )


def _number(value: Decimal) -> Value:
    """Returns an int or float if it is exactly that number, else its text: numeric can hold more than JSON."""
    if not value.is_finite() or value.adjusted() > MOST_DIGITS:
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)
