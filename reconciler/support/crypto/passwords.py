"""Hash and verify passwords with bcrypt, as the app stores them. Takes CPU for long: callers run it in threads."""

from __future__ import annotations

import bcrypt

from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret
from reconciler.model.types import SURROGATES

MAX_BYTES = 72
"""What bcrypt reads of a password; a longer one is refused, never cut."""

DEFAULT_COST = 12


def unusable(password: Secret) -> str | None:
    """Why bcrypt can't take this password, in words that do not hold it; None where it can."""
    value = password.reveal()
    if not value:
        return "the password is empty"
    if "\0" in value:
        return "the password holds a NUL character"
    if SURROGATES.search(value):
        return "the password is not valid Unicode text"
    if len(value.encode()) > MAX_BYTES:
        return f"the password is longer than {MAX_BYTES} bytes, which bcrypt can't hold"
    return None


def check_password(password: Secret, where: str) -> Secret:
    """The password itself. MissingSetting, naming `where` it came from, if bcrypt can't take it."""
    reason = unusable(password)
    if reason is not None:
        raise MissingSetting(f"{where}: {reason}", hint="choose another one")
    return password


def hash_password(password: Secret, cost: int = DEFAULT_COST) -> str:
    """A `$2b$` hash. ValueError where the password is `unusable`."""
    reason = unusable(password)
    if reason is not None:
        raise ValueError(reason)
    return bcrypt.hashpw(password.reveal().encode(), bcrypt.gensalt(cost)).decode()


def verify(password: Secret, hashed: str) -> bool:
    """Whether the hash ($2a$, $2b$, $2y$) is this password's. A malformed hash is nobody's."""
    if unusable(password) is not None:
        return False
    try:
        return bcrypt.checkpw(password.reveal().encode(), hashed.encode())
    except ValueError:
        return False


def read_cost(hashed: str) -> int | None:
    """The cost that a hash was made with; None where it is not a bcrypt hash."""
    parts = hashed.split("$")
    known = len(parts) == 4 and parts[1] in ("2a", "2b", "2y") and parts[2].isdigit()  # noqa: PLR2004
    return int(parts[2]) if known else None
