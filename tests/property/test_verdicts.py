"""The verdict on a document, valid or broken anywhere, equals that of jsonschema, the reference implementation.

Plain seeded mutation of valid documents; a failure prints its seed and the document. FIVREC_FUZZ sets how many in all.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from reconciler.support.json_schema.messages import word_errors
from reconciler.support.json_schema.validate import is_valid, load_schema
from tests.unit.support.test_json_schema import FULL

COUNT = int(os.environ.get("FIVREC_FUZZ", "6000")) // 5  # jsonschema takes a millisecond for each
INSTANCE = {key: value for key, value in FULL.items() if key != "version"}
DEFAULTS = {key: value for key, value in INSTANCE.items() if key != "instance"}
FLEETS = [
    {"version": 1, "defaults": DEFAULTS, "instances": [INSTANCE, {"instance": "b"}]},
    {"version": 1, "instances": {"csv": "clients.csv"}},
]
CHANGE = {
    "kind": "queue",
    "name": "Sales",
    "action": "update",
    "source": "manifest",
    "cause": "drift",
    "fields": [{"field": "description", "before": "a", "after": None}, {"field": "key", "sensitive": True}],
}
PLANNED = {
    "instance": "a",
    "environment": "production",
    "manifest_digest": "a" * 64,
    "digest": "b" * 16,
    "changes": [CHANGE],
}
SAVED = {
    "version": 1,
    "run_id": "r",
    "created_at": "2026-10-01T12:00:00.000001Z",
    "fivrec": "0.1.0",
    "git_commit": None,
    "instances": [PLANNED],
}
DOCUMENTS: dict[str, list[Any]] = {
    "manifest": [FULL, *FLEETS],
    "manifest#instance": [FULL],
    "manifest#fleet": FLEETS,
    "plan": [SAVED],
    **{
        f"connect/{name}": load_schema(f"connect/{name}")["examples"]
        for name in ("status", "plans", "databases", "usage")
    },
}
NUMBERS = [0, 1, -1, 2, 4, 12, 31, 59, 1440, 10**6, 10**20, 0.0, 1.0, 1.5, -0.5, 1e300, True, False, None]
TEXTS = [
    "",
    "\n",
    "a\n",
    "\r",
    "a/b\r",
    "a/\n",
    "\0",
    "é",
    "a@b",
    "a@\ufeff",
    "a@\x85b",
    "x" * 300,
    "embedded:x",
    "\u2028",
    "٣",
]


def words_of(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from node
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from words_of(child)


WORDS = sorted({word for name in DOCUMENTS for word in words_of(load_schema(name)) if len(word) < 40} | {*TEXTS})


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(12 if depth < 3 else 10)
    if kind < 5:
        return rng.choice(NUMBERS)
    if kind < 10:
        return rng.choice(TEXTS if kind == 9 else WORDS)
    inner = [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return inner if kind == 10 else {rng.choice(WORDS): item for item in inner}


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places(node[key])


def mutated(rng: random.Random, document: Any) -> Any:
    """Returns a copy of the document with one or two things removed, replaced, added or moved."""
    made = copy.deepcopy(document)
    for _ in range(rng.randrange(1, 3)):
        if not (found := list(places(made))):
            break
        holder, key = rng.choice(found)
        match rng.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(WORDS)] = value(rng)
            case 2:
                other, name = rng.choice(found)
                holder[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
            case _:
                holder[key] = value(rng)
    return made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_verdict_is_that_of_another_implementation(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("FIVREC_TEST_SEED", "20261123"))
    rng = random.Random(f"{seed} {name}")
    schema = load_schema(name)
    assert all(is_valid(name, document) for document in DOCUMENTS[name])
    valid = 0
    for _ in range(COUNT // len(DOCUMENTS)):
        document = mutated(rng, rng.choice(DOCUMENTS[name]))
        expected = word_errors(schema, document) == []
        valid += expected
        assert is_valid(name, document) is expected, f"seed {seed}: {json.dumps(document)}"
    record_property("verdicts", f"{name}: {valid} of {COUNT // len(DOCUMENTS)} mutated documents were valid")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_no_number(number: float) -> None:
    database = {**load_schema("connect/databases")["examples"][0][0], "size_mb": number}
    assert not is_valid("connect/databases", [database])


def test_half_a_surrogate_pair_is_no_text() -> None:
    answer = load_schema("connect/status")["examples"][0]
    half = json.loads('"\\ud800"')
    assert not is_valid("connect/status", {**answer, "status": half})
    assert not is_valid("connect/status", {**answer, "enabledFeatures": {half: True}})
    assert not is_valid("connect/status", {**answer, "more": half})
