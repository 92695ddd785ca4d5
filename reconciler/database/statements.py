"""Named SQL statements, loaded once from sql/kinds and sql/queries. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import LiteralString

from reconciler.support.package_files import read_text

_MARK = "-- name: "


def statement(kind: str, name: str) -> LiteralString:
    """A kind's statement: read, create, update, deactivate or remove. KeyError where the kind has none of it."""
    return _load(f"sql/kinds/{kind}.sql")[name]


def query(file: str, name: str) -> LiteralString:
    """A statement of sql/queries/<file>.sql."""
    return _load(f"sql/queries/{file}.sql")[name]


def statements(path: str) -> Mapping[str, LiteralString]:
    """All statements of a file like `sql/kinds/queue.sql`, by name."""
    return _load(path)


@cache
def _load(path: str) -> Mapping[str, LiteralString]:
    _, *parts = ("\n" + read_text(path)).split("\n" + _MARK)
    loaded: dict[str, LiteralString] = {}
    for part in parts:
        name, _, text = part.partition("\n")
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
        # Files of the package are as literal as strings in its code.
        loaded[name.strip()] = "\n".join(lines).strip().rstrip(";")
    return loaded
