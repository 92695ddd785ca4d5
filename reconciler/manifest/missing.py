"""What manifests lack, and the one error that names all of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from reconciler.model.errors import ManifestProblem, MissingSetting

SET_MISSING: Final = "set what is missing"
FEWEST_TOLD_TOGETHER: Final = 3


class Missing(NamedTuple):
    """What an instance lacks: a key of its manifest, why, and what to do. `unsaid`: its environment is only a default.
    `variable`: its name, if the only problem is that it is not set. `place`: where the manifest names it."""

    instance: str
    key: str
    words: str
    hint: str
    unsaid: bool = False
    variable: str | None = None
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
    """What is missing, and for which instances; variables are listed together, since each instance may have its own."""
    by_words: dict[str, list[Missing]] = {}
    for one in group:
        by_words.setdefault(one.words, []).append(one)
    unset = [alike for alike in by_words.values() if alike[0].variable is not None]
    if len(unset) == 1:
        unset = []
    told = [f"{words} ({_names(alike)})" for words, alike in by_words.items() if alike not in unset]
    if unset:
        listed = ", ".join(f"{alike[0].variable} ({_names(alike)})" for alike in unset)
        told.insert(0, f"the variables {listed} are not set")
    return "; ".join(told)


def _names(group: Sequence[Missing]) -> str:
    return ", ".join(one.instance for one in group)


def _joined(hints: Iterable[str]) -> str:
    """Each hint once; hints with the same beginning share it: set what is missing, or …, or …"""
    others = dict.fromkeys(hint for hint in hints if hint)
    tails = [hint.removeprefix(SET_MISSING) for hint in others if hint.startswith(SET_MISSING)]
    first = [SET_MISSING + "".join(tails)] if tails else []
    return "; ".join([*first, *(hint for hint in others if not hint.startswith(SET_MISSING))])
