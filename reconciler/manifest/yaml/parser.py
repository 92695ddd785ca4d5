"""Read YAML into plain values, refusing constructs that surprise or attack. Knows nothing about manifests.

Built on libyaml's events, not on its nodes: nesting, size and alias expansion are counted before they happen. The hot
path keeps no positions; `YamlFile.places` reads the text a second time for the few that are needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import yaml

from reconciler.manifest.yaml.builder import MAX_DEPTH, Builder, Stop, too_deep
from reconciler.manifest.yaml.events import open_events
from reconciler.manifest.yaml.positions import Place, PlaceRecorder, Places
from reconciler.model.errors import ManifestProblem
from reconciler.model.patterns import late
from reconciler.model.records import dataclass

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_TAG_DIRECTIVES: Final = 16

# All but what YAML calls printable, and DEL; libyaml refuses the same characters, but without a position. Listing the
# printable ones takes 20 times as long to compile. Surrogates are not UTF-8.
_CONTROL = late("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_TAG_DIRECTIVE = late(rb"^%TAG", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document. `odd` maps the path of an unquoted yes/no/on/off to the message if it does not fit there; `dates`
    contains the paths of unquoted dates, which are read as text. `lists` has the lines of the entries of each list at
    the top level, by its key."""

    data: Any
    line: int
    index: int
    odd: Mapping[str, ManifestProblem] = field(default_factory=dict)
    dates: Mapping[str, ManifestProblem] = field(default_factory=dict)
    lists: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """The text of one file, and its name in messages."""

    path: str
    text: bytes

    def read(self) -> tuple[tuple[YamlDocument, ...], tuple[ManifestProblem, ...]]:
        """All documents and all problems. A syntax error ends the reading; what came before it is kept."""
        refusal = _refuse_text(self)
        if refusal is not None:
            return (), (refusal,)
        builder = Builder(open_events(self.text), self.path)
        documents: list[YamlDocument] = []
        try:
            while (document := builder.document()) is not None:
                data, line = document
                noted = builder.odd, builder.dates, builder.lists
                documents.append(YamlDocument(data, line, len(documents), *noted))
        except Stop as stop:
            builder.problems.append(stop.problem)
        except yaml.YAMLError as exc:
            found = _depth_problem(exc, self, builder) or _conflict(self) or _syntax_problem(exc, self.path)
            builder.problems.append(found)
        if not documents and not builder.problems:
            builder.problems.append(empty_file(self))
        return tuple(documents), tuple(builder.problems)

    def places(self, wanted: Mapping[int, Collection[str] | None]) -> Mapping[int, Places]:
        """By document, the positions of `wanted` paths and their parents, or of all paths; needs one more reading."""
        recorder = PlaceRecorder(wanted)
        if not wanted or _refuse_text(self) is not None:
            return {}
        builder = Builder(open_events(self.text), self.path, recorder)
        try:
            while builder.count <= max(wanted) and builder.document() is not None:
                pass
        except (Stop, yaml.YAMLError):
            pass  # `read` has reported it; the positions up to there serve its other problems
        return recorder.found


def empty_file(file: YamlFile) -> ManifestProblem:
    said = "the file holds no manifest, only comments" if b"#" in file.text else "the file is empty"
    hint = 'write a manifest, such as "fivrec init -" prints, or remove the file'
    return ManifestProblem(file.path, 1, 1, said, hint)


def _refuse_text(file: YamlFile) -> ManifestProblem | None:
    if len(file.text) > MAX_BYTES:
        return ManifestProblem(file.path, 1, 1, "the file is larger than 8 MiB", "split it over several files")
    try:
        text = file.text.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = file.text[: exc.start].decode("utf-8", "replace")
        return ManifestProblem(file.path, *end_of(before), "the file is not UTF-8", "save it as UTF-8")
    if found := _CONTROL.search(text):
        code = f"U+{ord(found.group()):04X}"
        place = end_of(text[: found.start()])
        return ManifestProblem(file.path, *place, f"control character {code}", "take it out, or write it as an escape")
    # libyaml compares each %TAG with all before it: 100,000 of them would take minutes.
    if len(_TAG_DIRECTIVE.findall(file.text)) > MAX_TAG_DIRECTIVES:
        return ManifestProblem(file.path, 1, 1, "too many %TAG directives", "manifests need none")
    return None


def end_of(before: str) -> Place:
    """The position of what follows this text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


_HINTS: Final = (
    ("cannot start any token", "indent with spaces, and write a value that begins with this character in quotes"),
    ("mapping values are not allowed", "write a value that holds a colon in quotes, and check the indentation"),
    ("did not find expected key", "check the indentation and the quotes above this line"),
    ("could not find expected ':'", "check the indentation and the quotes above this line"),
    ("invalid Unicode character escape code", "write the character itself"),
    ("unexpected end of stream", "a quote or bracket is left open"),
)


_CONFLICT: Final = late(rb"^(?:<{7}|>{7}) ", re.MULTILINE)
_BRACKETS: Final = late(r"[\[{][\[{ ]*")


def _depth_problem(exc: yaml.YAMLError, file: YamlFile, builder: Builder) -> ManifestProblem | None:
    """The builder's limit, for files on which libyaml stops before it returns the events of a row of open brackets.

    A bracket may begin a key, so libyaml scans up to 1,024 characters ahead; since 0.2.6 it stops at 1,000 levels.
    """
    mark = exc.problem_mark if isinstance(exc, yaml.MarkedYAMLError) else None
    if mark is None or mark.column <= MAX_DEPTH:
        return None
    line = file.text.decode("utf-8-sig").splitlines()[mark.line][: mark.column]
    read = builder.opened_at
    for run in _BRACKETS.finditer(line):
        columns = [at for at in range(run.start(), run.end()) if line[at] != " " and (mark.line, at) > read]
        if len(columns) > MAX_DEPTH:
            return too_deep(file.path, mark.line + 1, columns[MAX_DEPTH - builder.depth] + 1)
    return None


def _conflict(file: YamlFile) -> ManifestProblem | None:
    """An unresolved merge conflict, at git's mark: libyaml would report a line after it."""
    mark = _CONFLICT.search(file.text)
    if mark is None:
        return None
    line = file.text.count(b"\n", 0, mark.start()) + 1
    return ManifestProblem(file.path, line, 1, "a merge conflict of git's is not resolved", "git status lists them")


def _syntax_problem(exc: yaml.YAMLError, path: str) -> ManifestProblem:
    """libyaml's message and position; never its snippet of the text, which may contain a secret."""
    if not isinstance(exc, yaml.MarkedYAMLError) or exc.problem is None:
        return ManifestProblem(path, 1, 1, "the file is not YAML", "check its encoding and its first lines")
    mark = exc.problem_mark or exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    message = " ".join(part for part in (exc.context, exc.problem) if part)
    hint = next((hint for words, hint in _HINTS if words in message), "")
    return ManifestProblem(path, line, column, f"YAML: {message}", hint)
