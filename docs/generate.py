"""Writes docs/reference/ (from the manifests' schema and --help), the schema for editors, anchors in docs/errors.md.

python docs/generate.py            writes all of it
python docs/generate.py --check    exits 1 where a file differs from what would be written
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import editor_schema

from reconciler.cli.main import COMMANDS, EXIT_CODES, cli

DOCS = Path(__file__).parent
SCHEMAS = DOCS.parent / "schemas"
WIDTH = 100
AFTER_EXIT_CODES = """64, 65 and 78 are found before anything is written. If several instances end differently:
5 if some are done and some are not, else the one code that they share, else 1. `diff` ends with 1 or 5 rather than 2
if an instance failed. [Error codes](../errors.md) names the exit code of each error.

A script reads the result with `-o json`: one document, also if something failed. `fivrec schema report` prints its
JSON Schema; keys are added within report version 1, never removed."""


def pages() -> dict[Path, str]:
    """Every file that is made, by its path."""
    reference = DOCS / "reference"
    written = {reference / "manifest.md": manifest_page(), reference / "commands.md": commands_page()}
    written[reference / "exit-codes.md"] = exit_codes_page()
    return {**written, editor_schema.TARGET: editor_schema.page(), DOCS / "errors.md": errors_page()}


def errors_page() -> str:
    """The page as it is written, with an anchor in each row that has none: the JSON of an error names it."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    return re.sub(r"^\| `([a-z_]+)` \|", r'| <a id="\1"></a>`\1` |', page, flags=re.MULTILINE)


def exit_codes_page() -> str:
    found = re.findall(r"^  (\d+) +(.*)$", EXIT_CODES, re.MULTILINE)
    lines = [
        "# Exit codes",
        "",
        "Made from `fivrec --help`. The same table is in README.",
        "",
        "| code | means |",
        "| --- | --- |",
    ]
    lines += [f"| {code} | {meaning} |" for code, meaning in found]
    lines += [
        "",
        AFTER_EXIT_CODES,
        "",
    ]
    return "\n".join(lines)


def manifest_page() -> str:
    schema = json.loads((SCHEMAS / "manifest.v1.schema.json").read_text(encoding="utf-8"))
    lines = [
        "# The manifest, version 1",
        "",
        (
            "Made from `schemas/manifest.v1.schema.json`. `fivrec schema manifest` prints it for editors: "
            "`{{ … }}` may stand in place of every scalar."
        ),
        "",
        schema["description"],
        "",
    ]
    definitions = schema["$defs"]
    for title, name in (("An instance", "instance"), ("A fleet", "fleet")):
        lines += [f"## {title}", "", definitions[name]["description"], ""]
        lines += ["| key | value | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(*found) for found in _keys(definitions[name], definitions)]
        lines.append("")
    return "\n".join(lines)


def _keys(node: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key below a node with its definition, depth first, in the schema's order."""
    for name, child in _properties(node, definitions).items():
        found = _resolved(child, definitions)
        place = f"{path}{name}"
        yield place, found
        if place in ("defaults", "overrides", "vars") or path.count(".") > 2:  # noqa: PLR2004
            continue
        yield from _keys(found, definitions, f"{place}.")
        items = found.get("items")
        for option in (found, *(_resolved(one, definitions) for one in _options(found))):
            items = option.get("items") or items
            if option is not found and option.get("type") == "object" and not _is_reference(option):
                yield from _keys(option, definitions, f"{place}.")
        if items and "instance" not in place:
            yield from _keys(_resolved(items, definitions), definitions, f"{place}[].")


def _properties(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in (*(_resolved(part, definitions) for part in node.get("allOf", ()) if "$ref" in part), node):
        found |= one.get("properties", {})
    return found


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].removeprefix("#/$defs/")]
    return {**target, **{name: value for name, value in node.items() if name != "$ref"}}


def _options(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [*node.get("oneOf", ()), *node.get("anyOf", ())]


def _is_reference(node: dict[str, Any]) -> bool:
    return {"env", "file", "command"} <= set(node.get("properties", {}))


def _row(path: str, node: dict[str, Any]) -> str:
    examples = node.get("examples", ())
    cells = (
        f"`{path}`",
        _type(node),
        _code(node["default"]) if "default" in node else "",
        node.get("description", node.get("title", "")),
        _code(examples[0]) if examples else "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(_code(value) for value in node["enum"])
    if "const" in node:
        return _code(node["const"])
    kind = node.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def commands_page() -> str:
    lines = ["# Commands", "", "Made from `--help`.", "", "```text", _help(cli, "fivrec", None), "```", ""]
    for name in COMMANDS:
        try:
            command = cli.get_command(click.Context(cli), name)
        except ModuleNotFoundError:
            continue
        assert command is not None
        lines += _command(command, f"fivrec {name}")
    return "\n".join(lines)


def _command(command: click.Command, path: str) -> list[str]:
    lines = [f"## {path}", "", "```text", _help(command, path, None), "```", ""]
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            lines += ["#" + line if line.startswith("## ") else line for line in _command(child, f"{path} {name}")]
    return lines


def _help(command: click.Command, path: str, parent: click.Context | None) -> str:
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(command, info_name=path, parent=parent, **settings)
    return command.get_help(context).rstrip()


def main() -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"stale: {path.relative_to(DOCS.parent)}; run python docs/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
