"""How a reference's source says that it gives no value. Holds no value."""

from __future__ import annotations


class SourceError(Exception):
    """A source that is there but does not fit, or one that is not allowed. `misplaced`: the manifest itself is
    wrong (65), not what surrounds it (78)."""

    def __init__(self, message: str, hint: str, *, misplaced: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.misplaced = misplaced
