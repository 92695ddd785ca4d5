"""Jinja2 expressions, restricted by an allow-list over the parsed tree. Parsed by Jinja2, evaluated here, node by node.

Everything that is not on the list is refused before anything runs: statements, calls, tests, slices, `*`, `**`, `%`.
The evaluation is charged by the size of every intermediate value, so that nothing can hang or grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import jinja2
from jinja2 import nodes

from reconciler.manifest.evaluation import evaluate, jinja_environment
from reconciler.manifest.template_budget import (
    Budget,
    Names,
    Parts,
    TemplateError,
    measure,
)
from reconciler.model.records import dataclass

MAX_DEPTH: Final = 50

FILTERS: Final = {
    "bool": 1,
    "capitalize": 0,
    "count": 0,
    "d": 2,
    "default": 2,
    "first": 0,
    "int": 1,
    "join": 1,
    "last": 0,
    "length": 0,
    "lower": 0,
    "replace": 3,
    "sort": 1,
    "string": 0,
    "title": 0,
    "tojson": 0,
    "trim": 1,
    "upper": 0,
}
"""Jinja2's filters that are allowed, and Ansible's bool, and how many positional arguments each may have."""

_ALLOWED: Final = (
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.CondExpr,
    nodes.Concat,
    nodes.Add,
    nodes.List,
    nodes.Dict,
    nodes.Pair,
    nodes.Filter,
)
_STATEMENTS: Final = frozenset(
    {"block_begin", "raw_begin", "comment_begin", "linestatement_begin", "linecomment_begin"}
)
_HINT: Final = "names, attributes, items, comparisons, if else, ~, + and filters are what a template may use"


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression that passed the allow-list."""

    node: nodes.Expr
    names: frozenset[str]

    def evaluate(self, names: Names, budget: Budget) -> Any:
        return evaluate(self.node, names, budget)


def parse_expressions(text: str) -> Parts:
    """The parts of a text. Raises TemplateError for anything that is not an expression on the allow-list."""
    environment = jinja_environment()
    try:
        if any(kind in _STATEMENTS for _, kind, _ in environment.lex(text)):
            raise TemplateError("statements and comments, {% … %} and {# … #}, are not allowed", _HINT)
        body = environment.parse(text).body
    except (jinja2.TemplateSyntaxError, ValueError, RecursionError) as exc:
        raise TemplateError("the template cannot be read", "check its braces, quotes and brackets") from exc
    found = (node for output in body for node in (output.nodes if isinstance(output, nodes.Output) else [output]))
    return tuple(node.data if isinstance(node, nodes.TemplateData) else _checked(node) for node in found)


def _checked(root: nodes.Node) -> Tree:
    names: set[str] = set()
    for node, depth in _walk(root):
        if depth > MAX_DEPTH:
            raise TemplateError(f"an expression nests deeper than {MAX_DEPTH} levels", "make it simpler")
        if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.Neg) and not _is_number(node.node)):
            raise TemplateError(f"{_word(node)} is not allowed in a template", _HINT)
        match node:
            case nodes.Name():
                names.add(node.name)
            case nodes.Getattr():
                _check_attribute(node, names)
            case nodes.Const():
                measure(node.value)
            case nodes.Filter():
                _check_filter(node)
            case _:
                pass
    assert isinstance(root, nodes.Expr)  # noqa: S101  all that is allowed is
    return Tree(root, frozenset(names))


def _walk(root: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        yield node, depth
        todo.extend((child, depth + 1) for child in node.iter_child_nodes())


def _check_attribute(node: nodes.Getattr, names: set[str]) -> None:
    if node.attr.startswith("_"):
        raise TemplateError("an attribute that begins with _ is not allowed in a template", _HINT)
    if isinstance(node.node, nodes.Name) and node.node.name == "vars":
        names.add(node.attr)


def _check_filter(node: nodes.Filter) -> None:
    if node.node is None or node.name not in FILTERS:
        raise TemplateError(f'the filter "{node.name[:60]}" is not allowed', f"allowed are: {', '.join(FILTERS)}")
    if node.kwargs or node.dyn_args or node.dyn_kwargs or len(node.args) > FILTERS[node.name]:
        most = FILTERS[node.name]
        raise TemplateError(f'the filter "{node.name}" takes at most {most} arguments, without names')


def _is_number(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


def _word(node: nodes.Node) -> str:
    words: dict[type[nodes.Node], str] = {
        nodes.Call: "a call",
        nodes.Mul: "*",
        nodes.Pow: "**",
        nodes.Mod: "%",
        nodes.Sub: "-",
        nodes.Neg: "-",
        nodes.Div: "/",
        nodes.FloorDiv: "//",
        nodes.Slice: "a slice",
        nodes.Test: '"is"',
        nodes.Tuple: "a tuple",
    }
    return words.get(type(node), type(node).__name__.lower())
