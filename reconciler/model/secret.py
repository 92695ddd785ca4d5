"""A type for secrets: whatever prints one, prints (sensitive). Pure."""

from __future__ import annotations

import hmac
from typing import NoReturn

MASK = "(sensitive)"


class Secret:
    """A text that must not leave the process. Only `reveal()` returns it; call that only where the text is used."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_as_bytes(self._value), _as_bytes(other._value))

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never serialised")


class Unencrypted(Secret):
    """A stored text that never equals a declared secret: a key in clear text that must be encrypted, so that it is
    written again; or what is stored as a password's hash, until bcrypt has verified it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Secret.__hash__


def cost_of(hashed: str) -> int | None:
    """Returns the cost of a bcrypt hash, or None if it isn't a bcrypt hash."""
    parts = hashed.split("$")
    known = len(parts) == 4 and parts[1] in ("2a", "2b", "2y") and parts[2].isdecimal()  # noqa: PLR2004
    return int(parts[2]) if known else None


class Unusable(Secret):
    """Stored in place of a password's hash so that nobody can log in: no bcrypt hash begins like that."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("!")


def is_unusable(stored: object) -> bool:
    """Whether a stored password is the one that fivrec stores to lock an account."""
    return isinstance(stored, Secret) and stored.reveal() == Unusable().reveal()


def _as_bytes(value: str) -> bytes:
    """Bytes from the environment that aren't UTF-8 are lone surrogates in a str: these must compare too."""
    return value.encode("utf-8", "surrogatepass")
