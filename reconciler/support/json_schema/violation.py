"""What one violation of a schema is: shared by the verdict and its words."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """`path` is like `queues/0/name`. `of_key`: it is the key that does not fit, not its value."""

    path: str
    message: str
    hint: str = ""
    of_key: bool = False
