"""Validators of what is answered (RFC 9110, 8.8 and 13.1). Pure."""

from __future__ import annotations

import hashlib


def etag_of(content: bytes | str) -> str:
    """A strong one: equal for equal bytes alone."""
    raw = content.encode() if isinstance(content, str) else content
    return f'"{hashlib.sha256(raw).hexdigest()[:32]}"'


def matches(header: str, etag: str) -> bool:
    """Whether If-Match or If-None-Match names this one. A weak one is compared by what it is of."""
    named = [word.strip().removeprefix("W/") for word in header.split(",")]
    return header.strip() == "*" or etag in named
