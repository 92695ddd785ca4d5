"""Formatting changes the looks of a manifest and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.manifest.formatter import format_text
from reconciler.model.errors import FivrecError, ManifestError

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


def test_what_is_formatted_stays_as_it_is() -> None:
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


def test_windows_lines_and_marks_become_plain() -> None:
    assert format_text("m.yaml", b"\xef\xbb\xbfversion: 1\r\ninstance: a\r\n") == "version: 1\ninstance: a\n"


def test_aliases_are_not_moved_before_their_anchors() -> None:
    text = "queues: &q [{name: x}]\nversion: 1\n"
    assert format_text("m.yaml", text.encode()) == text


def test_what_cannot_be_read_is_65() -> None:
    with pytest.raises(ManifestError) as caught:
        format_text("m.yaml", b"a: [\n")
    assert [problem.line for problem in caught.value.problems] == [2]


def test_a_comment_that_would_be_lost_leaves_the_text_alone() -> None:
    text = "version: 1\ninstance: a\nqueues: [ # first\n  {name: x}, # second\n  ]\n"
    try:
        formatted = format_text("m.yaml", text.encode())
    except FivrecError as exc:
        assert "without changing what it says or losing a comment" in exc.message  # noqa: PT017  either is right
    else:
        assert "# first" in formatted
        assert "# second" in formatted


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
