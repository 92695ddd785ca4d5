"""Keys as parts of a JSON pointer (RFC 6901), and back."""

from __future__ import annotations


def escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "/" in key or "~" in key else key


def unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~") if "~" in part else part
