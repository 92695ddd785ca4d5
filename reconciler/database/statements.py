"""Named SQL statements, loaded once from sql/kinds and sql/queries. Runs nothing.

In their text `{app}` is the schema that holds the app's tables, and `{schema}` its name as text: which table is meant
must not depend on the search_path. `{is_locked}` is the lock in the words of the app's column (sql/kinds/status.sql),
and `{yes_no}` in that are the words. `{references}` are the columns that isolation gives a foreign key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, LiteralString, TypeAlias

from reconciler.model.kinds.base import YES_NO
from reconciler.support.package_files import read_text

Statement: TypeAlias = tuple[LiteralString, dict[str, Any]]
"""A statement with its parameters."""
_MARK = "-- name: "
_APP = "{app}"
_NAME = "{schema}"
_LOCK = "{is_locked}"
_YES_NO = "{yes_no}"
_REFERENCES = "{references}"
ISOLATED: LiteralString = (
    "('conversations', 'client_id', 'clients'), ('conversations', 'queue_id', 'queues'), "
    "('conversations', 'user_id', 'users'), ('messages', 'conversation_id', 'conversations'), "
    "('messages', 'user_id', 'users')"
)
"""As (table, column, the table that it refers to): what fivrec.wanted() has, which is not there before the first
apply."""


def statement(kind: str, name: str, schema: str) -> LiteralString:
    """Returns a kind's statement: read, create, update, deactivate or remove. Raises KeyError if the kind has none."""
    return _in_schema(f"sql/kinds/{kind}.sql", name, schema)


def query(file: str, name: str, schema: str | None = None) -> LiteralString:
    """Returns a statement of sql/queries/<file>.sql. Raises ValueError if it names a table of the app and `schema` is
    None."""
    return _in_schema(f"sql/queries/{file}.sql", name, schema)


def statements(path: str) -> Mapping[str, LiteralString]:
    """Returns all statements of a file like `sql/kinds/queue.sql`, by name, as they are in the file."""
    return _load(path)


@cache
def _in_schema(path: str, name: str, schema: str | None) -> LiteralString:
    text = _load(path)[name]
    if _LOCK in text:
        text = text.replace(_LOCK, _lock())
    text = text.replace(_REFERENCES, ISOLATED)
    if _APP not in text and _NAME not in text:
        return text
    if schema is None:
        raise ValueError(f"{path}: {name} names a table of the app: the schema is needed")
    from psycopg import sql

    quoted = sql.Identifier(schema).as_string().replace("%", "%%")
    literal = quoted.replace("'", "''")
    name = sql.Literal(schema).as_string().replace("%", "%%")
    return text.replace(f"'{_APP}.", f"'{literal}.").replace(_APP, quoted).replace(_NAME, name)


def _lock() -> LiteralString:
    # Only ASCII: a database whose encoding lacks a letter would refuse the whole statement.
    pairs = [pair for pair in YES_NO if "".join(pair).isascii()]
    words = ", ".join(f"({place}, '{yes}', '{no}')" for place, (yes, no) in enumerate(pairs, start=1))
    return _load("sql/kinds/status.sql")["is_locked"].replace(_YES_NO, words)


@cache
def _load(path: str) -> Mapping[str, LiteralString]:
    _, *parts = ("\n" + read_text(path)).split("\n" + _MARK)
    loaded: dict[str, LiteralString] = {}
    for part in parts:
        name, _, text = part.partition("\n")
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
        # Text from the package's own files is as literal as strings in its code.
        loaded[name.strip()] = "\n".join(lines).strip().rstrip(";")
    return loaded
