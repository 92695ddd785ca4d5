"""Change values in the text of YAML in place: everything else keeps its bytes, comments and style.

Text and data in, text out. Compares the data before and after, and replaces the text of each difference. ruamel.yaml
would write the whole file again, in its own style, and move comments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final, Literal

from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
)

from reconciler.manifest.yaml.events import NextEvent, open_events, scalar_text
from reconciler.manifest.yaml.text import Quote, block, block_item, block_json, inline, inline_json, is_json
from reconciler.model.records import dataclass
from reconciler.model.types import same

GONE: Final = object()
"""Stands in the new data for an item that is removed from a list, so that the others keep their indexes."""


_QUOTES: Final = ("'", '"')


class Unwritable(Exception):
    """Why a change can't be written here, as the end of a sentence that begins with what was to be changed."""


@dataclass(slots=True)
class Node:
    """A value in the text: the span of its own content, without trailing comments. `anchor`: its name, if any."""

    kind: Literal["scalar", "alias", "mapping", "sequence"]
    start: int
    end: int
    flow: bool = False
    anchor: str | None = None
    quote: Quote | None = None
    keys: list[tuple[str, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Splice:
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Alias:
    """The position of an alias, and where the node begins that it refers to."""

    of: int
    start: int
    end: int


@dataclass(slots=True)
class _Reader:
    text: str
    aliases: list[Alias] = field(default_factory=list)
    anchors: dict[str, int] = field(default_factory=dict)

    def documents(self) -> tuple[list[Node], tuple[Alias, ...]]:
        """The root of each document, and the aliases. The text is one that YamlFile.read accepts."""
        following = open_events(self.text.encode())
        roots: list[Node] = []
        while (event := following()) is not None:
            if isinstance(event, DocumentStartEvent):
                roots.append(self._node(following(), following))
        return roots, tuple(self.aliases)

    def _node(self, event: Any, following: NextEvent) -> Node:
        kind, start, end = type(event), int(event.start_mark.index), int(event.end_mark.index)
        if kind is AliasEvent:
            self.aliases.append(Alias(self.anchors[event.anchor], start, end))
            return Node("alias", start, end)
        if event.anchor is not None:
            self.anchors[event.anchor] = start
        if kind is ScalarEvent:
            end = start + len(self.text[start:end].rstrip())
            return Node(
                "scalar", start, end, anchor=event.anchor, quote=event.style if event.style in _QUOTES else None
            )
        node = Node(
            "mapping" if kind is MappingStartEvent else "sequence", start, start, event.flow_style, event.anchor
        )
        while not isinstance(event := following(), CollectionEndEvent):
            child = self._node(event, following)
            if node.kind == "mapping":
                node.keys.append((scalar_text(event), child))
                child = self._node(following(), following)
            node.items.append(child)
        node.end = int(event.end_mark.index) if node.flow else max(child.end for child in node.items)  # type: ignore[union-attr]
        return node


def edit(text: str, changes: Sequence[tuple[int, Any, Any]]) -> str:
    """Returns the text with documents changed: (index, data before, data after). JSON stays JSON. Raises Unwritable."""
    roots, aliases = _Reader(text).documents()
    editor = _Editor(text, aliases, "\r\n" if "\r\n" in text else "\n", is_json(text))
    for index, before, after in changes:
        editor.change(roots[index], before, after)
    return editor.result()


def without_gone(value: Any) -> Any:
    """A copy in which every alias has a value of its own: a change in one place leaves the others alone."""
    match value:
        case dict():
            return {key: without_gone(item) for key, item in value.items()}
        case list():
            return [without_gone(item) for item in value if item is not GONE]
        case _:
            return value


@dataclass(slots=True)
class _Editor:
    text: str
    aliases: tuple[Alias, ...]
    newline: str
    json: bool = False
    splices: list[Splice] = field(default_factory=list)
    loosened: dict[int, Node] = field(default_factory=dict)

    def result(self) -> str:
        self._move_anchors()
        pieces, at = [], 0
        for splice in sorted(self.splices, key=lambda one: (one.start, one.end)):
            if splice.start < at:
                raise Unwritable("two changes meet in one place of the file")
            pieces += [self.text[at : splice.start], splice.text]
            at = splice.end
        return "".join([*pieces, self.text[at:]])

    def change(self, node: Node, before: Any, after: Any, key: Node | None = None) -> None:
        """`key` is the key of the node's value; None for items and the root."""
        if after is not GONE and same(without_gone(before), without_gone(after)):
            return
        if node.anchor is not None:
            self._loosen(node)
        match before, after:
            case dict(), dict() if node.kind == "mapping" and self._change_mapping(node, before, after):
                return
            case list(), list() if node.kind == "sequence" and self._change_sequence(node, before, after):
                return
        self._replace(node, without_gone(after), key)

    def _replace(self, node: Node, after: Any, key: Node | None) -> None:
        self._loosen(node)
        quote = node.quote if isinstance(after, str) else None
        start, text = node.start, self._written_again(node, after) if self.json else inline(after, quote)
        if node.kind in ("mapping", "sequence") and not node.flow and key is not None:
            start = self.text.index(":", key.end) + 1  # its lines begin below the key
            text = f" {text}"
        elif node.start == node.end:
            text = f" {text}"  # nothing was written: right after the colon or the dash
        self.splices.append(Splice(start, node.end, text))

    def _written_again(self, node: Node, after: Any) -> str:
        """As JSON, on lines of its own if it was like that before."""
        if not node.items or self._line_end(node.start) >= node.end:
            return inline_json(after)
        first = node.keys[0][1] if node.keys else node.items[0]
        base = self._indentation(node.start)
        step = self._indentation(first.start)[len(base) :] or "  "
        return f"{self.newline}{base}".join(block_json(after, step))

    def _loosen(self, node: Node) -> None:
        """Aliases elsewhere may refer to text that is removed or changed."""
        if node.anchor is not None:
            self.loosened[node.start] = node
        for item in node.items:
            self._loosen(item)

    def _move_anchors(self) -> None:
        """The first remaining alias is replaced by the value that it referred to, with its anchor."""
        for start, node in self.loosened.items():
            aliases = (alias for alias in self.aliases if alias.of == start)
            left = [alias for alias in aliases if not self._is_replaced(alias.start, alias.end)]
            if not left:
                continue
            text = self.text[start : node.end]
            if "\n" in text:
                raise Unwritable(f"its value has the anchor &{node.anchor}, which is used elsewhere too")
            self.splices.append(Splice(left[0].start, left[0].end, text))
            name = re.compile(r"&\S+\s*").match(text)
            if name is not None and not self._is_replaced(start, start + name.end()):
                self.splices.append(Splice(start, start + name.end(), ""))

    def _is_replaced(self, start: int, end: int) -> bool:
        return any(splice.start <= start and end <= splice.end for splice in self.splices)

    def _change_mapping(self, node: Node, before: dict[str, Any], after: dict[str, Any]) -> bool:
        """Returns False if it has to be written again, on one line."""
        written = [name for name, _ in node.keys]
        removed = [name for name in before if name not in after]
        if not after or (removed and node.flow):
            return False
        if not set(removed) <= set(written):
            raise Unwritable("it comes from a merge key (<<)")
        for index, (name, key) in enumerate(node.keys):
            if name in removed:
                self._remove_lines(node, index)
            elif name in after and name in before:
                self.change(node.items[index], before[name], after[name], key)
        added = {
            name: without_gone(value)
            for name, value in after.items()
            if name not in written and not (name in before and same(before[name], without_gone(value)))
        }
        if added:
            self._add_keys(node, added)
        return True

    def _change_sequence(self, node: Node, before: list[Any], after: list[Any]) -> bool:
        kept = [item for item in after if item is not GONE]
        shorter = len(after) < len(before) or len(kept) < len(after)
        if not kept or (shorter and node.flow):
            return False
        for index, item in enumerate(node.items):
            if index >= len(after) or after[index] is GONE:
                self._remove_lines(node, index)
            else:
                self.change(item, before[index], after[index])
        more = [without_gone(item) for item in after[len(before) :]]
        if more:
            self._add_items(node, more)
        return True

    def _add_keys(self, node: Node, added: dict[str, Any]) -> None:
        if node.flow:
            self._add_in_flow(node, [self._inline({name: value})[1:-1] for name, value in added.items()])
            return
        self._add_lines(node, block(added))

    def _add_items(self, node: Node, more: list[Any]) -> None:
        if node.flow:
            self._add_in_flow(node, [self._inline(item) for item in more])
            return
        in_flow = node.items[-1].flow
        lines = (
            [f"- {inline(item)}" for item in more] if in_flow else [one for item in more for one in block_item(item)]
        )
        self._add_lines(node, lines)

    def _inline(self, value: Any) -> str:
        return inline_json(value) if self.json else inline(value)

    def _add_in_flow(self, node: Node, words: list[str]) -> None:
        """After the last entry; in JSON on lines of its own unless everything is on one line."""
        if not node.items:
            at = node.start + 1 + self._anchor_length(node)
            self.splices.append(Splice(at, at, ", ".join(words)))
            return
        at, last = node.items[-1].end, node.keys[-1][1] if node.keys else node.items[-1]
        alone = self.json and not self.text[self._line_start(last.start) : last.start].strip()
        between = f",{self.newline}{self._indentation(last.start)}" if alone else ", "
        self.splices.append(Splice(at, at, "".join(f"{between}{word}" for word in words)))

    def _anchor_length(self, node: Node) -> int:
        """How far before its bracket a node's span begins."""
        return min(found for mark in "{[" if (found := self.text.find(mark, node.start)) >= 0) - node.start

    def _add_lines(self, node: Node, lines: list[str]) -> None:
        """At its end, indented as its first entry."""
        first, at = self._entry_start(node, 0), self._line_end(node.end)
        column = first - self._line_start(first)
        text = "".join(f"{' ' * column}{line}{self.newline}" for line in lines)
        if at == len(self.text) and not self.text.endswith("\n"):
            text = self.newline + text.removesuffix(self.newline)
        self.splices.append(Splice(at, at, text))

    def _remove_lines(self, node: Node, index: int) -> None:
        """Remove an entry with its lines; comments above it stay, trailing ones are removed with it."""
        item = node.items[index]
        self._loosen(item)
        start = self._entry_start(node, index)
        line = self._line_start(start)
        if not self.text[line:start].strip():
            self.splices.append(Splice(line, self._line_end(item.end), ""))
        elif index + 1 < len(node.items):
            self.splices.append(Splice(start, self._entry_start(node, index + 1), ""))
        else:
            raise Unwritable("it is written in a way that it can't be taken out of")

    def _entry_start(self, node: Node, index: int) -> int:
        """Where an entry begins: at its dash, its key, or the `?` before its key."""
        if node.kind == "sequence":
            return self.text.rindex("-", 0, node.items[index].start)
        key = node.keys[index][1]
        before = self.text[self._line_start(key.start) : key.start].rstrip(" ")
        marked = before.endswith("?") and before[-2:-1] in ("", " ")
        return self._line_start(key.start) + len(before) - 1 if marked else key.start

    def _line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def _indentation(self, at: int) -> str:
        line = self.text[self._line_start(at) : at]
        return line[: len(line) - len(line.lstrip())]

    def _line_end(self, at: int) -> int:
        """The position after the line break of the line that contains `at`."""
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found + 1
