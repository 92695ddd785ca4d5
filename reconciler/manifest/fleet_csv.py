"""Read a fleet's CSV file: a column per variable, a row per instance. Each row keeps its line number."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

from reconciler.manifest.positions import Row, instance_of
from reconciler.manifest.variables import name_problem
from reconciler.manifest.yaml.scalars import UNSTORABLE
from reconciler.model.errors import ManifestProblem

csv.field_size_limit(64 * 1024 * 1024)  # as large as a file may be; the schema reports a cell that is too long
_LINE_END: Final = re.compile(r"\r\n?")
"""Read as a line feed, as in YAML: how a file is checked out is no part of a value."""
NOT_CSV: Final = "the row is not CSV, so neither it nor what follows is read"


def read_rows(content: bytes, path: str) -> Iterator[tuple[Row, dict[str, str]] | ManifestProblem]:
    """Each row's position and values. A row that does not fit is a problem; the others are still read."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        yield ManifestProblem(path, line, 1, "the CSV file is not UTF-8", "save it as UTF-8")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if refusal := _refuse_header(header, path):
            yield refusal
            return
        line, empty = reader.line_num + 1, True
        for cells in reader:
            if any(map(str.strip, cells)):
                empty = False
                yield _read_row(header, cells, path, line)
            line = reader.line_num + 1
    except csv.Error:
        # The line on which the row begins: an unclosed quote continues to the end of the file.
        yield ManifestProblem(path, line, 1, NOT_CSV, "check its quotes", row=f"{path}:{line}")
        return
    if empty:
        yield ManifestProblem(path, 1, 1, "the CSV file has a header and no rows", "add a row per instance")


def _refuse_header(header: list[str], path: str) -> ManifestProblem | None:
    if "instance" not in header:
        message = 'the CSV file has no column "instance"'
        return ManifestProblem(path, 1, 1, message, _hint_of_columns(header))
    seen: set[str] = set()
    for number, name in enumerate(header, 1):
        if not name:
            hint = "name it, or take it out of every row"
            return ManifestProblem(path, 1, 1, f"column {number} of {len(header)} has no name", hint)
        if name in seen:
            return ManifestProblem(path, 1, 1, f'two columns are called "{name[:60]}"', "keep one of them")
        seen.add(name)
        if name != "instance" and (reason := name_problem(name)):
            return ManifestProblem(path, 1, 1, f'"{name[:60]}" {reason[0]}', reason[1])
    return None


def _hint_of_columns(header: list[str]) -> str:
    """A hint on a first line without an instance column: what spreadsheets write."""
    first = header[0] if header else ""
    if first.lower().startswith("sep="):
        return f'take the line "{first[:4]}…" out, and separate the columns by commas'
    if len(header) == 1 and any(mark in first for mark in ";\t|"):
        return "separate its columns by commas"
    other = next((name for name in header if name.lower() == "instance"), None)
    return f"write instance, not {other}" if other else "its first line names the columns"


def _read_row(
    header: list[str], cells: list[str], path: str, line: int
) -> tuple[Row, dict[str, str]] | ManifestProblem:
    row = f"{path}:{line}"
    cells = [_LINE_END.sub("\n", cell.strip()) for cell in cells]
    if len(cells) != len(header):
        message = f"the row has {len(cells)} cells, the header {len(header)}"
        first = instance_of({header[0]: cells[0]})  # the quote is before any comma that may be one too many
        return ManifestProblem(path, line, 1, message, "check its commas", first, row)
    values = dict(zip(header, cells, strict=True))
    for name, cell in values.items():
        if UNSTORABLE.search(cell):
            message = f'"{name}" holds a character that cannot be stored'
            return ManifestProblem(path, line, 1, message, "take it out", instance_of(values), row)
    return Row(path, line, frozenset(header)), values
