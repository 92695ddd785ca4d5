"""Find the instance key in what Fi.V Connect sends: as it is, encoded in the ways that programs use, or spread over the
answer. Pure.

A panel that answers with what it was sent (an error page, a debugging proxy) would put the key into plans, reports and
logs. An answer that contains the key is refused as a whole. A key that is cut into distant pieces, or encrypted, is not
found.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, unquote

from reconciler.model.patterns import late
from reconciler.model.secret import Secret

_LONG_ENOUGH = 8
_UNMISTAKABLE = 16
"""So many matching letters and digits in a row are no coincidence, whatever is between them."""

_DOCUMENTED = frozenset(
    {
        *("active", "suspended", "pending_payment", "paid", "overdue"),
        *("instanceId", "chat", "chatbot", "id", "name", "price"),
    }
)
"""Texts that every answer contains, and that a very short key may equal."""

_BETWEEN = late(r"[\W_]+")
_ASCII_BETWEEN = {code: None for code in range(128) if not chr(code).isalnum()}


class KeyWatch:
    """Looks for the key in the bytes of one answer as they arrive: including the reason, names, chunk extensions and
    trailers."""

    def __init__(self, key: Secret) -> None:
        secret = key.reveal().encode().lower()
        self._secret = secret if len(secret) >= _LONG_ENOUGH else b""
        self._before = b""
        self.seen = False

    def feed(self, received: bytes) -> None:
        if self._secret and not self.seen:
            window = self._before + received.lower()
            self.seen = self._secret in window
            self._before = window[1 - len(self._secret) :]


def holds_key(answer: object, key: Secret) -> bool:
    """Whether a decoded answer contains the key. A key of fewer than 8 characters is found only if it is a whole text
    and not a word of the documented answer: "paid" or "k" would be found everywhere."""
    secret = key.reveal()
    if len(secret) < _LONG_ENOUGH:
        return bool(secret) and secret not in _DOCUMENTED and secret in _leaves(answer)
    text = json.dumps(answer, ensure_ascii=False).casefold()
    if any(form.casefold() in text for form in _forms(secret)):
        return True
    if any(secret.casefold() in unpacked for unpacked in _unpacked(text)):
        return True
    bare = _bare(secret.casefold())
    return len(bare) >= _UNMISTAKABLE and bare in _bare(text)


def _leaves(answer: object) -> Iterator[str]:
    """All texts of the answer, including keys, and its numbers as texts."""
    todo = [answer]
    while todo:
        match todo.pop():
            case str() as text:
                yield text
            case dict() as found:
                todo += found
                todo += found.values()
            case list() as items:
                todo += items
            case int() | float() as number if not isinstance(number, bool):
                yield str(number)


def _forms(secret: str) -> Iterator[str]:
    raw = secret.encode()
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield raw.hex()
    for shift in range(3):  # where the key begins within a group of three bytes
        packed = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")
        whole = packed[(0, 2, 3)[shift] : -1 if (shift + len(raw)) % 3 else None]
        yield whole
        yield whole.replace("+", "-").replace("/", "_")


def _unpacked(text: str) -> Iterator[str]:
    """The text without the escapes of URLs and HTML, including escapes of characters that need none."""
    if "%" in text:
        yield unquote(text).casefold()
    if "&" in text:
        from html import unescape

        yield unescape(text).casefold()


def _bare(text: str) -> str:
    """Only letters and digits: invisible characters, white space and punctuation must not hide a key."""
    bare = text.translate(_ASCII_BETWEEN)  # 20 times as fast as the pattern
    return bare if bare.isascii() else _BETWEEN.sub("", bare)
