"""bcrypt beside transactions: none stays open, and no lock is held, while a password is hashed or verified.

It takes a quarter of a second of CPU, and behind those of other instances many seconds: longer than the server lets a
transaction stand idle. What a transaction needs is asked of `Passwords`; what is not known yet ends it (`NeedsBcrypt`),
is worked out with nothing open, and the transaction begins again (docs/decisions/0008).
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
    """bcrypt has to be asked first; `answer` does, in a thread of its own."""

    def __init__(self, answer: Callable[[], None]) -> None:
        super().__init__("bcrypt was not asked yet")
        self.answer = answer


@dataclass(slots=True)
class Passwords:
    """What bcrypt said in one instance's run. Never shared: two instances with one password get two salts."""

    _verified: dict[tuple[Secret, str], bool] = field(default_factory=dict)
    _hashed: dict[tuple[Secret, int], str] = field(default_factory=dict)
    most_cost: int = BCRYPT_MOST_COST

    def verified(self, password: Secret, stored: str) -> bool:
        """Whether the stored hash is this password's. NeedsBcrypt."""
        known = self._verified.get((password, stored))
        if known is None:
            raise NeedsBcrypt(lambda: self._verify(password, stored))
        return known

    def hashed(self, password: Secret, cost: int) -> str:
        """One hash of the password, the same at every asking. NeedsBcrypt."""
        known = self._hashed.get((password, cost))
        if known is None:
            raise NeedsBcrypt(lambda: self._hash(password, cost))
        return known

    def only_known(self) -> Passwords:
        """The same answers where nothing may be asked, as in a transaction that wrote: a hash that was neither written
        nor verified by this run is nobody's."""
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
    """`once`, again until bcrypt has answered all that it asks. `pause` ends what it had begun."""
    while True:
        try:
            return await once()
        except NeedsBcrypt as question:
            answer = question.answer
        await pause()
        await asyncio.get_running_loop().run_in_executor(_threads(), answer)


async def in_slot(work: Callable[[], T]) -> T:
    """`work` in one of the hashing threads."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """One a core: more would only take turns. Nobody else's: what else runs in threads must not wait for them."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="fivrec-bcrypt")
