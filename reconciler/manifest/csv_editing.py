"""Change cells in the text of a CSV file: all other cells, quotes and line breaks keep their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from reconciler.model.patterns import late

Cell: TypeAlias = tuple[int, int, str]
"""A cell's span, with its quotes, and its value."""

_CELL: Final = late(r'"((?:[^"]|"")*)"|([^,\r\n]*)')
_NEEDS_QUOTES: Final = late(r'[",\r\n]|^\s|\s$')


def replace_cells(content: bytes, changes: Mapping[tuple[int, str], str]) -> bytes:
    """`changes`: the new value of a cell, by the line on which its row begins and by its column's name."""
    mark, text = decoded(content)
    rows = _rows(text)
    _, header = next(rows)
    columns = {name.strip(): index for index, (_, _, name) in enumerate(header)}
    pieces, at = [], 0
    for line, cells in rows:
        wanted = {columns[name]: value for (row, name), value in changes.items() if row == line}
        for index, value in sorted(wanted.items()):
            start, end, _ = cells[index]
            pieces += [text[at:start], _written(value, quoted=text[start:end].startswith('"'))]
            at = end
    return mark + "".join([*pieces, text[at:]]).encode()


def decoded(content: bytes) -> tuple[bytes, str]:
    """The byte order mark, if there is one, and the text after it."""
    mark = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    return mark, content.removeprefix(mark).decode()


def _written(value: str, *, quoted: bool) -> str:
    if not quoted and not _NEEDS_QUOTES.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


def _rows(text: str) -> Iterator[tuple[int, list[Cell]]]:
    """Each row with the line on which it begins, counted like csv.reader."""
    at, line, begun = 0, 1, 1
    cells: list[Cell] = []
    while at <= len(text):
        found = _CELL.match(text, at)
        assert found is not None  # noqa: S101 (the second branch matches nothing at all, too)
        said = found[2] if found[1] is None else found[1].replace('""', '"')
        cells.append((found.start(), found.end(), said))
        line += len(re.findall(r"\r\n|\r|\n", found[0]))
        at = found.end()
        if text[at : at + 1] == ",":
            at += 1
            continue
        yield begun, cells
        at += 2 if text[at : at + 2] == "\r\n" else 1
        line += 1
        begun, cells = line, []
