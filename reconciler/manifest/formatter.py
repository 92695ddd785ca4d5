"""Format the text of a manifest: two spaces, keys in order, comments kept. Text in, text out.

The top-level keys are reordered as text, each with the comments above it, because ruamel.yaml, which does the rest,
attaches a comment to the key before it. The data is compared before and after; if it would change, or a comment would
be lost, the text is left alone. A file that is JSON stays JSON, formatted like `jq` and `python -m json.tool` do.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from reconciler.manifest.yaml.parser import YamlFile, empty_file, end_of
from reconciler.manifest.yaml.text import block_json, is_json
from reconciler.model.errors import ManifestError, ManifestProblem
from reconciler.model.kinds import SECTIONS
from reconciler.model.patterns import late

KEY_ORDER: Final = (
    "version",
    "instance",
    "labels",
    "vars",
    "database",
    "environment",
    "config",
    *SECTIONS,
    "expect",
    "usage",
    "ignore",
    "suspend",
    "defaults",
    "instances",
)
_PASSES: Final = 4
_WIDTH: Final = 100_000  # people decide where lines break
_FLOAT: Final = "tag:yaml.org,2002:float"
_START = late(r"^---(?=\s|$)[ \t]*", re.MULTILINE)
_END = late(r"^\.\.\.[ \t]*(#.*)?$", re.MULTILINE)
_DIRECTIVE = late(r"^%(YAML|TAG)\b.*$", re.MULTILINE)
_OTHER_BREAKS = late("[\x85\u2028\u2029]")
_COMMENT = late(r"(?:^|(?<=\s))#.*$", re.MULTILINE)


class Unformattable(ManifestError):
    """Raised if formatting would change the data or lose a comment. The manifest is valid all the same."""

    exit_code = 1
    code = "failed"


def format_text(path: str, text: bytes) -> str:
    """Raises ManifestError if the text is not readable YAML, or Unformattable, naming the place, if it can't be
    formatted."""
    file = YamlFile(path, text)
    documents, problems = file.read()
    if not problems and all(document.data is None for document in documents):
        problems = (empty_file(file),)
    if problems:
        raise ManifestError(problems)
    before = re.sub("\r\n?", "\n", text.decode("utf-8-sig"))
    plain = is_json(before)
    after = _format_json(before) if plain else _until_stable(path, before)
    again = YamlFile(path, after.encode()).read()[0] if after is not None else ()
    same = [document.data for document in documents] == [document.data for document in again]
    if after is None or not same or (not plain and _comments(before) != _comments(after)):
        raise Unformattable((_find_obstacle(path, before, after),))
    return after


def _find_obstacle(path: str, before: str, after: str | None) -> ManifestProblem:
    if after is None and (directive := _DIRECTIVE.search(before)):
        said = f"a file with the directive {directive.group().strip()} is not formatted"
        hint = "take that line out; the manifest means the same without it"
        return ManifestProblem(path, *end_of(before[: directive.start()]), said, hint)
    if mark := _OTHER_BREAKS.search(before):
        said = f"a line that ends by U+{ord(mark.group()):04X}; the file is not formatted"
        return ManifestProblem(path, *end_of(before[: mark.start()]), said, "end it as the others, or write an escape")
    lost = _comments(before) - _comments(after) if after is not None else Counter()
    for comment in _COMMENT.finditer(before):
        if comment.group().strip() in lost:
            hint = "move it to a line of its own, outside of { … } and [ … ]"
            return ManifestProblem(
                path, *end_of(before[: comment.start()]), "this comment would be lost; the file is not formatted", hint
            )
    said = "cannot be formatted without changing what it says or losing a comment"
    return ManifestProblem(path, 0, 0, said, "write mappings and lists as the other manifests have them")


def _format_json(text: str) -> str:
    document = json.loads(text)
    ordered = {key: document[key] for key in sorted(document, key=_rank)}
    return "\n".join(block_json(ordered)) + "\n"


def _rank(key: str) -> int:
    return KEY_ORDER.index(key) if key in KEY_ORDER else len(KEY_ORDER)


def _until_stable(path: str, text: str) -> str | None:
    """Returns None if ruamel.yaml can't read what libyaml could, or if a second formatting changes the text again."""
    from ruamel.yaml.error import YAMLError

    try:
        for _ in range(_PASSES):
            formatted = "---\n".join(_format_document(path, document) for document in _split(text))
            if formatted == text:
                return text
            text = formatted
    except YAMLError:
        pass
    return None


