"""Build plain values from YAML events, counting nodes, depth and alias expansion on the way."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from reconciler.manifest.yaml.events import NextEvent, scalar_text
from reconciler.manifest.yaml.positions import Link, PlaceRecorder, find_position, join
from reconciler.manifest.yaml.scalars import UNSTORABLE, Note, read_plain
from reconciler.model.errors import ManifestProblem
from reconciler.model.json_pointer import escape
from reconciler.model.records import dataclass

MAX_DEPTH: Final = 100
MAX_EXPANSION: Final = 10_000
MAX_NODES: Final = 250_000
MAX_DOCUMENTS: Final = 10_000
MAX_ANCHORS: Final = 1_000
MAX_ODD: Final = 10_000
MAX_KEY: Final = 256
MAX_PROBLEMS: Final = 100

_MERGE: Final = object()
_OWN_TAGS: Final = frozenset(
    ["binary", "bool", "float", "int", "merge", "null", "omap", "pairs", "set", "timestamp", "value", "yaml"]
)
_ALLOWED_TAGS: Final = frozenset([None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))])


@dataclass(frozen=True, slots=True)
class _Anchor:
    """`weight`: nodes that one alias adds; 0 while the value is still open. `height`: levels that it adds."""

    value: Any
    weight: int
    height: int


def too_deep(path: str, line: int, column: int) -> ManifestProblem:
    return ManifestProblem(path, line, column, f"nested deeper than {MAX_DEPTH} levels", "make it flatter")


class Stop(Exception):
    def __init__(self, problem: ManifestProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Builder:
    """Reads document after document. `recorder` keeps the positions in the documents that it was created for."""

    def __init__(self, events: NextEvent, path: str, recorder: PlaceRecorder | None = None) -> None:
        self._next = events
        self._path = path
        self._recorder = recorder or PlaceRecorder({})
        self._nodes = 0
        self.count = 0
        self.problems: list[ManifestProblem] = []
        self._start_document()

    def _start_document(self) -> None:
        self.odd: dict[str, ManifestProblem] = {}
        self.dates: dict[str, ManifestProblem] = {}
        self.lists: dict[str, list[int]] = {}
        self._anchors: dict[str, _Anchor] = {}
        self._weight = 0  # nodes, counted as if every alias were written out
        self._expanded = 0
        self.depth = 0
        self.opened_at = (-1, -1)  # line and column, from 0, of the last collection that began
        self._deepest = 0

    def document(self) -> tuple[Any, int] | None:
        """Returns the next document's value and line, None after the last. Raises Stop or yaml.YAMLError if it can't
        continue."""
        while (event := self._next()) is not None:
            if isinstance(event, DocumentStartEvent):
                break
        else:
            return None
        self._start_document()
        first = self._take()
        if self.count >= MAX_DOCUMENTS:
            self._stop(first, f"more than {MAX_DOCUMENTS:,} documents in a file", "split it over several files")
        line = int(first.start_mark.line) + 1
        self._recorder.start(self.count, first)
        data = self._value(first, None, "")
        self.count += 1
        return data, line

    def _take(self) -> Any:
        event = self._next()
        if event is None:  # libyaml closes what it opened; this is only for mypy
            raise Stop(ManifestProblem(self._path, 1, 1, "the file ends early"))
        return event

    def _value(self, event: Any, parent: Link, key: str | int) -> Any:
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event)
        self._nodes += 1
        self._weight += 1
        if self._nodes > MAX_NODES:
            self._stop(event, f"the file holds more than {MAX_NODES:,} values", "split it over several files")
        if event.anchor is not None:
            return self._anchored(event, parent, key)
        if kind is ScalarEvent:
            return self._scalar(event, parent, key)
        return self._collection(event, parent, key)

    def _anchored(self, event: Any, parent: Link, key: str | int) -> Any:
        """Build a value and note what an alias of it costs."""
        self._anchors[event.anchor] = _Anchor(None, 0, 0)
        if len(self._anchors) > MAX_ANCHORS:
            self._stop(event, f"more than {MAX_ANCHORS:,} anchors in a document", "write fewer anchors")
        weight, deepest = self._weight - 1, self._deepest
        self._deepest = self.depth
        build = self._scalar if type(event) is ScalarEvent else self._collection
        value = build(event, parent, key)
        self._anchors[event.anchor] = _Anchor(value, self._weight - weight, self._deepest - self.depth)
        self._deepest = max(deepest, self._deepest)
        return value

    def _alias(self, event: Any) -> Any:
        anchor = self._anchors.get(event.anchor)
        if anchor is None or anchor.weight == 0:
            reason = "names no anchor above it" if anchor is None else "stands inside what it names"
            self._stop(event, f"the alias *{event.anchor[:60]} {reason}", "write the value out")
        self._weight += anchor.weight
        self._expanded += anchor.weight
        self._deepest = max(self._deepest, self.depth + anchor.height)
        if self._expanded > MAX_EXPANSION or self._deepest > MAX_DEPTH:
            self._stop(
                event,
                f"aliases expand to more than {MAX_EXPANSION:,} values or {MAX_DEPTH} levels",
                "write fewer aliases",
            )
        return anchor.value

    def _scalar(self, event: Any, parent: Link, key: str | int) -> Any:
        text = scalar_text(event)
        if event.tag is None and event.implicit[0]:
            value, note = read_plain(text)
            if note is not None:
                self._note(note, event, parent, key)
            return value
        self._check_tag(event)
        if event.style == '"' and UNSTORABLE.search(text):
            self._say(event, "an escape in this text makes a character that cannot be stored", "take it out")
        return text

    def _check_tag(self, event: Any) -> None:
        if event.tag not in _ALLOWED_TAGS:
            self._say(event, f"the tag {_shown(event.tag)} is not allowed", "write plain values, text in quotes")

    def _note(self, note: Note, event: Any, parent: Link, key: str | int) -> None:
        if len(self.odd) + len(self.dates) >= MAX_ODD:
            self._stop(event, f"more than {MAX_ODD:,} words without quotes that YAML 1.1 reads as others", note.hint)
        problem = ManifestProblem(self._path, *find_position(event), note.message, note.hint)
        match note.kind:
            case "refused":
                self._add(problem)
            case "boolean":
                self.odd[join(parent, key)] = problem
            case "date":
                self.dates[join(parent, key)] = problem

    def _collection(self, event: Any, parent: Link, key: str | int) -> Any:
        self.depth += 1
        self.opened_at = (event.start_mark.line, event.start_mark.column)
        self._deepest = max(self._deepest, self.depth)
        if self.depth > MAX_DEPTH:
            raise Stop(too_deep(self._path, *find_position(event)))
        self._check_tag(event)
        # The root has no key: its children's paths begin with their own.
        link: Link = (parent, key) if self.depth > 1 else None
        outer, prefix = self._recorder.enter(link)
        build = self._sequence if type(event) is SequenceStartEvent else self._mapping
        value = build(link, prefix)
        self._recorder.leave(outer)
        self.depth -= 1
        return value

    def _sequence(self, link: Link, prefix: str | None) -> list[Any]:
        items: list[Any] = []
        lines = self.lists.setdefault(str(link[1]), []) if link is not None and link[0] is None else None
        while type(event := self._take()) is not SequenceEndEvent:
            if prefix is not None:
                self._recorder.keep(f"{prefix}{len(items)}", event, event)
            if lines is not None:
                lines.append(event.start_mark.line + 1)
            items.append(self._value(event, link, len(items)))
        return items

    def _mapping(self, link: Link, prefix: str | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merges: list[dict[str, Any]] = []
        seen: set[object] = set()
        while type(event := self._take()) is not MappingEndEvent:
            key = self._key(event, link, values, seen)
            event_of_value = self._take()
            if key is _MERGE:
                merges.extend(self._merge(event_of_value, link))
            elif isinstance(key, str):
                if prefix is not None:
                    self._recorder.keep(prefix + escape(key), event, event_of_value)
                values[key] = self._value(event_of_value, link, key)
            else:
                self._value(event_of_value, link, "")
        for merge in merges:
            for name, value in merge.items():
                values.setdefault(name, value)
        return values

    def _key(self, event: Any, link: Link, values: dict[str, Any], seen: set[object]) -> object:
        """Returns the key, _MERGE, or None if it is refused."""
        if type(event) is not ScalarEvent:
            self._value(event, link, "")
            self._say(event, "a key must be text", 'write a value that begins with {{ in quotes: "{{ name }}"')
            return None
        self._nodes += 1
        self._weight += 1
        text = scalar_text(event)
        if event.tag is None and event.implicit[0]:
            if text == "<<":
                if _MERGE in seen:
                    self._say(event, 'the key "<<" appears twice', "write <<: [*one, *other]")
                seen.add(_MERGE)
                return _MERGE
            value, note = read_plain(text)
            if note is not None or type(value) is not str:
                shown = text[:40] or "(nothing)"
                self._say(event, f"the key {shown} is not text in YAML 1.1", "write it in quotes")
                return None
        return self._check_key(event, text, values)

    def _check_key(self, event: Any, text: str, values: dict[str, Any]) -> str | None:
        if len(text) > MAX_KEY or UNSTORABLE.search(text):
            self._say(event, f"a key is longer than {MAX_KEY} characters, or holds one that cannot be stored", "")
        elif event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            self._say(event, f"the tag {_shown(event.tag)} is not allowed", "keys are plain text")
        elif text in values:
            self._say(event, f'the key "{text}" appears twice', "keep one of the two")
        else:
            return text
        return None

    def _merge(self, event: Any, link: Link) -> list[dict[str, Any]]:
        value = self._value(event, link, "<<")
        merges = value if isinstance(value, list) else [value]
        if all(isinstance(merge, dict) for merge in merges):
            return merges
        self._say(event, "<< takes a mapping or a list of mappings", "write <<: *anchor")
        return []

    def _say(self, event: Any, message: str, hint: str) -> None:
        self._add(ManifestProblem(self._path, *find_position(event), message, hint))

    def _add(self, problem: ManifestProblem) -> None:
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            more = ManifestProblem(self._path, problem.line, problem.column, "too many problems; the rest was not read")
            raise Stop(more)

    def _stop(self, event: Any, message: str, hint: str) -> NoReturn:
        raise Stop(ManifestProblem(self._path, *find_position(event), message, hint))


def _shown(tag: str) -> str:
    """YAML's own tags by name. Any other may be a secret that begins with "!" and was not quoted."""
    own = tag.removeprefix("tag:yaml.org,2002:").partition(":")[0]
    return f"!!{own}" if own in _OWN_TAGS or own.startswith("python/") else "that begins with !"
