"""Where each value came from: the manifest or which default. Computed only on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from reconciler.manifest.fleet_document import Entry, inherited_paths
from reconciler.model.kinds import long_path
from reconciler.model.records import dataclass


@dataclass(slots=True)
class InstanceOrigins(Mapping[str, str]):
    """By path of the normalised document: `default`, `defaults` (of the fleet), `variable company`, `clients.csv:3`.
    Paths that are absent are written in the manifest itself."""

    entry: Entry
    filled: tuple[str, ...]
    said: Mapping[str, str]
    _found: dict[str, str] | None = field(default=None, repr=False)

    def _all(self) -> dict[str, str]:
        if self._found is None:
            inherited = dict.fromkeys(inherited_paths(self.entry.defaults, self.entry.own), "defaults")
            said = {_long_path(path): words for path, words in self.said.items()}
            self._found = {**dict.fromkeys(self.filled, "default"), **inherited, **said}
        return self._found

    def __getitem__(self, path: str) -> str:
        return self._all()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _long_path(path: str) -> str:
    """The path in the long form, which the normalised document has, for a path in a short form."""
    return "environment/name" if path == "environment" else long_path(path)
