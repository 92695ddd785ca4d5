"""Fits fivrec's own texts to databases in another encoding than UTF-8. A character that the encoding lacks is left out:
the server would refuse the statement, and with it the lock that the text reports. Declared values are never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.database.connection import Connection

UNKNOWN = "ascii"
_TAKES_ALL = ("UTF8", "SQL_ASCII")


def codec_of(conn: Connection) -> str | None:
    """Returns Python's name of the database's encoding, or ASCII's if Python has none; None if the database takes any
    text. Costs no round trip."""
    if conn.closed:
        return None  # the write that follows reports that
    name = conn.info.parameter_status("server_encoding") or "UTF8"
    if name in _TAKES_ALL:
        return None
    name = name.replace("WIN", "cp").replace("KOI8", "koi8_")
    try:
        "".encode(name)
    except LookupError:
        return UNKNOWN
    return name


def fitted(value: Any, codec: str | None) -> Any:
    """Returns the text, or the document with its texts, without the characters that the codec lacks."""
    if codec is None:
        return value
    if isinstance(value, str):
        return value.encode(codec, "ignore").decode(codec).strip()
    if isinstance(value, Mapping):
        return {name: fitted(item, codec) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fitted(item, codec) for item in value]
    return value
