"""Say in words what jsonschema found. Imported only if something is wrong. Never repeats values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from reconciler.model.json_pointer import escape
from reconciler.model.names import near_hint
from reconciler.model.patterns import late

_Error: TypeAlias = Any
"""A jsonschema ValidationError; its stubs declare every attribute as possibly unset."""

MAX_ERRORS: Final = 1_000
MAX_UNKNOWN: Final = 100

_LIKE_A_KEY: Final = late(r"[\w .,/@+-]+")
"""An unknown key is quoted only if it matches this: it might be a line of another file, such as /etc/shadow."""

_DOLLAR: Final = late(r"(?<!\\)\$")

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_HINT_OF_MISPLACED = {
    "items": "items goes with source: manifest",
    "default": "default goes with a reference",
    "name": "give a name or a reference, not both",
}


class Violation(NamedTuple):
    """`path` is like `queues/0/name`. `of_key`: the key is wrong, not its value."""

    path: str
    message: str
    hint: str = ""
    of_key: bool = False


def _pattern(_: object, pattern: str, instance: object, __: object) -> Iterator[ValidationError]:
    """Like ECMA-262 and jsonschema-rs: $ is the end of the text, not the place before a last line break."""
    if isinstance(instance, str) and not re.search(_DOLLAR.sub(r"\\Z", pattern), instance):
        yield ValidationError("does not match")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # as the stubs have it


def word_errors(schema: Mapping[str, Any], data: Any) -> list[Violation]:
    """Returns all violations, sorted; for lists that are far too long, only those at their beginning."""
    found: set[Violation] = set()
    for candidate in (_shortened(data), data):
        for error in islice(_Validator(dict(schema)).iter_errors(candidate), MAX_ERRORS):
            found.update(_word(error, list(error.absolute_path)))
        if found:
            break
    return sorted(found)


def _shortened(value: Any) -> Any:
    """Returns the value with long lists cut to one entry too many: words for more would take minutes."""
    match value:
        case dict():
            return {key: _shortened(item) for key, item in value.items()}
        case list():
            return [_shortened(item) for item in value[: MAX_ERRORS + 1]]
        case _:
            return value


def _word(error: _Error, path: list[str | int]) -> Iterator[Violation]:
    if _is_about_a_key(error):
        key = str(error.instance)
        hint = str(error.schema.get("description", ""))
        yield Violation(_join([*path, key]), f'"{key[:60]}" is not a valid key here', hint, of_key=True)
        return
    match error.validator:
        case "anyOf" | "oneOf":
            yield from _word_choice(error, path)
        case "additionalProperties":
            yield from _word_unknown(error, path)
        case "required":
            name = error.message.split("'")[1]
            hint = _example(error.schema.get("properties", {}).get(name), name) or f"add {name}: …"
            yield Violation(_join(path), f'"{name}" is missing', hint)
        case "not" if "enum" in error.validator_value:
            named = ", ".join(map(str, error.validator_value["enum"]))
            yield Violation(_join(path), f"must be none of {named}", _example(error.schema))
        case "not":
            name = str(path[-1]) if path else ""
            yield Violation(_join(path), f'"{name}" does not fit here', _HINT_OF_MISPLACED.get(name, ""))
        case _:
            yield Violation(_join(path), *_word_value(error))


def _word_value(error: _Error) -> tuple[str, str]:  # noqa: PLR0911  one line a keyword
    limit = error.validator_value
    schema: Mapping[str, Any] = error.schema
    match error.validator:
        case "type":
            return _word_type(error)
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}", near_hint(error.instance, limit)
        case "const":
            return f"must be {json_word(limit)}", str(schema.get("description", ""))
        case "pattern":
            return _word_pattern(str(error.instance), schema), _example(schema)
        case "minLength" | "minItems":
            units = "characters" if error.validator == "minLength" else "entries"
            return "must not be empty" if limit == 1 else f"must have at least {limit:,} {units}", _example(schema)
        case "maxLength":
            return f"must not be longer than {limit:,} characters", ""
        case "maxItems":
            return f"must not have more than {limit:,} entries", ""
        case "minimum":
            return f"must be at least {limit}", ""
        case "maximum":
            return f"must be at most {limit}", ""
        case _:
            return f"does not fit ({error.validator})", _example(schema)


def _word_pattern(text: str, schema: Mapping[str, Any]) -> str:
    """Schemas of answers have no titles; their patterns ask for text, without characters that no column holds."""
    if title := schema.get("title"):
        return f"is not a valid {title[:1].lower()}{title[1:]}"
    if not text:
        return "must not be empty"
    return "holds a NUL character" if "\0" in text else f"does not fit the pattern {schema['pattern']}"


def _word_type(error: _Error) -> tuple[str, str]:
    if error.schema.get("writeOnly") and isinstance(error.instance, str):
        return "a secret must not stand in the manifest as plain text", _example(error.schema)
    words = " or ".join(_TYPE_WORDS[name] for name in _type_names(error))
    return _misfit(words, error.instance), _example(error.schema)


def _word_choice(error: _Error, path: list[str | int]) -> Iterator[Violation]:
    """Yields the words for the alternative that was meant: the one whose type the value has."""
    keys = [name for branch in error.validator_value for name in branch.get("required", ())]
    if error.validator == "oneOf" and keys:  # a choice of keys, not of shapes; a wrong type is reported already
        if isinstance(error.instance, dict):
            yield Violation(_join(path), f"needs exactly one of {', '.join(keys)}", _example(error.schema))
        return
    branches: dict[object, list[_Error]] = {}
    for child in error.context:
        branches.setdefault(child.schema_path[0], []).append(child)
    meant = [children for children in branches.values() if not any(_is_type_of(child) for child in children)]
    if meant:
        for child in min(meant, key=len):
            yield from _word(child, [*path, *child.relative_path])
        return
    wanted = [name for child in error.context if _is_type_of(child) for name in _type_names(child)]
    words = " or ".join(dict.fromkeys(_TYPE_WORDS[name] for name in wanted))
    yield Violation(_join(path), _misfit(words, error.instance), _example(error.schema))


def _is_type_of(child: _Error) -> bool:
    return bool(child.validator == "type" and not child.relative_path)


def _type_names(error: _Error) -> list[str]:
    return [error.validator_value] if isinstance(error.validator_value, str) else list(error.validator_value)


def _word_unknown(error: _Error, path: list[str | int]) -> Iterator[Violation]:
    known = list(error.schema.get("properties", ()))
    for key in islice((key for key in error.instance if key not in known), MAX_UNKNOWN):
        hint = near_hint(key, known) or f"known here: {', '.join(known)}"
        named = f' "{str(key)[:60]}"' if _LIKE_A_KEY.fullmatch(str(key)) else ", which is no name"
        yield Violation(_join([*path, key]), f"unknown key{named}", hint, of_key=True)


def _is_about_a_key(error: _Error) -> bool:
    path = list(error.schema_path)
    return len(path) > 1 and path[-2] == "propertyNames"


def _example(schema: object, name: str = "") -> str:
    examples = schema.get("examples") if isinstance(schema, Mapping) else None
    if not examples:
        return ""
    shown = json_word(examples[0])
    return f"such as {name}: {shown}" if name else f"such as {shown}"


def json_word(value: Any) -> str:
    """Returns a schema's own value, as one would write it in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {json_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_word, value)) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f'"{value}"' if isinstance(value, str) and value.endswith(":") else str(value)


def _misfit(words: str, value: object) -> str:
    if isinstance(value, float) and "a whole number" in words:
        return f"must be {words}"  # "not a number" would be wrong for a fraction
    return f"must be {words}, not {_type_word(value)}"


def _type_word(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _join(path: Iterable[str | int]) -> str:
    return "/".join(escape(part) if isinstance(part, str) else str(part) for part in path)
