"""What the YAML reader accepts, and what it refuses: each refusal with its exact position."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.manifest.yaml.builder import Builder
from reconciler.manifest.yaml.events import open_events
from reconciler.manifest.yaml.parser import YamlFile
from reconciler.model.errors import ManifestProblem
from tests.support.bombs import BOMBS, HARMLESS, MANIFEST_BOMBS


def read(text: str | bytes) -> list[Any]:
    documents, problems = YamlFile("x.yaml", text if isinstance(text, bytes) else text.encode()).read()
    assert problems == ()
    return [document.data for document in documents]


def refusals(text: str | bytes) -> list[tuple[int, int, str]]:
    _, problems = YamlFile("x.yaml", text if isinstance(text, bytes) else text.encode()).read()
    return [(problem.line, problem.column, problem.message) for problem in problems]


def test_scalars_mean_what_yaml_says() -> None:
    text = """
a: text
b: "010"
c: 'no'
d: 12
e: -3
f: 31
g: 2.5
h: true
i: null
j: ~
k:
l: |
  two
  lines
m: {n: [1, x]}
o: 1.0e+3
p: =
q: y
r: 1000
s: !!str 12
t: ! 12
"""
    assert read(text) == [
        {
            "a": "text",
            "b": "010",
            "c": "no",
            "d": 12,
            "e": -3,
            "f": 31,
            "g": 2.5,
            "h": True,
            "i": None,
            "j": None,
            "k": None,
            "l": "two\nlines\n",
            "m": {"n": [1, "x"]},
            "o": 1000.0,
            "p": "=",
            "q": "y",
            "r": 1000,
            "s": "12",
            "t": "12",
        }
    ]


def test_several_documents_keep_their_lines() -> None:
    documents, problems = YamlFile("x.yaml", b"# c\na: 1\n---\n# d\n\nb: 2\n").read()
    assert problems == ()
    assert [(document.data, document.line, document.index) for document in documents] == [
        ({"a": 1}, 2, 0),
        ({"b": 2}, 6, 1),
    ]


def test_aliases_and_merges_are_written_out() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {z: 4}]}\nthree: *b\n"
    assert read(text) == [
        {
            "base": {"x": 1, "y": 2},
            "one": {"y": 3, "x": 1},
            "two": {"x": 1, "y": 2, "z": 4},
            "three": {"x": 1, "y": 2},
        }
    ]


def test_a_quoted_merge_key_is_a_key() -> None:
    assert read('"<<": 1') == [{"<<": 1}]


def test_surrogate_pairs_of_json_are_one_character() -> None:
    text = r"""{"a \ud83d\ude00": "x \ud83d\ude00", "b": '\ud83d\ude00'}"""
    assert read(text) == [{"a 😀": "x 😀", "b": r"\ud83d\ude00"}]
    places = YamlFile("x.yaml", text.encode()).places({0: None})
    assert places[0].keys["b"] == (1, 38)


def test_a_byte_order_mark_and_windows_lines_are_taken() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == [{"a": 1, "b": 2}]


REFUSED = {
    "syntax": ("a: 1\nb: [1, 2\n", (3, 1)),
    "tab": ("a:\n\t- b\n", (2, 1)),
    "colon": ("a: b: c\n", (1, 5)),
    "duplicate key": ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", (5, 3)),
    "python tag": ("a: !!python/object/apply:os.system [ls]\n", (1, 4)),
    "custom tag": ("a: !secret x\n", (1, 4)),
    "binary tag": ("a: !!binary aGk=\n", (1, 4)),
    "key that is true": ("a: 1\non: 2\n", (2, 1)),
    "key that is a number": ("a: 1\n7: 2\n", (2, 1)),
    "key that is null": ("a: 1\n~: 2\n", (2, 1)),
    "key that is a date": ("2026-01-01: 2\n", (1, 1)),
    "template without quotes": ("a: {{ x }}\n", (1, 5)),
    "octal": ("a: {b: 010}\n", (1, 8)),
    "octal of eights": ("a: 089\n", (1, 4)),
    "octal of YAML 1.2": ("a: 0o17\n", (1, 4)),
    "sexagesimal": ("a: [1, 12:30]\n", (1, 8)),
    "sexagesimal that begins with 0": ("a: 09:30\n", (1, 4)),
    "sexagesimal float": ("a: 1:30.5\n", (1, 4)),
    "two merge keys": ("a: {<<: {x: 1}, b: 1, <<: {y: 2}}\n", (1, 23)),
    "exponent": ("a: 1e3\n", (1, 4)),
    "exponent with a fraction": ("a: 1.5E3\n", (1, 4)),
    "underscores": ("a: 1_000\n", (1, 4)),
    "underscores in a fraction": ("a: 1_0.5\n", (1, 4)),
    "binary number": ("a: 0b11\n", (1, 4)),
    "hexadecimal number": ("a: [-0x1F]\n", (1, 5)),
    "half of a surrogate pair": ('{"a": "\\ud83d"}', (1, 10)),
    "half of a surrogate pair beside a whole one": ('{"a": "\\ud83d\\ude00", "b": "\\ud83d"}', (1, 28)),
    "infinity": ("a: .inf\n", (1, 4)),
    "not a number": ("a: .NaN\n", (1, 4)),
    "float past all": ("a: 1.0e+999\n", (1, 4)),
    "integer past 64 bits": ("a: 9223372036854775808\n", (1, 4)),
    "NUL": ("a: x\x00y\n", (1, 5)),
    "control character": ("a: 1\nb: \x07\n", (2, 4)),
    "escaped NUL": ('a: "x\\0"\n', (1, 4)),
    "escaped control": ('a: 1\nb: "\\x1b"\n', (2, 4)),
    "not UTF-8": (b"a: 1\nb: \xe9\n", (2, 4)),
    "UTF-16": ("a: 1\n".encode("utf-16"), (1, 1)),
    "unknown alias": ("a: *b\n", (1, 4)),
    "alias in itself": ("a: &b [1, *b]\n", (1, 11)),
    "merge of a text": ("a: {<<: x}\n", (1, 9)),
    "empty file": ("", (1, 1)),
    "only comments": ("# nothing\n", (1, 1)),
    "101 levels": ("[" * 101 + "]" * 101, (1, 101)),
    "10,000 levels": ("[" * 10_000, (1, 101)),
    "10,000 levels inside others": ("a:\n- - b: " + "{" * 10_000, (2, 104)),
    "900 levels, not closed": ("[" * 900, (1, 101)),
    "merge conflict": ("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> branch\n", (2, 1)),
    "merge conflict in a list": ("a:\n<<<<<<< HEAD\n- 2\n=======\n- 3\n>>>>>>> branch\n", (2, 1)),
    "long key": (f"{'k' * 300}: 1\n", (1, 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_at_its_place(name: str) -> None:
    text, place = REFUSED[name]
    assert [(line, column) for line, column, _ in refusals(text)] == [place]


@pytest.mark.parametrize("text", ["[" * 10_000, "a: " + "{" * 2_000, "- " * 3_000, "[a," * 3_000])
def test_depth_is_refused_in_our_words(text: str) -> None:
    assert [message for _, _, message in refusals(text)] == ["nested deeper than 100 levels"]


def test_a_merge_conflict_is_called_that() -> None:
    for name in ("merge conflict", "merge conflict in a list"):
        assert [said for _, _, said in refusals(REFUSED[name][0])] == ["a merge conflict of git's is not resolved"]


def test_all_problems_of_a_file_are_reported_at_once() -> None:
    assert refusals("a: 010\nb: 12:30\na: 1\n? [x]\n: 2\n") == [
        (1, 4, "a number that begins with 0 is octal in YAML 1.1"),
        (2, 4, "digits with colons are a base 60 number in YAML 1.1"),
        (3, 1, 'the key "a" appears twice'),
        (4, 3, "a key must be text"),
    ]


def test_a_syntax_error_repeats_nothing_of_the_line() -> None:
    for text in ('password: "hunter2\n', "password: hunter2: x\n", "password: [hunter2\n", "password: @hunter2\n"):
        _, (problem,) = YamlFile("x.yaml", text.encode()).read()
        assert "hunter2" not in str(problem)


def test_values_of_refused_scalars_are_not_repeated() -> None:
    _, (problem,) = YamlFile("x.yaml", b"password: 0123456\n").read()
    assert "0123456" not in str(problem)


def test_yes_and_dates_are_noted_with_their_paths() -> None:
    (document,), problems = YamlFile("x.yaml", b"a:\n  - b: no\nuntil: 2026-12-31\n").read()
    assert problems == ()
    assert document.data == {"a": [{"b": False}], "until": "2026-12-31"}
    assert document.odd == {
        "a/0/b": ManifestProblem(
            "x.yaml", 2, 8, "no without quotes is false in YAML 1.1", 'write "no" in quotes, or false'
        )
    }
    assert list(document.dates) == ["until"]


def test_places_are_of_what_was_asked_for_and_above_it() -> None:
    file = YamlFile("x.yaml", b"a: 1\nb:\n  - c: {d: 1}\n    e/f: 2\n---\ng: 1\n")
    places = file.places({0: ["b/0/c/d"], 1: None})
    assert places[0].values == {
        "": (1, 1),
        "a": (1, 4),
        "b": (3, 3),
        "b/0": (3, 5),
        "b/0/c": (3, 8),
        "b/0/e~1f": (4, 10),
        "b/0/c/d": (3, 12),
    }
    assert places[0].keys["b/0/c/d"] == (3, 9)
    assert places[1].values == {"": (6, 1), "g": (6, 4)}


def test_the_parser_in_python_gives_the_same() -> None:
    text = b"a: &x {b: [1, 'two', \"three\"]}\nc: *x\nd: |\n  e\n"

    def build(*, pure: bool) -> Any:
        return Builder(open_events(text, pure=pure), "x.yaml").document()

    assert build(pure=True) == build(pure=False) == (yaml.safe_load(text), 1)


@pytest.mark.parametrize("name", [*BOMBS, *MANIFEST_BOMBS])
def test_a_bomb_is_refused_within_3_times_the_usual_cpu_and_100_mb(name: str) -> None:
    script = Path(__file__).parents[2] / "support" / "bombs.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, str(script), name], capture_output=True, text=True, check=True, env=environment
    )
    refused, ratio, megabytes = json.loads(done.stdout)
    assert refused is (name not in HARMLESS)
    assert ratio < 3  # a multiple of PyYAML's time for 120,000 keys, as seconds would depend on the machine
    assert megabytes < 100
