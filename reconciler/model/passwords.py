"""Which passwords may be stored. Pure; no reason repeats the password."""

from __future__ import annotations

import unicodedata

from reconciler.model.secret import Secret
from reconciler.model.types import SURROGATES

MAX_BYTES = 72
"""How much bcrypt reads of a password; a longer one is refused, never cut."""

MIN_LENGTH = 8
"""Of a new administrator's password, in characters."""


def unusable(password: Secret) -> str | None:
    """Returns why bcrypt can't take this password, without quoting it; None if it can."""
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


def unfit(password: Secret) -> str | None:
    """Returns why this must not become an administrator's password (nobody could type it, or anybody guess it), or
    None."""
    value = password.reveal()
    if reason := unusable(password):
        return reason
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in value):
        return "the password holds a control character, such as a line break at its end"
    if value != value.strip() or any(unicodedata.category(end) == "Cf" for end in (value[0], value[-1])):
        return "the password begins or ends with white space or an invisible character"
    if len(value) < MIN_LENGTH:
        return f"the password has fewer than {MIN_LENGTH} characters"
    return None
