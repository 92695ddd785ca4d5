"""Render {{ … }} in one text. Values in, values out: no file, no environment, no secret is ever seen.

Names and dotted paths, which is what nearly all templates are, are rendered here; Jinja2 is imported, in
expressions.py, only for more. Both ways give the same. Jinja2's usual semantics hold, with two strict points: an
undefined name is an error wherever it is used, `default` alone may take it; `a.b` looks for the item b of a mapping,
never for an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

from reconciler.model.records import dataclass

MAX_RENDERED: Final = 1024 * 1024
MAX_WORK: Final = 8 * MAX_RENDERED
MAX_ALL: Final = 32 * MAX_RENDERED  # of one run's rendering, and of its work
MAX_TEMPLATE: Final = 64 * 1024
MAX_COMPLEX: Final = 16 * 1024
MAX_PARSED: Final = 96 * 1024  # by Jinja2, which takes some 10 us a character
_LEAST_PARSED: Final = 64

Names: TypeAlias = Mapping[str, Any]

_SIMPLE = re.compile(r"(?<!\{)\{\{[ \t\n]*([A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*)[ \t\n]*\}\}")
_RESERVED = frozenset(
    {
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "and",
        "or",
        "not",
        "if",
        "else",
        "elif",
        "in",
        "is",
        "recursive",
    }
)


class TemplateError(Exception):
    """A template that cannot be rendered. Names are told, values never."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


TOO_LARGE: Final = TemplateError("the templates render to more than 1 MiB", "render less")


class Budget:
    """What may still be rendered, and still be worked through, in characters and items. Charged to `whole` as well."""

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
    """One {{ … }}. `names` holds the names that it begins from."""

    @property
    def names(self) -> frozenset[str]: ...

    def evaluate(self, names: Names, budget: Budget) -> Any: ...


Parts: TypeAlias = tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A name, or items of mappings below it: `labels.region`."""

    steps: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.steps[:2] if self.steps[0] == "vars" else self.steps[:1])

    def evaluate(self, names: Names, budget: Budget) -> Any:  # noqa: ARG002  an Expression's signature
        value: Any = names
        for step in self.steps:
            if not isinstance(value, Mapping) or step not in value:
                raise undefined(step, value)
            value = value[step]
        return value


def has_template(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


class Renderer:
    """Renders the texts of one run: what was parsed is kept, and what all of it may cost is bounded."""

    def __init__(self) -> None:
        self._parsed: dict[str, Parts | TemplateError] = {}
        self._unparsed = MAX_PARSED
        self._whole = Budget(MAX_ALL, MAX_ALL)
        self._budget = Budget(MAX_RENDERED, MAX_WORK, self._whole)

    def start_document(self) -> None:
        self._budget = Budget(MAX_RENDERED, MAX_WORK, self._whole)

    def render(self, text: str, names: Names) -> Any:
        """The text with its templates rendered. A text that is one expression keeps that expression's type."""
        parts = self.parse(text)
        if len(parts) == 1 and not isinstance(parts[0], str):
            value = parts[0].evaluate(names, self._budget)
            self._budget.spend_rendered(measure(value))
            return value
        pieces = []
        for part in parts:
            piece = part if isinstance(part, str) else to_text(part.evaluate(names, self._budget))
            self._budget.spend_rendered(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    def names_in(self, text: str) -> frozenset[str]:
        """The names that a text's templates begin from; of `vars.company` also `company`."""
        return frozenset().union(*(part.names for part in self.parse(text) if not isinstance(part, str)))

    def parse(self, text: str) -> Parts:
        """The literal and the rendered parts of a text, in order."""
        parts = self._parsed.get(text)
        if parts is None:
            parts = self._parsed[text] = self._parse(text)
        if isinstance(parts, TemplateError):
            raise parts
        return parts

    def _parse(self, text: str) -> Parts | TemplateError:
        if len(text) <= MAX_TEMPLATE and (parts := _parse_simple(text)) is not None:
            return parts
        if len(text) > MAX_COMPLEX:
            return TemplateError(f"a text with such templates is longer than {MAX_COMPLEX:,} characters", "split it")
        self._unparsed -= max(len(text), _LEAST_PARSED)
        if self._unparsed < 0:
            return TemplateError("too many different templates in one run", "put what is shared into vars or defaults")
        try:
            return _parse_with_jinja(text)
        except TemplateError as exc:
            return exc


def _parse_simple(text: str) -> Parts | None:
    """None where it takes Jinja2 to read the text."""
    pieces = _SIMPLE.split(text)
    literals, paths = pieces[::2], pieces[1::2]
    # Jinja2 turns carriage returns into line feeds.
    if "\r" in text or any(has_template(literal) for literal in literals):
        return None
    steps = [tuple(path.split(".")) for path in paths]
    if any(path[0] in _RESERVED for path in steps):
        return None
    parts: list[str | Expression] = []
    for index, literal in enumerate(literals):
        parts.extend([literal] if literal else [])
        parts.extend(Path(path) for path in steps[index : index + 1])
    return tuple(parts)


def _parse_with_jinja(text: str) -> Parts:
    from reconciler.manifest.expressions import parse_expressions

    return parse_expressions(text)


def measure(value: Any) -> int:
    """Characters and items in a value. TemplateError where it holds more than fits, or a number that none can store."""
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
    if not -(2.0**63) <= number < 2.0**63:  # false for nan as well
        raise TemplateError("a template gives a number that does not fit into 64 bits", "make it text")


def to_text(value: Any) -> str:
    """As Jinja2 prints it: Python's str()."""
    measure(value)
    return str(value)


def undefined(name: str, known: object) -> TemplateError:
    from difflib import get_close_matches

    near = get_close_matches(name, [str(key) for key in known], n=1) if isinstance(known, Mapping) else []
    hint = f'did you mean "{near[0]}"?' if near else "set it in vars or with -e; for braces as text write {{ '{{' }}"
    return TemplateError(f'"{name[:60]}" is not defined', hint)
