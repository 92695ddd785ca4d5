"""Hash and verify passwords with bcrypt, as the app stores them. Needs much CPU time: callers run it in threads."""

from __future__ import annotations

import bcrypt

from reconciler.model.errors import MissingSetting
from reconciler.model.passwords import unfit, unusable
from reconciler.model.secret import Secret, cost_of
from reconciler.model.types import BCRYPT_MOST_COST


def check_password(password: Secret, where: str) -> Secret:
    """Returns the password itself. Raises MissingSetting, naming `where` it came from, if it must not be stored."""
    reason = unfit(password)
    if reason is not None:
        raise MissingSetting(f"{where}: {reason}", hint="choose another one")
    return password


def hash_password(password: Secret, cost: int) -> str:
    """Returns a `$2b$` hash. Raises ValueError if the password is `unusable`."""
    reason = unusable(password)
    if reason is not None:
        raise ValueError(reason)
    return bcrypt.hashpw(password.reveal().encode(), bcrypt.gensalt(cost)).decode()


def verify(password: Secret, hashed: str, most_cost: int = BCRYPT_MOST_COST) -> bool:
    """Whether the hash ($2a$, $2b$, $2y$) is this password's. A malformed hash never is; one with a higher cost than
    `most_cost` is not tried."""
    if unusable(password) is not None or (cost_of(hashed) or 0) > most_cost:
        return False
    try:
        return bcrypt.checkpw(password.reveal().encode(), hashed.encode())
    except ValueError:
        return False
