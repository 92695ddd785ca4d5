"""Any input to the loader and to templates ends in values or in a known error. FIVREC_FUZZ sets how many inputs these
tests try in all (6,000; CI 100,000)."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.manifest.fleet_csv import read_rows
from reconciler.manifest.formatter import format_text
from reconciler.manifest.loader import load_manifests
from reconciler.manifest.template_budget import MAX_RENDERED, TemplateError, measure
from reconciler.manifest.templates import Renderer
from reconciler.model.errors import FivrecError, ManifestProblem
from reconciler.support.postgres_url import database_identity, form_problem, holds_password

COUNT = int(os.environ.get("FIVREC_FUZZ", "6000"))


def fuzz(percent: int) -> settings:
    """Returns settings for this share of all inputs: large for tests of a millisecond each, small for those of ten."""
    lenient = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=max(COUNT * percent // 100, 10), deadline=None, suppress_health_check=lenient)


tried = {"inputs": 0}


def counted(test: Callable[..., None]) -> Callable[..., None]:
    @wraps(test)
    def one(*given: Any, **named: Any) -> None:
        tried["inputs"] += 1
        test(*given, **named)

    return one


@pytest.fixture(autouse=True)
def _told(record_property: Callable[[str, object], None]) -> Iterator[None]:
    tried["inputs"] = 0
    yield
    record_property("fuzz", f"{tried['inputs']} inputs")


def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split(" "))


WORDS = words(
    "version instance labels vars database url env file command default environment name isolation config settings "
    "connect_api_url instance_key company_name admin email password generate queues items unmanaged plans source "
    "connect manifest defaults instances csv ignore field until reason expect usage report suspend version: 1 "
    "production development embedded: yes no on off null ~ true 010 12:30 2026-12-31 .nan << {{ }} {{x}} {% {# "
    "|lower ~ + if else & * &a *a ! !!python/x !!str - --- ... [ ] { } , : ? | > ' \" # \t \n \\ \x00 \ufeff \u2028 é"
)
SOUP = st.lists(WORDS | st.text(max_size=3), max_size=40).map(" ".join)
LINES = st.lists(st.tuples(st.integers(0, 4), WORDS, WORDS | st.text(max_size=8)), max_size=25).map(
    lambda lines: "\n".join(f"{'  ' * indent}{key}: {value}" for indent, key, value in lines)
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | WORDS
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
KEYS = words(
    "labels vars database environment config admin queues plans expect usage ignore suspend defaults instances"
)
NEARLY = st.dictionaries(KEYS, TREES, max_size=5).map(lambda tree: json.dumps({"version": 1, "instance": "a", **tree}))


def load(content: bytes) -> int:
    """Returns the exit code of the refusal, 0 if the manifests are valid."""
    try:
        manifests = load_manifests(["-"], environ={}, stdin=io.BytesIO(content))
    except FivrecError as exc:
        return int(exc.exit_code)
    for manifest in manifests:
        json.dumps(manifest.document, allow_nan=False)
        assert list(manifest.origin.places.values()) is not None
    return 0


FORESEEN = (0, 65, 78)


@fuzz(24)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@counted
def test_any_bytes(content: bytes) -> None:
    assert load(content) in FORESEEN


@fuzz(13)
@given(SOUP | LINES)
@example("instances: *a")
@example("defaults: {queues: &q [{instance: x}]}\nversion: 1\ninstances: *q")
@example("version: 1\ninstance: a\nenvironment: {env: {}}")
@example("version: 1\ninstance: a\nvars: &v {a: 1}\nconfig: {settings: *v}")
@counted
def test_any_yaml(text: str) -> None:
    assert load(text.encode("utf-8", "surrogatepass")) in FORESEEN


@fuzz(5)
@given(NEARLY)
@counted
def test_any_tree_that_is_nearly_a_manifest(text: str) -> None:
    assert load(text.encode("utf-8", "surrogatepass")) in FORESEEN


NAMES: dict[str, Any] = {"x": "text", "n": 3, "l": [1, "a"], "d": {"k": "v"}, "t": True, "none": None}
PIECES = words(
    "{{ }} {{- -}} {% %} {# #} x n l d t d.k l[0] l[-1] d['k'] 'a' \"b\" 1 -1 1.5 1e999 true none + ~ - * ** // % == "
    "!= < > <= >= in not and or if else is ( ) [ ] { } : , . | |default('x') |lower |upper |title |trim "
    "|replace('a','b') |join |join('-') |length |int |string |first |last |sort |tojson |capitalize |map |attr('x') "
    "__class__ .__init__ raw endraw for \\ \n \r"
)


@fuzz(12)
@given(st.lists(PIECES | st.text(max_size=2), max_size=15).map(" ".join), st.booleans())
@counted
def test_any_template(text: str, wrapped: bool) -> None:
    try:
        value = Renderer().render("{{ " + text + " }}" if wrapped else text, NAMES)
    except TemplateError:
        return
    json.dumps(value, allow_nan=False)
    assert measure(value) <= MAX_RENDERED


URL_PIECES = words("postgres :// @ : / ? # = ' \\ [ ] , host port password u")


@fuzz(22)
@given(st.text(max_size=60) | st.lists(URL_PIECES).map("".join))
@counted
def test_any_database_url(text: str) -> None:
    holds_password(text)
    identity = database_identity(text)
    assert identity is not None or form_problem(text) is not None


@fuzz(24)
@given(st.binary(max_size=80) | st.text(alphabet="instace,\"'\n\r x;\x00é", max_size=80).map(str.encode))
@counted
def test_any_csv(content: bytes) -> None:
    rows = [*read_rows(b"instance,x\n" + content, "x.csv"), *read_rows(content, "x.csv")]
    assert all(isinstance(row, ManifestProblem) or "instance" in row[1] for row in rows)


@fuzz(2)
@given(SOUP | LINES | NEARLY)
@counted
def test_formatting_anything_keeps_what_it_says_and_settles(text: str) -> None:
    try:
        once = format_text("x.yaml", text.encode("utf-8", "surrogatepass"))
    except FivrecError:
        return
    assert format_text("x.yaml", once.encode()) == once