def _split(text: str) -> Iterator[str]:
    """Split into documents; `---` in the first column always begins one, even within a text."""
    pieces = _START.split(_END.sub(r"\1", text))
    if len(pieces) > 1 and not pieces[0].strip():
        pieces = pieces[1:]  # the file begins with ---
    yield from (piece.removeprefix("\n") for piece in pieces)


def _format_document(path: str, text: str) -> str:
    if not _COMMENT.sub("", text).strip():
        return text.strip() + "\n" if text.strip() else ""
    ordered = _order_keys(path, text)
    yaml = _round_trip()
    stream = io.StringIO()
    tree = yaml.load(ordered)
    _keep_anchors(tree)
    yaml.dump(tree, stream)
    lines = [line.rstrip() for line in stream.getvalue().strip().split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _keep_anchors(tree: Any) -> None:
    """Keep all anchors, including unused ones, which ruamel.yaml would drop."""
    todo, seen = [tree], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        anchor = node.yaml_anchor() if hasattr(node, "yaml_anchor") else None
        if anchor is not None:
            anchor.always_dump = True
        if isinstance(node, (dict, list)):
            todo.extend(node.values() if isinstance(node, dict) else node)


def _round_trip() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarfloat import ScalarFloat

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), _represent_null)
    yaml.constructor.add_constructor(_FLOAT, _construct_float)
    yaml.representer.add_representer(ScalarFloat, _represent_float)
    return yaml


def _construct_float(constructor: Any, node: Any) -> Any:
    """A float that keeps its text: ruamel.yaml would write other digits for the same value."""
    number = constructor.construct_yaml_float(node)
    if hasattr(number, "yaml_anchor"):  # neither infinity nor NaN
        number.text = node.value
    return number


def _represent_float(representer: Any, number: Any) -> Any:
    return representer.represent_scalar(_FLOAT, number.text, anchor=number.yaml_anchor(any=True))


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _order_keys(path: str, text: str) -> str:
    """Put the top-level keys in KEY_ORDER, unknown ones after them. Leaves the order if a key begins anywhere but in
    column 1, if there are aliases, which must follow their anchors, or if YAML counts lines differently."""
    if _OTHER_BREAKS.search(text):
        return text
    places = YamlFile(path, text.encode()).places({0: None}).get(0)
    keys = {key: place for key, place in places.keys.items() if key and "/" not in key} if places else {}
    if not keys or any(column != 1 for _, column in keys.values()) or re.search(r"(^|[\s:\[,-])[&*]\w", text):
        return text
    lines = text.rstrip().split("\n")
    starts = {key: _with_comments_above(lines, line - 1) for key, (line, _) in keys.items()}
    by_line = sorted(starts, key=lambda key: starts[key])
    end = _without_comments_below(lines)
    ends = [*(starts[key] for key in by_line[1:]), end]
    blocks = {key: _block(lines, starts[key], stop) for key, stop in zip(by_line, ends, strict=True)}
    ordered = sorted(by_line, key=_rank)
    if ordered == by_line:
        return text
    body = [line for key in ordered for line in blocks[key]]
    return "\n".join([*lines[: starts[by_line[0]]], *body, *lines[end:]])


def _block(lines: list[str], start: int, end: int) -> list[str]:
    """The lines of one top-level key, with the empty line above it."""
    own = "\n".join(lines[start:end]).rstrip().split("\n")
    return ["", *own] if start > 0 and not lines[start - 1].strip() else own


def _without_comments_below(lines: list[str]) -> int:
    """The end of the last key's block: comments in the first column that close the document stay there."""
    end = len(lines)
    while end > 0 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def _with_comments_above(lines: list[str], start: int) -> int:
    """The first line of a key's block: comments right above it belong to it, except those that open the document."""
    first = start
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return start if first == 0 else first


def _comments(text: str) -> Counter[str]:
    return Counter(comment.strip() for comment in _COMMENT.findall(text))
