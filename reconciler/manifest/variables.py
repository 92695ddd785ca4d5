"""-e key=value and -e @vars.yaml, as in Ansible: values of key=value are text, and none is rendered again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reconciler.manifest.files import read_file
from reconciler.manifest.yaml.parser import empty_file
from reconciler.manifest.yaml.scalars import UNSTORABLE
from reconciler.model.errors import ManifestError, ManifestProblem, UsageError
from reconciler.model.patterns import late
from reconciler.support.json_schema.validate import load_schema
from reconciler.support.strict_json import refuse_constant

_PAIR: Final = late(r"""([A-Za-z_][A-Za-z0-9_]*)=("[^"]*"(?!\S)|'[^']*'(?!\S)|[^\s"']*(?!\S))""")
_ALL_PAIRS: Final = late(rf"\s*{_PAIR.pattern}(\s+{_PAIR.pattern})*\s*")


def parse_extra_vars(words: Sequence[str]) -> Mapping[str, Any]:
    """Later arguments override earlier ones. Raises UsageError for an invalid argument, ManifestError for an invalid
    file."""
    variables: dict[str, Any] = {}
    for word in words:
        if word == "@":
            raise UsageError('-e "@" names no file', hint="write -e @vars.yaml; is a variable not set?")
        if word.startswith("@"):
            variables.update(_read_file(word[1:]))
        elif word.lstrip().startswith("{"):
            variables.update(_parse_object(word))
        else:
            variables.update(_pairs(word))
    for name, value in variables.items():
        if reason := name_problem(name):
            raise UsageError(f'-e "{name[:60]}" {reason[0]}', hint=reason[1])
        if _holds_unstorable(value):
            raise UsageError(f'-e "{name[:60]}" holds a character or number that cannot be stored', hint="take it out")
    return variables


def _pairs(word: str) -> Iterator[tuple[str, str]]:
    """`a=1 b=2` is two variables, as in Ansible, and quotes group. Text of any other form is the value of one
    variable."""
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f'-e "{name[:60]}" has no value', hint="write -e name=value, or -e @vars.yaml")
    if _ALL_PAIRS.fullmatch(word):
        for pair in _PAIR.finditer(word):
            yield pair[1], _unquoted(pair[2])
    else:
        yield name.strip(), value


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def name_problem(name: str) -> tuple[str, str] | None:
    """Why an argument names no variable, and what to do; None if it does."""
    rule = load_schema("manifest")["$defs"]["vars"]["propertyNames"]
    if re.fullmatch(rule["pattern"], name):
        return None
    if re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        return "is a word of templates or the manifest's own", "take another name for the variable"
    return "is not a valid variable name", rule["description"]


def _holds_unstorable(value: Any) -> bool:
    match value:
        case str():
            return UNSTORABLE.search(value) is not None
        case float():
            return not math.isfinite(value)
        case dict():
            return any(_holds_unstorable(item) for pair in value.items() for item in pair)
        case list():
            return any(map(_holds_unstorable, value))
        case _:
            return False


def _parse_object(word: str) -> Mapping[str, Any]:
    try:
        value = json.loads(word, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise UsageError("-e {… is not a JSON object", hint='write -e \'{"name": "value"}\'') from exc
    return value if isinstance(value, dict) else {}


def _read_file(path: str) -> Mapping[str, Any]:
    found = read_file(path)
    if isinstance(found, ManifestProblem):
        raise ManifestError((found,))
    file = found.yaml
    documents, problems = file.read()
    if problems == (empty_file(file),):  # the original hint is about manifests
        problems = ()
    odd = [problem for document in documents for problem in (*document.odd.values(), *document.dates.values())]
    if problems or odd:
        raise ManifestError((*problems, *odd))
    data = documents[0].data if len(documents) == 1 else None
    if not isinstance(data, dict):
        raise ManifestError((ManifestProblem(path, 1, 1, "a file of variables is one mapping", "write name: value"),))
    return data
