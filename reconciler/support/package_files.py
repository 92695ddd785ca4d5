"""Find the files that come with the package: schemas/ and sql/. Reads nothing else.

In the wheel they are inside the package, in a checkout beside it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def resource_path(name: str) -> Path:
    """Returns the path of `schemas/report.v1.schema.json`, `sql/kinds` and the like. Raises FileNotFoundError."""
    for folder in (_PACKAGE, _PACKAGE.parent):
        path = folder / name
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is missing from the installed package; install fivrec again")


def read_text(name: str) -> str:
    return resource_path(name).read_text(encoding="utf-8")
