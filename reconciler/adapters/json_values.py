"""Values of JSON columns, to and fro.

They are written with their characters unescaped: a database that is not in UTF8 can't read every escape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Json as PsycopgJson

from reconciler.model.types import encodable


class Json(PsycopgJson):
    """psycopg's, but for how it is written."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, dumps=_dumps)


def features_of(value: Any) -> dict[str, bool]:
    """The features that a column of the app's holds: what else may stand there is none."""
    if not isinstance(value, Mapping):
        return {}
    return {name: on for name, on in value.items() if isinstance(on, bool)}


def _dumps(value: Any) -> str:
    return encodable(json.dumps(value, ensure_ascii=False))
