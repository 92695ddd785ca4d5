"""Run bcrypt outside of transactions: none stays open, and no lock is held, while a password is hashed or verified.

One hash takes a quarter of a second of CPU, and many seconds when other instances are queued before it: longer than the
server lets a transaction stay idle. A transaction asks `Passwords` for what it needs. If the answer is not known yet,
the transaction ends (`NeedsBcrypt`), the hash is computed, and the transaction begins again (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import cache
from typing import TypeVar

from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import BCRYPT_MOST_COST

T = TypeVar("T")


class NeedsBcrypt(Exception):
    """Raised when bcrypt has to run first; `answer` runs it in a thread."""

    def __init__(self, answer: Callable[[], None]) -> None:
        super().__init__("bcrypt was not asked yet")
        self.answer = answer


@dataclass(slots=True)
class Passwords:
    """The results of bcrypt in one instance's run. Never shared: two instances with one password get two salts."""

    _verified: dict[tuple[Secret, str], bool] = field(default_factory=dict)
    _hashed: dict[tuple[Secret, int], str] = field(default_factory=dict)
    most_cost: int = BCRYPT_MOST_COST

    def verified(self, password: Secret, stored: str) -> bool:
        """Whether the stored hash matches this password. Raises NeedsBcrypt if that is not known yet."""
        known = self._verified.get((password, stored))
        if known is None:
            raise NeedsBcrypt(lambda: self._verify(password, stored))
        return known

    def hashed(self, password: Secret, cost: int) -> str:
        """Returns the hash of the password, the same one at every call. Raises NeedsBcrypt if it is not computed
        yet."""
        known = self._hashed.get((password, cost))
        if known is None:
            raise NeedsBcrypt(lambda: self._hash(password, cost))
        return known

    def only_known(self) -> Passwords:
        """The same results for a transaction that has written and may not be restarted: a hash that this run neither
        wrote nor verified counts as not matching."""
        return _OnlyKnown(self._verified, self._hashed)

    def _verify(self, password: Secret, stored: str) -> None:
        from reconciler.support.crypto.passwords import verify

        self._verified[password, stored] = verify(password, stored, self.most_cost)

    def _hash(self, password: Secret, cost: int) -> None:
        from reconciler.support.crypto.passwords import hash_password

        made = hash_password(password, cost)
        self._hashed[password, cost] = made
        self._verified[password, made] = True


class _OnlyKnown(Passwords):
    __slots__ = ()

    def verified(self, password: Secret, stored: str) -> bool:
        return self._verified.get((password, stored), False)


async def with_bcrypt(once: Callable[[], Awaitable[T]], *, pause: Callable[[], Awaitable[None]]) -> T:
    """Run `once` repeatedly until bcrypt has answered everything that it needs. `pause` ends the open transaction
    before each wait."""
    while True:
        try:
            return await once()
        except NeedsBcrypt as question:
            answer = question.answer
        await pause()
        await asyncio.get_running_loop().run_in_executor(_threads(), answer)


async def in_slot(work: Callable[[], T]) -> T:
    """Run `work` in one of the hashing threads."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """One thread per core: more would only take turns. The pool is not shared, so that no other threaded work waits for
    hashes."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="fivrec-bcrypt")
