"""Results of an earlier loading for text that is found again: a whole file, or a row of its CSV file.

A watch reads its manifests again whenever one of them changes; the others are unchanged, and so are their results. Only
valid results are kept, and only if they depend on nothing but the text: a check that looks at folders or service files
is repeated.
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
"""The key for everything that a file declares, if it does not depend on other files."""


@dataclass(slots=True)
class Kept(Generic[T]):
    """The results of one file's text, by its rows, and the variables that they depend on."""

    text: bytes
    found: dict[Hashable, tuple[T, tuple[tuple[str, str | None], ...]]] = field(default_factory=dict)


@dataclass(slots=True)
class Reuse(Generic[T]):
    """Kept between loadings of the same paths. Results that a loading did not use are forgotten at its end."""

    _extra: str = ""
    _environ: Mapping[str, str] = field(default_factory=dict)
    _before: dict[str, Kept[T]] = field(default_factory=dict)
    _now: dict[str, Kept[T]] = field(default_factory=dict)

    def begin(self, extra: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Begin a loading with these -e variables and this environment."""
        said = repr(extra)  # 1 and true are equal, but render differently
        self._before = self._now if said == self._extra else {}
        self._now = {}
        self._extra, self._environ = said, environ

    def find(self, file: YamlFile, key: Hashable) -> T | None:
        """The result for the same text, if everything else that it depends on is unchanged."""
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
    """Whether the validity of a normalised document depends on its text alone: some rules look at the folder of an
    embedded server, and at libpq's service files."""
    database, config = document["database"], document["config"]
    named = (database["url"], database.get("provision_url"), config["connect_api_url"])
    texts = [text for one in named for text in (one.get("default") if isinstance(one, Mapping) else one,) if text]
    return not any((text.startswith(EMBEDDED) and text != EMBEDDED) or "service" in text for text in texts)
