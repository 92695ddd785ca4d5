"""Paths in YAML documents, and the positions of their values. Kept only for the documents and paths that are needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeAlias

from reconciler.model.json_pointer import escape
from reconciler.model.records import dataclass

MAX_PATH: Final = 512  # of a recorded position; deeper values are shown at their parent

Place: TypeAlias = tuple[int, int]
"""Line and column, counting from 1."""

Link: TypeAlias = "tuple[Link, str | int] | None"
"""A path as a chain from the leaf to the root: costs nothing until its text is needed."""


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of values and their keys, by path (`queues/0/name`; `/` and `~` in keys as in RFC 6901)."""

    values: Mapping[str, Place]
    keys: Mapping[str, Place]


def join(parent: Link, key: str | int) -> str:
    """The text of a path: `queues/0/name`."""
    parts = [key]
    while parent is not None:
        parent, key = parent
        parts.append(key)
    return "/".join(escape(part) if isinstance(part, str) else str(part) for part in reversed(parts))


def find_position(event: Any) -> Place:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


class PlaceRecorder:
    """Records positions while documents are built. `wanted` maps a document's index to the paths needed in it, which
    include their parents; None: all of its paths."""

    def __init__(self, wanted: Mapping[int, Collection[str] | None]) -> None:
        self._wanted_by_document = wanted
        self._wanted: frozenset[str] | None = None
        self._active = False
        self._values: dict[str, Place] = {}
        self._keys: dict[str, Place] = {}
        self.found: dict[int, Places] = {}

    def start(self, index: int, root: Any) -> None:
        self._active = index in self._wanted_by_document
        if not self._active:
            return
        wanted = self._wanted_by_document[index]
        self._wanted = None if wanted is None else frozenset(_with_ancestors(wanted))
        self._values, self._keys = {"": find_position(root)}, {}
        self.found[index] = Places(self._values, self._keys)

    def enter(self, link: Link) -> tuple[bool, str | None]:
        """Enter a collection. Returns the value to pass to `leave`, and the beginning of its children's paths; None if
        none of them is wanted."""
        outer = self._active
        prefix = self._prefix(link) if outer else None
        self._active = prefix is not None
        return outer, prefix

    def leave(self, outer: bool) -> None:  # noqa: FBT001  what `enter` gave
        self._active = outer

    def keep(self, path: str, of_key: Any, of_value: Any) -> None:
        self._keys[path] = find_position(of_key)
        self._values[path] = find_position(of_value)

    def _prefix(self, link: Link) -> str | None:
        path = "" if link is None else join(*link)
        if len(path) > MAX_PATH or (self._wanted is not None and path not in self._wanted):
            return None
        return path + "/" if path else ""


def _with_ancestors(paths: Collection[str]) -> Iterator[str]:
    yield ""
    for path in paths:
        yield path
        while "/" in path:
            path = path.rpartition("/")[0]  # noqa: PLW2901  climbing is the point
            yield path
