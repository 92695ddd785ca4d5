"""docs/errors.md and the code list the same error codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from reconciler.model.types import ErrorInfo

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| (?:<a id=\"[a-z_]+\"></a>)?`([a-z_]+)` \|", re.MULTILINE)
ANCHORED = re.compile(r"^\| <a id=\"([a-z_]+)\"></a>`\1` \|", re.MULTILINE)


def trees() -> dict[str, ast.Module]:
    found = sorted((ROOT / "reconciler").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in found}


def codes(tree: ast.Module) -> Iterator[ast.expr]:
    """Yields code="…", code = "…", the first argument of ErrorInfo, the second item of each row in PostgreSQL's
    table."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                yield value
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.IfExp(body=body, orelse=orelse)):
                yield from (body, orelse)
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield value
            case ast.Call(func=ast.Name(id="ErrorInfo"), args=[value, _] | [value, _, _]):
                yield value
            case ast.AnnAssign(target=ast.Name(id="_KNOWN"), value=ast.Tuple(elts=rows)):
                yield from (row.elts[1] for row in rows if isinstance(row, ast.Tuple))


def constants(parsed: dict[str, ast.Module]) -> dict[str, str]:
    found: dict[str, str] = {}
    for tree in parsed.values():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    found[name] = text
    return found


def raised() -> dict[str, str]:
    """Returns each code with a file that uses it."""
    parsed = trees()
    known = constants(parsed)
    found: dict[str, str] = {}
    for path, tree in parsed.items():
        for value in codes(tree):
            match value:
                case ast.Constant(value=str(code)):
                    found[code] = path
                case ast.Name(id=name) if name in known:
                    found[known[name]] = path
    return found


def documented() -> list[str]:
    return ROW.findall((ROOT / "docs/errors.md").read_text(encoding="utf-8"))


def test_every_error_code_is_documented() -> None:
    found = raised()
    assert {"guard", "disk_full", "connect_wrong_instance", "database_missing", "internal"} <= found.keys()
    assert {code: path for code, path in found.items() if code not in documented()} == {}


def test_every_documented_code_is_in_the_code() -> None:
    assert sorted(set(documented()) - raised().keys()) == []


def test_codes_are_documented_once_and_in_order() -> None:
    tables = re.split(r"^## ", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = [ROW.findall(table) for table in tables]
    assert listed == [sorted(set(found)) for found in listed]
    assert len(documented()) == len(set(documented()))


def test_every_documented_code_has_the_anchor_that_json_names() -> None:
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert ANCHORED.findall(page) == documented()
    assert ErrorInfo("busy", "held", "wait").as_json() == {
        "code": "busy",
        "message": "held",
        "hint": "wait",
        "docs": "docs/errors.md#busy",
    }
