"""What an earlier loading made of words that a later one finds again: of a whole file, or of a row of its CSV file.

A watch reads its manifests again whenever one of them changes; the others are as they were, and so is what they mean.
Kept is only what was found right, and what nothing but these words decides: what looks at folders or service files is
made again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reconciler.model.records import dataclass
from reconciler.model.types import EMBEDDED

if TYPE_CHECKING:
    from reconciler.manifest.yaml.parser import YamlFile

T = TypeVar("T")

WHOLE = "whole"
"""The key of all that a file declares, where no other file has a say in it."""


@dataclass(slots=True)
class Kept(Generic[T]):
    """What one file's words made, by the rows that they were made of, and the variables that had a say in it."""

    text: bytes
    found: dict[Hashable, tuple[T, tuple[tuple[str, str | None], ...]]] = field(default_factory=dict)


@dataclass(slots=True)
class Reuse(Generic[T]):
    """Between loadings of the same paths. What a loading did not ask for again is forgotten with its end."""

    _extra: str = ""
    _environ: Mapping[str, str] = field(default_factory=dict)
    _before: dict[str, Kept[T]] = field(default_factory=dict)
    _now: dict[str, Kept[T]] = field(default_factory=dict)

    def begin(self, extra: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Before a loading, whose -e and environment these are."""
        said = repr(extra)  # 1 and true are equal, and render differently
        self._before = self._now if said == self._extra else {}
        self._now = {}
        self._extra, self._environ = said, environ

    def find(self, file: YamlFile, key: Hashable) -> T | None:
        """What the same words made, if nothing else that counted is another now."""
        kept = self._before.get(file.path)
        if kept is None or kept.text != file.text or key not in kept.found:
            return None
        made, variables = kept.found[key]
        if any(self._environ.get(name) != value for name, value in variables):
            return None
        self._of(file).found[key] = kept.found[key]
        return made

    def keep(self, file: YamlFile, key: Hashable, made: T, variables: tuple[str, ...] = ()) -> None:
        self._of(file).found[key] = (made, tuple((name, self._environ.get(name)) for name in variables))

    def _of(self, file: YamlFile) -> Kept[T]:
        return self._now.setdefault(file.path, Kept(file.text))


def is_timeless(document: Mapping[str, Any]) -> bool:
    """Whether a normalised document is right or wrong by its words alone: rules look at the folder of an embedded
    server, and at libpq's service files."""
    database, config = document["database"], document["config"]
    named = (database["url"], database.get("provision_url"), config["connect_api_url"])
    texts = [text for one in named for text in (one.get("default") if isinstance(one, Mapping) else one,) if text]
    return not any((text.startswith(EMBEDDED) and text != EMBEDDED) or "service" in text for text in texts)
