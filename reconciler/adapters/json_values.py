"""Values for JSON columns, their characters unescaped: a database that is not in UTF8 can't read every escape."""

from __future__ import annotations

import json
from typing import Any

from psycopg.types.json import Json as PsycopgJson

from reconciler.core.model import encodable


class Json(PsycopgJson):
    """psycopg's, but for how it is written."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, dumps=_dumps)


def _dumps(value: Any) -> str:
    return encodable(json.dumps(value, ensure_ascii=False))
