"""Formatting changes how a manifest looks, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.manifest.formatter import Unformattable, format_text
from reconciler.model.errors import ManifestError

ROOT = Path(__file__).parents[3]

MESSY = """\
# of the file

# of the instance
instance: a   # behind it
version: 1
# of the queues
queues:
- name: x   # behind x
  description: "q"

- name:   y
  # below y

plans: {source:   connect}


admin:
    email: a@b.c
config:
  settings:
    text: |
      two
        lines # no comment
    long: "a text that is longer than eighty characters stays on one line, however long it may be, as it was written"
    nothing: null
# of the end
---
# of the second
instance: b
version: 1
...
"""

TIDY = """\
# of the file

version: 1

# of the instance
instance: a   # behind it
config:
  settings:
    text: |
      two
        lines # no comment
    long: "a text that is longer than eighty characters stays on one line, however long it may be, as it was written"
    nothing: null

admin:
  email: a@b.c
# of the queues
queues:
  - name: x # behind x
    description: "q"

  - name: y
  # below y

plans: {source: connect}
# of the end
---
# of the second
version: 1
instance: b
"""


def test_keys_are_ordered_and_comments_stay_with_them() -> None:
    assert format_text("m.yaml", MESSY.encode()) == TIDY


def test_formatted_text_stays_as_it_is() -> None:
    assert format_text("m.yaml", TIDY.encode()) == TIDY


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_projects_manifests_are_formatted(path: Path) -> None:
    text = path.read_bytes()
    assert format_text(str(path), text) == text.decode()


SAME = [
    "version: 1\ninstance: a\n",
    "a: &x {b: 1}\nversion: 1\nc: *x\n",
    "a: 'quoted'\nb: \"also\"\nc: >-\n  folded\n  text\n",
    "{version: 1, instance: a}\n",
    "version: 1\ninstance: a\nqueues: []\nlabels: {}\n",
]


@pytest.mark.parametrize("text", SAME)
def test_formatting_twice_is_formatting_once(text: str) -> None:
    once = format_text("m.yaml", text.encode())
    assert format_text("m.yaml", once.encode()) == once


@pytest.mark.parametrize(
    "number", ["100000000000000000000000.0", "-12345678901234567890123.5", "1.10", "+.5", "5.", "&x -0.0"]
)
def test_a_number_keeps_its_digits(number: str) -> None:
    """The same float has different digits: 099999999999999991611392.0."""
    text = f"version: 1\ninstance: a\nvars:\n  x: {number}\n"
    assert format_text("m.yaml", text.encode()) == text


def test_windows_lines_and_marks_become_plain() -> None:
    assert format_text("m.yaml", b"\xef\xbb\xbfversion: 1\r\ninstance: a\r\n") == "version: 1\ninstance: a\n"


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_any_line_end_becomes_a_line_feed(end: str) -> None:
    text = "# a\n# b\nversion: 1\nqueues:\n  - name: x # c\n\ninstance: a\n"
    assert format_text("a.yaml", text.replace("\n", end).encode()) == format_text("a.yaml", text.encode())


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029"])
def test_an_unusual_line_break_is_reported_with_its_place(mark: str) -> None:
    text = f"# a\n# b{mark}# c\nversion: 1\nqueues:\n  - name: x\ninstance: a\n"
    with pytest.raises(Unformattable) as caught:
        format_text("a.yaml", text.encode())
    assert str(caught.value) == (
        f"a.yaml:2:4: a line that ends by U+{ord(mark):04X}; the file is not formatted"
        " (end it as the others, or write an escape)"
    )


def test_aliases_are_not_moved_before_their_anchors() -> None:
    text = "queues: &q [{name: x}]\nversion: 1\n"
    assert format_text("m.yaml", text.encode()) == text


def test_unreadable_manifests_exit_with_65() -> None:
    with pytest.raises(ManifestError) as caught:
        format_text("m.yaml", b"a: [\n")
    assert [problem.line for problem in caught.value.problems] == [2]


UNFORMATTABLE = {
    "%YAML 1.2\n---\nversion: 1\n": "m.yaml:1:1: a file with the directive %YAML 1.2 is not formatted "
    "(take that line out; the manifest means the same without it)",
    "a: 1\n...\n%TAG ! tag:x,2000:\n---\nb: 1\n": "m.yaml:3:1: a file with the directive %TAG ! tag:x,2000: is not "
    "formatted (take that line out; the manifest means the same without it)",
    "a: 1\nqueues: [\n  {name: x}, # second\n  ]\n": "m.yaml:3:14: this comment would be lost; the file is not "
    "formatted (move it to a line of its own, outside of { … } and [ … ])",
    "? a # of a key\n: 2\n": "m.yaml: cannot be formatted without changing what it says or losing a comment "
    "(write mappings and lists as the other manifests have them)",
}


@pytest.mark.parametrize("text", UNFORMATTABLE)
def test_unformattable_text_is_reported_with_its_place(text: str) -> None:
    with pytest.raises(Unformattable) as caught:
        format_text("m.yaml", text.encode())
    assert (caught.value.message, caught.value.exit_code) == (UNFORMATTABLE[text], 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "the file is empty"), ("---\n", "the file is empty"), ("# a\n", "the file holds no manifest, only comments")],
)
def test_a_file_without_a_manifest_is_65(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        format_text("m.yaml", text.encode())
    hint = 'write a manifest, such as "fivrec init -" prints, or remove the file'
    assert (caught.value.message, caught.value.exit_code) == (f"m.yaml:1:1: {said} ({hint})", 65)


JSON = """\
{"queues": [{"description": "a # b ##[x]",
   "name": "Olá 😀\\u2028"}], "plans": {}, "labels": {"x": [], "y": 1.50},
 "version": 1, "instance": "a"}"""
TIDY_JSON = """\
{
  "version": 1,
  "instance": "a",
  "labels": {
    "x": [],
    "y": 1.5
  },
  "queues": [
    {
      "description": "a # b #\\u0023[x]",
      "name": "Olá 😀\\u2028"
    }
  ],
  "plans": {}
}
"""


def test_json_stays_json() -> None:
    assert format_text("m.json", JSON.encode()) == TIDY_JSON
    assert format_text("m.json", TIDY_JSON.encode()) == TIDY_JSON
    assert format_text("m.json", TIDY_JSON.replace("\n", "\r\n").encode()) == TIDY_JSON
    assert json.loads(TIDY_JSON) == json.loads(JSON)
