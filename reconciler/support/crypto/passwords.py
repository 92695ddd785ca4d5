"""Hash and verify passwords with bcrypt, as the app stores them. Takes CPU for long: callers run it in threads."""

from __future__ import annotations

import bcrypt

from reconciler.model.errors import MissingSetting
from reconciler.model.secret import Secret, cost_of
from reconciler.model.types import BCRYPT_MOST_COST, SURROGATES

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


def verify(password: Secret, hashed: str, most_cost: int = BCRYPT_MOST_COST) -> bool:
    """Whether the hash ($2a$, $2b$, $2y$) is this password's. A malformed hash is nobody's; one of more than
    `most_cost` is not tried."""
    if unusable(password) is not None or (cost_of(hashed) or 0) > most_cost:
        return False
    try:
        return bcrypt.checkpw(password.reveal().encode(), hashed.encode())
    except ValueError:
        return False
