"""Writes reconciler/support/json_schema/verdicts/: each schema as functions that raise where a value does not fit.

fastjsonschema writes the code. It knows JSON Schema up to 2019-09, where a $ref hides its neighbours, and it writes the
wording of every error, which is jsonschema's part (decision 0013). The one is made plain before, the other taken out
after, so that what is left needs no library.

python docs/compile_schemas.py     writes the modules; docs/generate.py does so too, and its --check compares them
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import fastjsonschema

ROOT = Path(__file__).parents[1]
VERDICTS = ROOT / "reconciler" / "support" / "json_schema" / "verdicts"
SILENT = {"title", "description", "examples", "default", "writeOnly", "format", "$comment", "$id", "$schema"}
KEYWORDS = {
    *("type", "enum", "const", "$ref", "$defs", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
    *("minLength", "maxLength", "pattern", "minimum", "maximum", "items", "minItems", "maxItems"),
    *("required", "properties", "additionalProperties", "propertyNames"),
}
BY_NAME = {"properties", "$defs"}
VALUES = {"const", "enum", "required", "type"}
HEADER = '''"""Made by docs/compile_schemas.py from {source}; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)
'''


def modules() -> dict[Path, str]:
    """Every module that is made, by its path."""
    sources = [ROOT / "schemas" / "manifest.v1.schema.json", ROOT / "schemas" / "plan.v1.schema.json"]
    sources += sorted((ROOT / "schemas" / "connect").glob("*.schema.json"))
    return {VERDICTS / f"{_module(source)}.py": compiled(source) for source in sources}


def _module(source: Path) -> str:
    base = source.name.partition(".")[0]
    return base if source.parent.name == "schemas" else f"{source.parent.name}_{base}"


def compiled(source: Path) -> str:
    """A module's text: `document` for the whole schema, a function for each part of it that something refers to."""
    schema = plain(json.loads(source.read_text(encoding="utf-8")))
    schema["$schema"] = "https://json-schema.org/draft/2019-09/schema"
    code = fastjsonschema.compile_to_code(schema, use_default=False, use_formats=False)
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    texts = [ast.unparse(ast.fix_missing_locations(_Verdict().visit(node))) for node in functions]
    return "\n\n".join([HEADER.format(source=source.relative_to(ROOT).as_posix()), *texts]) + "\n"


def plain(node: Any) -> Any:
    """The schema without what no verdict depends on, and with each $ref alone in its mapping."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key in SILENT:
            continue
        if key not in KEYWORDS:
            raise ValueError(f"{key}: is it compiled rightly? Try it beside jsonschema, then add it to KEYWORDS")
        if key in BY_NAME:
            kept[key] = {name: plain(part) for name, part in value.items()}
        else:
            kept[key] = value if key in VALUES else plain(value)
    if "$ref" in kept and len(kept) > 1:
        kept["allOf"] = [*kept.get("allOf", ()), {"$ref": kept.pop("$ref")}]
    return kept


class _Verdict(ast.NodeTransformer):
    """What fastjsonschema wrote, without wording, names and positions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.name = _function(node.name)
        data = ast.arg("data", ast.Name("Any"))
        node.args = ast.arguments(posonlyargs=[], args=[data], kwonlyargs=[], kw_defaults=[], defaults=[])
        node.returns = ast.Constant(None)
        node.body = node.body[:-1] or [ast.Pass()]  # without `return data`
        return node

    def visit_Raise(self, _node: ast.Raise) -> ast.Raise:
        return ast.Raise(ast.Name("Unfit"), None)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        node.type = ast.Name("Unfit")
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.UnaryOp:
        """`not isinstance(x, (str, float, …))`: half of a surrogate pair is no text, and NaN no number."""
        self.generic_visit(node)
        match node.operand:
            case ast.Call(func=ast.Name(id="isinstance"), args=[value, kinds]):
                node.operand = _of_kind(ast.unparse(value), _names(kinds))
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        match node.func:
            case ast.Name(id=name) if name.startswith("validate"):
                return ast.Call(ast.Name(_function(name)), node.args[:1], [])
            case ast.Attribute(value=ast.Subscript(value=ast.Name(id="REGEX_PATTERNS"), slice=pattern), attr="search"):
                return ast.Call(ast.Name("matches"), [pattern, *node.args], [])
            case ast.Name(id="isinstance") if isinstance(node.args[1], ast.Tuple):
                # JSON has no tuples and, as we read it, no decimals.
                kinds = [kind for kind in node.args[1].elts if ast.unparse(kind) not in ("tuple", "Decimal")]
                node.args[1] = ast.Tuple(kinds, ast.Load()) if len(kinds) > 1 else kinds[0]
        return node


def _of_kind(value: str, kinds: list[str]) -> ast.expr:
    tests = []
    if "str" in kinds:
        tests.append(f"is_text({value})")
    if "float" in kinds:
        tests.append(f"is_number({value})")
    known = {"str", *(("float", "int") if "float" in kinds else ())}
    if others := [kind for kind in kinds if kind not in known]:
        tests.append(f"isinstance({value}, ({', '.join(others)}))")
    return ast.parse(" or ".join(tests), mode="eval").body


def _names(kinds: ast.expr) -> list[str]:
    return [ast.unparse(kind) for kind in (kinds.elts if isinstance(kinds, ast.Tuple) else [kinds])]


def _function(name: str) -> str:
    return name.rpartition("__defs_")[2] if "__defs_" in name else "document"


def main() -> None:
    for path, text in modules().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
