"""What manifests lack, and the one error that names all of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from reconciler.model.errors import ManifestProblem, MissingSetting

SET_MISSING: Final = "set what is missing"
FEWEST_TOLD_TOGETHER: Final = 3
LISTED: Final = {"env": ("the variables", "are not set"), "file": ("the files", "are not there, or empty")}
"""Kinds of references whose names are listed in one sentence: its beginning and its end."""


class Missing(NamedTuple):
    """What an instance lacks: a key of its manifest, why, and what to do. `unsaid`: its environment is only a default.
    `source`: the reference's kind and name, if the only problem is that it has no value. `place`: where the manifest
    names it."""

    instance: str
    key: str
    words: str
    hint: str
    unsaid: bool = False
    source: tuple[str, str] | None = None
    place: ManifestProblem | None = None

    @property
    def who(self) -> str:
        return f"{self.instance}{self.beside}"

    @property
    def beside(self) -> str:
        """Its row in a fleet's CSV file, to be appended to a message."""
        return f" ({self.place.row})" if self.place is not None and self.place.row else ""


def build_missing_error(missing: Sequence[Missing], *, of_one: bool = False) -> MissingSetting:
    """One error with its hint for everything that is missing. `of_one`: the caller names the instance, so its row is
    left out."""
    lines = (f"{one.key}: {one.words}{one.beside}" for one in missing) if of_one else _told(missing)
    message, hint = "\n".join(lines), _joined(one.hint for one in missing)
    error = MissingSetting(message, hint=hint)
    if any(one.unsaid for one in missing):
        error = MissingSetting(message, hint=hint, code="environment_unsaid")
    error.places = tuple(one.place for one in missing if one.place is not None)
    return error


def _told(missing: Sequence[Missing]) -> Iterator[str]:
    """A line per instance, but one line for many instances that lack the same key."""
    by_key: dict[str, list[Missing]] = {}
    for one in missing:
        by_key.setdefault(one.key, []).append(one)
    told: set[str] = set()
    for one in missing:
        group = by_key[one.key]
        if len(group) < FEWEST_TOLD_TOGETHER:
            yield f"{one.who}: {one.key}: {one.words}"
        elif one.key not in told:
            told.add(one.key)
            yield f"{len(group)} instances: {one.key}: {_listed(group)}"


def _listed(group: Sequence[Missing]) -> str:
    """What is missing, and for which instances; variables and files are listed together, since each instance may have
    its own."""
    by_words: dict[str, list[Missing]] = {}
    for one in group:
        by_words.setdefault(one.words, []).append(one)
    told: list[str] = []
    for kind, (what, why) in LISTED.items():
        alike = [some for some in by_words.values() if some[0].source is not None and some[0].source[0] == kind]
        if len(alike) > 1:
            named = ", ".join(f"{some[0].source[1]} ({_names(some)})" for some in alike if some[0].source)
            told.append(f"{what} {named} {why}")
            by_words = {words: some for words, some in by_words.items() if some not in alike}
    return "; ".join([*told, *(f"{words} ({_names(some)})" for words, some in by_words.items())])


def _names(group: Sequence[Missing]) -> str:
    return ", ".join(one.instance for one in group)


def _joined(hints: Iterable[str]) -> str:
    """Each hint once; hints with the same beginning share it: set what is missing, or …, or …"""
    others = dict.fromkeys(hint for hint in hints if hint)
    tails = [hint.removeprefix(SET_MISSING) for hint in others if hint.startswith(SET_MISSING)]
    first = [SET_MISSING + "".join(tails)] if tails else []
    return "; ".join([*first, *(hint for hint in others if not hint.startswith(SET_MISSING))])
