"""Hash and verify passwords with bcrypt, as the app stores them. Takes CPU for long: callers run it in threads."""

from __future__ import annotations

import bcrypt

from reconciler.model.errors import MissingSetting
from reconciler.model.passwords import unfit, unusable
from reconciler.model.secret import Secret

DEFAULT_COST = 12


def check_password(password: Secret, where: str) -> Secret:
    """The password itself. MissingSetting, naming `where` it came from, if it must not be stored."""
    reason = unfit(password)
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
