"""What a client says to PostgreSQL, cut into its messages: the boundaries at which a test lets something happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SSL_REQUEST, CANCEL_REQUEST, GSS_REQUEST = 80877103, 80877102, 80877104


@dataclass(frozen=True)
class Message:
    """`kind` is the protocol's letter, `*` for those before it; `text` is the statement of a Query or a Parse."""

    kind: str
    raw: bytes
    text: str = ""

    @property
    def is_statement(self) -> bool:
        """After it the server has something to carry out."""
        return self.kind in "QE"


class Messages:
    """One connection's messages, as its bytes come."""

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
