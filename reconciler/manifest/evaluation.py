"""Evaluate an expression that passed the allow-list of expressions.py, node by node, charging each value to the
budget."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import jinja2
from jinja2 import nodes

from reconciler.manifest.template_budget import (
    MAX_RENDERED,
    TOO_LARGE,
    Budget,
    Names,
    TemplateError,
    measure,
    to_text,
    undefined,
)
from reconciler.model.patterns import late
from reconciler.model.records import dataclass

_TRUTHS: Final = {"true": True, "verdadeiro": True, "false": False, "falso": False}
_WHOLE: Final = late(r"\s*[-+]?[0-9]{1,30}\s*", re.ASCII)
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


@dataclass(frozen=True, slots=True)
class _Missing:
    """A missing value, until `default` replaces it or an error names it."""

    error: TemplateError


@cache
def jinja_environment() -> jinja2.Environment:
    """Renders nothing: it parses expressions and provides Jinja2's filters."""
    return jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701 (about HTML, which this is not)


def evaluate(node: nodes.Expr, names: Names, budget: Budget) -> Any:
    """Returns the expression's value. Raises TemplateError, without any value in its message, if it has none."""
    try:
        return _Evaluation(names, budget).value(node)
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


class _Evaluation:
    """One evaluation: the names that it sees, and the budget that every value is charged to."""

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
                raise TypeError(type(node).__name__)  # the allow-list and this match agree; tests check that

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
            raise TemplateError("an if without else has no value here", "add else")
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
            case "int":
                return _whole_number(value, *args)
            case "bool":
                return _truth(value, *args)
        environment = jinja_environment()
        context = nodes.EvalContext(environment)
        result = environment.call_filter(node.name, value, args, {}, eval_ctx=context)
        if isinstance(result, jinja2.Undefined):
            raise TemplateError(f'the filter "{node.name}" has no value to return', "give it a value that is not empty")
        # tojson marks its text as safe HTML, and marked text would escape whatever is joined to it.
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


def _whole_number(value: Any, *fallback: Any) -> Any:
    """The filter int. Jinja2 turns anything that is not a number into 0; here only an explicit fallback may replace
    it."""
    match value:
        case int() if not isinstance(value, bool):
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if _WHOLE.fullmatch(value):
            return int(value)
    if fallback:
        return fallback[0]
    raise TemplateError(
        'the filter "int" got something that is not a whole number',
        "give it digits, or write int(60) for a default",
        value if isinstance(value, str) else None,
    )


def _truth(value: Any, *fallback: Any) -> Any:
    """The filter bool, for text that a spreadsheet writes, in English or Portuguese. Anything else is an error, unless
    there is an explicit fallback: taking it for false would be a guess."""
    found = _TRUTHS.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    if fallback:
        return fallback[0]
    raise TemplateError(
        'the filter "bool" got something that is neither true nor false',
        "give it true, false, VERDADEIRO or FALSO, or write bool(false) for a default",
        value if isinstance(value, str) else None,
    )


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError("a key must be text", "write it in quotes")
    return value
