"""Render {{ … }} in one text. Values in, values out: sees no file, no environment and no secret.

Names and dotted paths, which nearly all templates consist of, are rendered here; Jinja2 is imported, in expressions.py,
only for more. Both ways give the same results. Jinja2's usual semantics apply, with two strict rules: an undefined name
is an error wherever it is used, except as the input of `default`; and `a.b` looks up the item b of a mapping, never an
attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reconciler.manifest.template_budget import (
    MAX_ALL,
    MAX_RENDERED,
    MAX_WORK,
    Budget,
    Expression,
    Names,
    Parts,
    TemplateError,
    measure,
    to_text,
    undefined,
)
from reconciler.model.patterns import late
from reconciler.model.records import dataclass

MAX_TEMPLATE: Final = 64 * 1024
MAX_COMPLEX: Final = 16 * 1024
MAX_PARSED: Final = 96 * 1024  # by Jinja2, which takes some 10 us per character
_LEAST_PARSED: Final = 64

_SIMPLE = late(r"(?<!\{)\{\{[ \t\n]*([A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*)[ \t\n]*\}\}")
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


@dataclass(frozen=True, slots=True)
class Path:
    """A name, or nested items of mappings below it: `labels.region`."""

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
    """Renders the texts of one run: keeps parsed texts, and limits the total cost."""

    def __init__(self) -> None:
        self._parsed: dict[str, Parts | TemplateError] = {}
        self._unparsed = MAX_PARSED
        self._whole = Budget(MAX_ALL, MAX_ALL)
        self._budget = Budget(MAX_RENDERED, MAX_WORK, self._whole)

    def start_document(self) -> None:
        self._budget = Budget(MAX_RENDERED, MAX_WORK, self._whole)

    def render(self, text: str, names: Names) -> Any:
        """Returns the text with its templates rendered. A text that is a single expression keeps that expression's
        type."""
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
        """The names that a text's templates begin with; for `vars.company` also `company`."""
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
        from reconciler.manifest.expressions import parse_expressions

        try:
            return parse_expressions(text)
        except TemplateError as exc:
            return exc


def _parse_simple(text: str) -> Parts | None:
    """Returns None if the text needs Jinja2."""
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
