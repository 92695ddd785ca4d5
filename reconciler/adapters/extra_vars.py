"""-e key=value and -e @vars.yaml, as Ansible has them: values of key=value are text, and none is rendered again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.adapters.manifest_files import unreadable
from reconciler.adapters.validation import load_schema
from reconciler.adapters.yaml_reader import MAX_BYTES, YamlFile
from reconciler.errors import ManifestError, Problem, UsageError


def parse_extra_vars(words: Sequence[str]) -> Mapping[str, Any]:
    """Later words override earlier ones. UsageError for a word, ManifestError for a file that does not fit."""
    variables: dict[str, Any] = {}
    for word in words:
        if word.startswith("@"):
            variables.update(_read_file(word[1:]))
        elif word.lstrip().startswith("{"):
            variables.update(_parse_object(word))
        else:
            name, equals, value = word.partition("=")
            if not equals:
                raise UsageError(f'-e "{name[:60]}" has no value', hint="write -e name=value, or -e @vars.yaml")
            variables[name.strip()] = value
    pattern = re.compile(load_schema("manifest")["$defs"]["vars"]["propertyNames"]["pattern"])
    for name in variables:
        if not pattern.search(name):
            raise UsageError(f'-e "{name[:60]}" is no name for a variable', hint="letters, digits and _ are")
    return variables


def _parse_object(word: str) -> Mapping[str, Any]:
    try:
        value = json.loads(word)
    except (ValueError, RecursionError) as exc:
        raise UsageError("-e {… is not a JSON object", hint='write -e \'{"name": "value"}\'') from exc
    return value if isinstance(value, dict) else {}


def _read_file(path: str) -> Mapping[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ManifestError((unreadable(path, exc),)) from exc
    documents, problems = YamlFile(path, text).read()
    odd = [problem for document in documents for problem in (*document.odd.values(), *document.dates.values())]
    if problems or odd:
        raise ManifestError((*problems, *odd))
    data = documents[0].data if len(documents) == 1 else None
    if not isinstance(data, dict):
        raise ManifestError((Problem(path, 1, 1, "a file of variables is one mapping", "write name: value"),))
    return data
