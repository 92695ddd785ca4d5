"""Jinja2 expressions, by an allow-list over the parsed tree. Parsed by Jinja2, evaluated here, node by node.

What the list does not name is refused before anything runs: statements, calls, tests, slices, `*`, `**`, `%`. What
runs is charged by the size of every intermediate value, so that nothing can hang or grow.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jinja2
from jinja2 import nodes

from reconciler.adapters.templates import (
    MAX_RENDERED,
    TOO_LARGE,
    Budget,
    Names,
    Parts,
    TemplateError,
    measure,
    to_text,
    undefined,
)

MAX_DEPTH: Final = 50

FILTERS: Final = {
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
"""The filters, as Jinja2 has them, and how many positional arguments each may have."""

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
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
class _Missing:
    """What is not there, until `default` takes it or an error names it."""

    error: TemplateError


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression that passed the allow-list."""

    node: nodes.Expr
    names: frozenset[str]

    def evaluate(self, names: Names, budget: Budget) -> Any:
        try:
            return _Evaluation(names, budget).value(self.node)
        except (
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
            MemoryError,
        ) as exc:
            raise TemplateError("the expression does not fit the values that it is given") from exc
        except jinja2.TemplateError as exc:
            raise TemplateError("a filter does not fit the value that it is given") from exc


def parse_expressions(text: str) -> Parts:
    """The parts of a text. TemplateError for what is not an expression of the allow-list."""
    environment = _environment()
    try:
        if any(kind in _STATEMENTS for _, kind, _ in environment.lex(text)):
            raise TemplateError("statements and comments, {% … %} and {# … #}, are not allowed", _HINT)
        body = environment.parse(text).body
    except (jinja2.TemplateSyntaxError, ValueError, RecursionError) as exc:
        raise TemplateError("the template cannot be read", "check its braces, quotes and brackets") from exc
    found = (node for output in body for node in (output.nodes if isinstance(output, nodes.Output) else [output]))
    return tuple(node.data if isinstance(node, nodes.TemplateData) else _checked(node) for node in found)


@cache
def _environment() -> jinja2.Environment:
    # Nothing is rendered by it: it reads expressions and lends its filters. S701 is about HTML.
    return jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701


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


class _Evaluation:
    """One evaluation: the names seen, and the budget that every value is charged to."""

    __slots__ = ("_budget", "_names")

    def __init__(self, names: Names, budget: Budget) -> None:
        self._names = names
        self._budget = budget

    def value(self, node: nodes.Expr) -> Any:
        value = self._value_or_missing(node)
        if isinstance(value, _Missing):
            raise value.error
        self._budget.spend_work(measure(value) + 1)
        return value

    def _value_or_missing(self, node: nodes.Expr) -> Any:  # noqa: C901, PLR0911, PLR0912  one line a node
        match node:
            case nodes.Const():
                return node.value
            case nodes.Name():
                return self._item(self._names, node.name)
            case nodes.Getattr():
                return self._item(self.value(node.node), node.attr)
            case nodes.Getitem():
                assert isinstance(node.arg, nodes.Expr)  # noqa: S101  the allow-list refused slices
                return self._item(self.value(node.node), self.value(node.arg))
            case nodes.Neg():
                return -self.value(node.node)
            case nodes.Not():
                return not self.value(node.node)
            case nodes.And():
                return self.value(node.left) and self.value(node.right)
            case nodes.Or():
                return self.value(node.left) or self.value(node.right)
            case nodes.CondExpr():
                return self._choice(node)
            case nodes.Compare():
                return self._comparison(node)
            case nodes.Concat():
                return self._bounded_join("", [to_text(self.value(part)) for part in node.nodes])
            case nodes.Add():
                return self._sum(self.value(node.left), self.value(node.right))
            case nodes.List():
                return [self.value(item) for item in node.items]
            case nodes.Dict():
                return {_key(self.value(pair.key)): self.value(pair.value) for pair in node.items}
            case nodes.Filter():
                return self._filter(node)
            case _:
                raise TemplateError(f"{_word(node)} is not allowed in a template", _HINT)

    def _item(self, value: Any, key: Any) -> Any:
        if isinstance(value, Mapping):
            return value[key] if key in value else _Missing(undefined(str(key), value))
        if isinstance(value, (list, str)) and isinstance(key, int) and -len(value) <= key < len(value):
            return value[key]
        return _Missing(undefined(str(key), None))

    def _choice(self, node: nodes.CondExpr) -> Any:
        if self.value(node.test):
            return self.value(node.expr1)
        if node.expr2 is None:
            raise TemplateError("an if without else gives nothing here", "add else")
        return self.value(node.expr2)

    def _comparison(self, node: nodes.Compare) -> bool:
        left = self.value(node.expr)
        for operand in node.ops:
            right = self.value(operand.expr)
            if not _COMPARISONS[operand.op](left, right):
                return False
            left = right
        return True

    def _sum(self, left: Any, right: Any) -> Any:
        if measure(left) + measure(right) > MAX_RENDERED:
            raise TOO_LARGE
        return left + right

    def _bounded_join(self, separator: str, pieces: list[str]) -> str:
        if sum(map(len, pieces)) + len(separator) * len(pieces) > MAX_RENDERED:
            raise TOO_LARGE
        return separator.join(pieces)

    def _filter(self, node: nodes.Filter) -> Any:
        assert node.node is not None  # noqa: S101  the allow-list saw to it
        args = [self.value(argument) for argument in node.args]
        if node.name in ("default", "d"):
            return self._default(node.node, *args)
        value = self.value(node.node)
        match node.name:
            case "join":
                return self._bounded_join(to_text(args[0]) if args else "", [to_text(item) for item in value])
            case "replace":
                _check_replace(to_text(value), *args)
        environment = _environment()
        context = nodes.EvalContext(environment)
        result = environment.call_filter(node.name, value, args, {}, eval_ctx=context)
        if isinstance(result, jinja2.Undefined):
            raise TemplateError(f'the filter "{node.name}" finds nothing to give', "give it a value that is not empty")
        # tojson marks its text as safe HTML, and marked text would escape what is joined to it.
        return str(result) if isinstance(result, str) else result

    def _default(self, node: nodes.Expr, fallback: Any = "", even_if_false: Any = False) -> Any:  # noqa: FBT002  Jinja2's
        value = self._value_or_missing(node)
        if isinstance(value, _Missing) or (even_if_false and not value):
            return fallback
        return value


def _check_replace(text: str, old: Any, new: Any, count: Any = None) -> None:
    found = text.count(to_text(old)) if count is None else min(int(count), len(text) + 1)
    if len(text) + max(found, 0) * len(to_text(new)) > MAX_RENDERED:
        raise TOO_LARGE


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError("a key must be text", "write it in quotes")
    return value
