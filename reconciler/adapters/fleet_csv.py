"""Read a fleet's CSV file: a column per variable, a row an instance. Each row keeps its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from reconciler.adapters.manifest_places import Row
from reconciler.adapters.validation import load_schema
from reconciler.errors import Problem


def read_rows(content: bytes, path: str) -> Iterator[tuple[Row, dict[str, str]] | Problem]:
    """Each row's place and values. A row that does not fit is a problem; the others are read on."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        yield Problem(path, line, 1, "the CSV file is not UTF-8", "save it as UTF-8")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if refusal := _refuse_header(header, path):
            yield refusal
            return
        line, empty = reader.line_num + 1, True
        for cells in reader:
            if any(cells):
                empty = False
                yield _read_row(header, cells, path, line)
            line = reader.line_num + 1
    except csv.Error:
        yield Problem(path, reader.line_num, 1, "the row is not CSV", "check its quotes")
        return
    if empty:
        yield Problem(path, 1, 1, "the CSV file has a header and no rows", "add a row an instance")


def _refuse_header(header: list[str], path: str) -> Problem | None:
    pattern = re.compile(load_schema("manifest")["$defs"]["vars"]["propertyNames"]["pattern"])
    if "instance" not in header:
        return Problem(path, 1, 1, 'the CSV file has no column "instance"', "its first line names the columns")
    if len(set(header)) < len(header):
        return Problem(path, 1, 1, "two columns have one name", "keep one of them")
    for name in header:
        if name != "instance" and not pattern.search(name):
            return Problem(path, 1, 1, f'"{name[:60]}" is no name for a variable', "letters, digits and _ are")
    return None


def _read_row(header: list[str], cells: list[str], path: str, line: int) -> tuple[Row, dict[str, str]] | Problem:
    if len(cells) != len(header):
        return Problem(path, line, 1, f"the row has {len(cells)} cells, the header {len(header)}", "check its commas")
    if any("\x00" in cell for cell in cells):
        return Problem(path, line, 1, "a cell holds a NUL character", "take it out")
    values = dict(zip(header, cells, strict=True))
    return Row(path, line, frozenset(header)), values
