"""Limits on the cost of rendering, and what an expression is: budgets, the error, sizes of values. Renders nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

from reconciler.model.names import near_hint

MAX_RENDERED: Final = 1024 * 1024
MAX_WORK: Final = 8 * MAX_RENDERED
MAX_ALL: Final = 32 * MAX_RENDERED  # for one run's rendering, and for its work

MOST_COMPARED: Final = 200  # comparisons with an undefined name, some 10 us each; a run may find a thousand

Names: TypeAlias = Mapping[str, Any]


class TemplateError(Exception):
    """A template that can't be rendered. The message contains names, never values. `found` is the value that does not
    fit, if it is one; it is shown like those in the schema's problems. `undefined` is the unknown name."""

    def __init__(self, message: str, hint: str = "", found: str | None = None, undefined: str = "") -> None:
        super().__init__(message)
        self.undefined = undefined
        self.found = found
        self.message = message
        self.hint = hint


TOO_LARGE: Final = TemplateError("the templates render to more than 1 MiB", "render less")


class Budget:
    """What may still be rendered, and still be processed, in characters and items. Also charged to `whole`."""

    __slots__ = ("rendered", "whole", "work")

    def __init__(self, rendered: int, work: int, whole: Budget | None = None) -> None:
        self.rendered = rendered
        self.work = work
        self.whole = whole

    def spend_rendered(self, size: int) -> None:
        self.rendered -= size
        if self.rendered < 0:
            raise TOO_LARGE
        if self.whole is not None:
            self.whole.spend_rendered(size)

    def spend_work(self, size: int) -> None:
        self.work -= size
        if self.work < 0:
            raise TemplateError("the templates work through more than 8 MiB", "make them simpler")
        if self.whole is not None:
            self.whole.spend_work(size)


class Expression(Protocol):
    """One {{ … }}. `names` are the names at the start of its paths."""

    @property
    def names(self) -> frozenset[str]: ...

    def evaluate(self, names: Names, budget: Budget) -> Any: ...


Parts: TypeAlias = tuple[str | Expression, ...]


def measure(value: Any) -> int:
    """Characters and items in a value. Raises TemplateError if they exceed the budget, or if a number can't be
    stored."""
    if isinstance(value, str):
        return len(value)
    size, todo = 0, [value]
    while todo:
        item = todo.pop()
        match item:
            case str():
                size += len(item)
            case bool() | None:
                pass
            case int() | float():
                _check_number(item)
            case Mapping():
                todo.extend(item.values())
                size += sum(len(str(key)) for key in item)
            case _:
                todo.extend(item)
        size += 1
        if size + len(todo) > MAX_RENDERED:
            raise TOO_LARGE
    return size


def _check_number(number: float) -> None:
    if not -(2.0**63) <= number < 2.0**63:  # also false for nan
        raise TemplateError("a template renders a number that does not fit into 64 bits", "make it text")


def to_text(value: Any) -> str:
    """The text that Jinja2 would print: Python's str()."""
    measure(value)
    return str(value)


def undefined(name: str, known: object) -> TemplateError:
    few = known if isinstance(known, Mapping) and len(known) <= MOST_COMPARED else ()
    hint = near_hint(name[:60], few) or "set it in vars or with -e; for braces as text write {{ '{{' }}"
    return TemplateError(f'"{name[:60]}" is not defined', hint, undefined=name)
