"""Cuts what a client sends to PostgreSQL into messages: a test can make something happen between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SSL_REQUEST, CANCEL_REQUEST, GSS_REQUEST = 80877103, 80877102, 80877104


@dataclass(frozen=True)
class Message:
    """`kind` is the protocol's letter, `*` for messages that have none; `text` is the statement of a Query or a
    Parse."""

    kind: str
    raw: bytes
    text: str = ""

    @property
    def is_statement(self) -> bool:
        """Whether the message makes the server execute something."""
        return self.kind in "QE"


class Messages:
    """Cuts one connection's bytes into messages as they arrive."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, chunk: bytes) -> Iterator[Message]:
        self._rest += chunk
        while message := self._next():
            self._rest = self._rest[len(message.raw) :]
            yield message

    def _next(self) -> Message | None:
        head = 1 if self._started else 0
        if len(self._rest) < head + 4:
            return None
        length = head + int.from_bytes(self._rest[head : head + 4])
        if len(self._rest) < length:
            return None
        raw = self._rest[:length]
        if self._started:
            return Message(chr(raw[0]), raw, _statement(raw))
        code = int.from_bytes(raw[4:8])
        self._started = code not in (SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST)
        return Message("*", raw)


def _statement(raw: bytes) -> str:
    match chr(raw[0]):
        case "Q":
            return raw[5:-1].decode()
        case "P":
            return raw[5:].split(b"\0")[1].decode()
        case _:
            return ""
