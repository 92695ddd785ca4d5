"""However a saved plan's file is edited, it is refused, or equals the plan that would be made anyway."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.engine.saved_plan_file import read_plan
from reconciler.model.changes import Create, FieldChange, Update
from reconciler.model.errors import Refused
from reconciler.planning.plan import Bound, Plan
from reconciler.planning.saved_plan import SavedPlan, as_document, save, staleness
from tests.support.examples import INSTANCE, NOON, queue

SALES, NIGHT = queue("Sales", "Vendas"), queue("Night", "ü")
PLAN = Plan(
    INSTANCE,
    "production",
    (
        Create(NIGHT.key, (FieldChange("description", None, {"a": [1, None]}),), "manifest", "new", NIGHT),
        Update(SALES.key, (FieldChange("description", "x", "Vendas"),), "connect", "drift", SALES, SALES),
    ),
)
BOUND = Bound("s", "d" * 16, "c" * 16)
DOCUMENT = as_document(SavedPlan("run-1", NOON, "0.1.0", None, (save(PLAN, manifest="a" * 64, bound=BOUND),)))
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(["\0", "\ud800", "\x1b[31m", "a" * 5000, "queue", "1"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def paths(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [above, *(path for key, child in pairs for path in paths(child, (*above, key)))]


EDITS = st.lists(st.tuples(st.sampled_from(paths(DOCUMENT)[1:]), JSON), min_size=1, max_size=3)


def edit(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        try:
            document = document[key]
        except (LookupError, TypeError):
            return  # an earlier edit removed it
    if isinstance(document, dict) or (isinstance(document, list) and path[-1] in range(len(document))):
        document[path[-1]] = value


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_an_edited_plan_is_refused_or_it_is_the_same(tmp_path: Path, edits: list[tuple[tuple[Any, ...], Any]]) -> None:
    document = deepcopy(DOCUMENT)
    for path, value in edits:
        edit(document, path, value)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(document))
    try:
        read = read_plan(str(file))
    except Refused:
        return
    for item in read.instances:
        found = staleness(item, PLAN, manifest="a" * 64, bound=BOUND)
        assert all(sentence.isprintable() and len(sentence) < 2000 for sentence in found)
        unchanged = document["instances"][read.instances.index(item)] == DOCUMENT["instances"][0]
        assert (found == ()) == unchanged


@pytest.mark.parametrize("depth", [150, 900, 100_000])
def test_a_deep_file_ends_as_a_refusal_or_a_stale_plan(tmp_path: Path, depth: int) -> None:
    text = json.dumps(DOCUMENT).replace('"Vendas"', "[" * depth + "]" * depth)
    (tmp_path / "plan.json").write_text(text)
    try:
        (item,) = read_plan(str(tmp_path / "plan.json")).instances
    except Refused:
        assert depth > 150
        return
    assert staleness(item, PLAN, manifest="a" * 64, bound=BOUND) != ()
